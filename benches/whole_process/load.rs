//! The closed-loop client: every connection sends one notification, waits for
//! its answer, and sends the next, as Orion's notification threads do.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::meter::Meter;
use crate::notification::Notification;
use crate::process::{self, Reading};

pub struct Load {
    pub address: SocketAddr,
    pub paths: Vec<String>,
    pub connections: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What was seen within the measured time.
pub struct Outcome {
    pub elapsed: Duration,
    pub server: (Reading, Reading),
    pub client: (Reading, Reading),
    pub tally: Tally,
}

#[derive(Default)]
pub struct Tally {
    /// Microseconds of each 204, exact: a few megabytes for the longest run.
    pub latencies: Vec<u32>,
    /// Everything that was not a 204, warm-up included: no error is noise.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    fn error(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
    }
}

#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Load {
    pub async fn run(&self, server: &Meter) -> anyhow::Result<Outcome> {
        let from = Instant::now() + self.warm_up;
        let window = Window { from, until: from + self.measured };
        let workers: Vec<_> = (0..self.connections)
            .map(|index| {
                let address = self.address;
                let host = address.to_string();
                let notifications = (0..self.paths.len())
                    .map(|turn| {
                        // Each starts at another stream, or all would visit
                        // the same one at the same time.
                        let path = &self.paths[(index + turn) % self.paths.len()];
                        let seed = (index * self.paths.len() + turn) as u64;
                        Notification::new(&host, path, seed)
                    })
                    .collect();
                tokio::spawn(worker(address, notifications, window))
            })
            .collect();

        let own = std::process::id();
        tokio::time::sleep_until(window.from.into()).await;
        let begun = Instant::now();
        let before = (server.read()?, process::read(own)?);
        tokio::time::sleep_until(window.until.into()).await;
        let after = (server.read()?, process::read(own)?);
        let elapsed = begun.elapsed();

        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(worker.await?);
        }
        Ok(Outcome { elapsed, server: (before.0, after.0), client: (before.1, after.1), tally })
    }
}

async fn worker(address: SocketAddr, notifications: Vec<Notification>, window: Window) -> Tally {
    let mut tally = Tally::default();
    // One deadline for the whole loop: a timer for each request would cost the
    // client, and a server that stops answering is seen just as well.
    let deadline = window.until + Duration::from_secs(10);
    let work = repeat(address, notifications, window, &mut tally);
    if tokio::time::timeout_at(deadline.into(), work).await.is_err() {
        tally.error("no answer 10 s after the end of the phase");
    }
    tally
}

async fn repeat(
    address: SocketAddr,
    mut notifications: Vec<Notification>,
    window: Window,
    tally: &mut Tally,
) {
    let streams = notifications.len();
    let mut turn = 0;
    while Instant::now() < window.until {
        let mut connection = match TcpStream::connect(address).await {
            Ok(connection) => connection,
            Err(error) => {
                tally.error(format!("connect: {}", error.kind()));
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let _ = connection.set_nodelay(true);
        loop {
            let begun = Instant::now();
            if begun >= window.until {
                return;
            }
            let request = notifications[turn].next();
            turn = (turn + 1) % streams;
            match exchange(&mut connection, request).await {
                Ok(204) => {
                    let ended = Instant::now();
                    if ended >= window.from && ended < window.until {
                        let taken = (ended - begun).as_micros();
                        tally.latencies.push(u32::try_from(taken).unwrap_or(u32::MAX));
                    }
                }
                Ok(status) => tally.error(format!("status {status}")),
                Err(error) => {
                    tally.error(format!("exchange: {}", error.kind()));
                    break;
                }
            }
        }
    }
}

/// One request and its answer; only what tells the answers apart is parsed.
async fn exchange(connection: &mut TcpStream, request: &[u8]) -> io::Result<u16> {
    connection.write_all(request).await?;
    let mut answer = [0; 4096];
    let mut filled = 0;
    loop {
        let read = connection.read(&mut answer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some((status, length)) = parse(&answer[..filled])? {
            // A longer answer cannot be kept: the connection is given up.
            if length > answer.len() {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if filled >= length {
                return Ok(status);
            }
        }
    }
}

/// The status and the length of the whole answer, once its head is there.
fn parse(answer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let head_text = str::from_utf8(&answer[..head]).map_err(|_| invalid())?;
    let status = head_text.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    if status == 204 {
        return Ok(Some((status, head + 4)));
    }
    let body = head_text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    // Without a length (chunked) the rest cannot be told from the next answer.
    body.map(|body: usize| Some((status, head + 4 + body))).ok_or_else(invalid)
}
