//! What is to be seen: a picture redrawn in place on a terminal, a line each
//! second elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::Scene;
use crate::ledger::{Figures, Ledger};

const FRAME: Duration = Duration::from_millis(100);
const FRAMES_A_SECOND: u64 = 10;
const BAR: u64 = 40;
const HISTORY: usize = 60;

pub struct View {
    total: Duration,
    ledger: Arc<Ledger>,
    scene: watch::Receiver<Scene>,
    begun: Instant,
    client: Option<reqwest::Client>,
    on_terminal: bool,
    colours: bool,
    /// Lines of the last frame, to be drawn over.
    drawn: usize,
    frames: u64,
    /// Figures of a second ago, for the rates.
    before: Figures,
    rates: [u64; 3],
    gateway: Measured,
    /// Backlog and waiting write-backs, over time.
    history: [Vec<u64>; 2],
    largest: u64,
}

/// What is read of the gateway once a second.
#[derive(Default)]
struct Measured {
    memory: u64,
    on_disk: u64,
}

impl View {
    /// `largest` is the backlog to be expected: what the bars are drawn against.
    pub fn new(
        total: Duration,
        largest: u64,
        ledger: Arc<Ledger>,
        scene: watch::Receiver<Scene>,
    ) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(500));
        let on_terminal = stdout().is_terminal();
        Self {
            total,
            ledger,
            scene,
            begun: Instant::now(),
            client: client.build().ok(),
            on_terminal,
            colours: on_terminal && std::env::var_os("NO_COLOR").is_none(),
            drawn: 0,
            frames: 0,
            before: Figures::default(),
            rates: [0; 3],
            gateway: Measured::default(),
            history: [Vec::new(), Vec::new()],
            largest: largest.max(1),
        }
    }

    /// Draws until it is dropped.
    pub async fn run(&mut self) {
        if self.on_terminal {
            // The cursor would flicker through the picture.
            print!("\x1b[?25l");
        } else {
            println!("ngsi-ferry: an outage in {} seconds", self.total.as_secs());
        }
        let mut frames = interval(FRAME);
        loop {
            frames.tick().await;
            self.frame().await;
        }
    }

    /// The last look, and the cursor back.
    pub fn last(&mut self) {
        let figures = self.ledger.figures();
        self.draw(&figures);
        if self.on_terminal {
            print!("\x1b[?25h");
        }
        println!();
    }

    async fn frame(&mut self) {
        let figures = self.ledger.figures();
        let is_second = self.frames.is_multiple_of(FRAMES_A_SECOND);
        if is_second {
            self.rates = [
                figures.acknowledged - self.before.acknowledged,
                figures.delivered - self.before.delivered,
                figures.applied - self.before.applied,
            ];
            self.before = figures;
            self.measure().await;
        }
        // One column for each sixtieth of the time.
        let column = self.total / u32::try_from(HISTORY).unwrap_or(1);
        let columns = self.begun.elapsed().div_duration_f64(column);
        let [backlog, waiting] = &mut self.history;
        #[expect(clippy::cast_precision_loss, reason = "there are sixty")]
        if backlog.len() < HISTORY && backlog.len() as f64 <= columns {
            backlog.push(figures.backlog);
            waiting.push(figures.waiting());
        }
        self.largest = self.largest.max(figures.backlog).max(figures.waiting());
        self.frames += 1;
        if self.on_terminal {
            self.draw(&figures);
        } else if is_second {
            self.print_line(&figures);
        }
    }

    async fn measure(&mut self) {
        let (pid, admin) = {
            let scene = self.scene.borrow();
            (scene.gateway, scene.admin)
        };
        self.gateway.memory = pid.and_then(memory).unwrap_or(0);
        let (Some(client), Some(admin), Some(_)) = (&self.client, admin, pid) else { return };
        let Ok(answer) = client.get(format!("http://{admin}/status")).send().await else { return };
        let Ok(body) = answer.bytes().await else { return };
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let streams = status["streams"].as_array().into_iter().flatten();
        let streams: u64 = streams.filter_map(|stream| stream["bytes"].as_u64()).sum();
        self.gateway.on_disk = streams + status["write_backs"]["bytes"].as_u64().unwrap_or(0);
    }

    fn print_line(&self, figures: &Figures) {
        let scene = self.scene.borrow();
        println!(
            "{:>4}  backlog {:>6}  waiting for Orion {:>6}  in {:>4}/s  out {:>4}/s  applied {:>4}/s  {:>9}  {}",
            clock(self.begun.elapsed()),
            figures.backlog,
            figures.waiting(),
            self.rates[0],
            self.rates[1],
            self.rates[2],
            bytes(self.gateway.memory),
            scene.what,
        );
    }

    fn draw(&mut self, figures: &Figures) {
        if !self.on_terminal {
            return;
        }
        let scene = self.scene.borrow().clone();
        let mut lines = vec![
            format!(
                "{}  an outage in {} seconds{:>30}",
                self.bold("ngsi-ferry"),
                self.total.as_secs(),
                clock(self.begun.elapsed())
            ),
            String::new(),
        ];
        lines.extend(self.picture(&scene));
        let [stored, delivered, applied] = self.rates;
        let Measured { memory, on_disk } = self.gateway;
        lines.extend([
            String::new(),
            format!("  {}", self.bold(scene.what)),
            String::new(),
            format!(
                "  for Spark  {} {:>6} records",
                self.bar(figures.backlog, "33"),
                figures.backlog
            ),
            format!(
                "  for Orion  {} {:>6} writes",
                self.bar(figures.waiting(), "36"),
                figures.waiting()
            ),
            String::new(),
            format!(
                "  stored {stored:>5}/s    delivered {delivered:>5}/s    applied {applied:>5}/s"
            ),
            format!("  the gateway's memory {:>9}    on disk {:>9}", bytes(memory), bytes(on_disk)),
            String::new(),
            format!(
                "  for Spark  {}",
                self.colour("33", &spark_line(&self.history[0], self.largest))
            ),
            format!(
                "  for Orion  {}",
                self.colour("36", &spark_line(&self.history[1], self.largest))
            ),
            format!("  {:>9}  {:<30}{:>30}", "time", "0:00", clock(self.total)),
        ]);
        let mut frame = String::new();
        if self.drawn > 0 {
            let _ = write!(frame, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = write!(frame, "\r{line}\x1b[K\n");
        }
        self.drawn = lines.len();
        // A terminal that went away is no reason to stop counting.
        let _ = stdout().write_all(frame.as_bytes()).and_then(|()| stdout().flush());
    }

    fn picture(&self, scene: &Scene) -> [String; 2] {
        let way = |is_up: bool, there: &str, back: &str| {
            if is_up {
                (self.colour("32", there), self.colour("32", back))
            } else {
                let cut = self.colour("31", "╌╌╌ ✕ ╌╌╌");
                (cut.clone(), cut)
            }
        };
        let gateway_up = scene.gateway.is_some();
        let (notify, apply) = way(scene.orion_up && gateway_up, "━━━━━━━━▶", "◀━━━━━━━━");
        let (read, write) = way(scene.line_up && gateway_up, "━━━TLS━━▶", "◀━━TLS━━━");
        let name = |is_up: bool, name: &str| {
            if is_up { self.bold(name) } else { self.colour("31", name) }
        };
        let orion = name(scene.orion_up, "Orion");
        let gateway = name(gateway_up, "gateway");
        [
            format!("  {orion}  {notify}  {gateway}  {read}  {}", self.bold("Spark")),
            format!("         {apply}           {write}"),
        ]
    }

    fn bar(&self, value: u64, colour: &str) -> String {
        let full = (value * BAR).div_ceil(self.largest).min(BAR);
        let cells = |cell: &str, count: u64| cell.repeat(usize::try_from(count).unwrap_or(0));
        self.colour(colour, &cells("█", full)) + &cells("░", BAR - full)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.colour("1", text)
    }
}

fn spark_line(values: &[u64], largest: u64) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: &u64| usize::try_from((value * 8).div_ceil(largest)).unwrap_or(8).min(8);
    values.iter().map(|value| LEVELS[level(value)]).collect()
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn bytes(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { bytesize::ByteSize(bytes).display().iec().to_string() }
}

/// Resident memory of a process.
fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The end: what was promised, and what came of it.
pub fn ledger(figures: &Figures, restart: Duration, ended: ExitStatus) -> String {
    let mut text = String::from("The ledger, as Orion and Spark counted\n");
    let mut row = |what: &str, count: u64, note: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", format!("  {what:<34}{count:>8}   {note}").trim_end());
    };
    row("notifications sent", figures.sent, "");
    row("  stored (answered 204)", figures.acknowledged, "");
    row(
        "  found nobody listening",
        figures.not_taken,
        "while the gateway was dead: Orion does not resend",
    );
    let stored = match figures.unanswered_but_stored {
        0 => "under way when it was killed".to_owned(),
        stored => format!("under way when it was killed; {stored} of them were stored"),
    };
    row("  without an answer", figures.unanswered + figures.open, &stored);
    row("delivered to Spark", figures.delivered, "");
    row("written back by Spark", figures.written_back, "");
    let again = match figures.applied_again {
        0 => String::new(),
        again => format!("{again} of them twice in a row after the kill: the same value again"),
    };
    row("applied by Orion", figures.applied, &again);
    row("lost", figures.lost(), "stored and not delivered, or written back and not applied");
    row("duplicates", figures.delivered_twice, "delivered to Spark more than once");
    row("out of order", figures.out_of_order, "write-backs of an entity");
    if figures.strangers > 0 {
        row("never sent", figures.strangers, "arrived, and nobody had sent them");
    }
    let _ = writeln!(
        text,
        "Killed, the gateway was back after {} ms; told to stop, it ended with {ended}.",
        restart.as_millis()
    );
    text
}
