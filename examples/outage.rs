//! One minute to see what the gateway is for: the line to Spark is cut, Orion
//! goes away, the gateway itself is killed, and nothing is lost.
//!
//! ```text
//! cargo build --release && cargo run --release --example outage
//! ```
//!
//! The gateway is the real binary, with its data on the disk that `target/` is
//! on. Orion and Spark are small stand-ins in this process: one sends
//! notifications and takes writes, the other reads over mutual TLS in
//! micro-batches and writes back. Every figure of the ledger at the end was
//! counted by them, none by the gateway.

#[path = "outage/gateway.rs"]
mod gateway;
#[path = "outage/ledger.rs"]
mod ledger;
#[path = "outage/line.rs"]
mod line;
#[path = "outage/orion.rs"]
mod orion;
#[path = "outage/spark.rs"]
mod spark;
#[path = "outage/view.rs"]
mod view;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use gateway::Gateway;
use ledger::Ledger;
use line::Line;
use orion::Orion;
use spark::Spark;
use view::View;

/// How long the rest may take to arrive after the last notification.
const PATIENCE: Duration = Duration::from_secs(30);

/// See what the gateway does while everything around it fails.
#[derive(Parser)]
#[command(name = "outage")]
struct Args {
    /// How long it takes, all in all
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(15..=3600))]
    seconds: u32,
    /// Notifications a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=2000))]
    rate: u32,
}

/// What is going on, for the view.
#[derive(Clone)]
pub struct Scene {
    pub what: &'static str,
    pub orion_up: bool,
    pub line_up: bool,
    pub gateway: Option<u32>,
    pub admin: Option<std::net::SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays it all; answers whether everything arrived.
async fn run(args: &Args) -> Result<bool> {
    let ledger = Arc::new(Ledger::default());
    let orion = Orion::new(Arc::clone(&ledger))?;
    let mut gateway = Gateway::new(&orion.url())?;
    gateway.start().await?;
    let line = Line::new().await?;
    let spark = Spark::new(&gateway.pki(), line.address(), Arc::clone(&ledger))?;

    let scene = watch::Sender::new(Scene {
        what: "all is well",
        orion_up: true,
        line_up: true,
        gateway: gateway.pid(),
        admin: gateway.addresses().map(|addresses| addresses.admin),
    });
    let stop = CancellationToken::new();
    tokio::spawn(orion.serve(scene.subscribe()));
    let sending = tokio::spawn(orion::send(
        args.rate,
        gateway.watch(),
        scene.subscribe(),
        Arc::clone(&ledger),
        stop.clone(),
    ));
    tokio::spawn(line.carry(scene.subscribe(), gateway.watch()));
    tokio::spawn(spark.run());

    let total = Duration::from_secs(args.seconds.into());
    // The line is cut for so long while Orion sends.
    let largest = u64::from(args.rate) * u64::from(args.seconds) * 3 / 10;
    let mut view = View::new(total, largest, Arc::clone(&ledger), scene.subscribe());
    let played = async {
        let restart = play(total, &mut gateway, &scene).await?;
        stop.cancel();
        sending.await?;
        scene.send_modify(|scene| scene.what = "Orion sends no more; the rest arrives");
        let deadline = Instant::now() + PATIENCE;
        while !ledger.figures().is_settled() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        let ended = gateway.stop().await?;
        anyhow::Ok((restart, ended))
    };
    let played = tokio::select! {
        played = played => Some(played?),
        () = view.run() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    view.last();
    let Some((restart, ended)) = played else { anyhow::bail!("interrupted") };
    let figures = ledger.figures();
    print!("{}", view::ledger(&figures, restart, ended));
    Ok(figures.is_whole() && ended.success())
}

/// The script. Answers how long the killed gateway took to be back.
async fn play(
    total: Duration,
    gateway: &mut Gateway,
    scene: &watch::Sender<Scene>,
) -> Result<Duration> {
    let begun = Instant::now();
    let at = |part: f64| sleep_until(begun + total.mul_f64(part));

    at(0.10).await;
    scene.send_modify(|scene| {
        scene.line_up = false;
        scene.what = "the line to Spark is cut; Orion goes on sending";
    });
    at(0.40).await;
    scene.send_modify(|scene| {
        scene.orion_up = false;
        scene.what = "Orion goes away too";
    });
    at(0.45).await;
    scene.send_modify(|scene| {
        scene.line_up = true;
        scene.what = "the line is back; Spark catches up and writes back, Orion is away";
    });
    at(0.62).await;
    scene.send_modify(|scene| {
        scene.orion_up = true;
        scene.what = "Orion is back; its write-backs arrive in order";
    });
    // In the middle of it: notifications, reads and write-backs are under way.
    sleep(total.mul_f64(0.01)).await;
    scene.send_modify(|scene| {
        scene.gateway = None;
        scene.what = "kill -9 of the gateway";
    });
    let killed = Instant::now();
    gateway.kill().await?;
    gateway.start().await?;
    let restart = killed.elapsed();
    scene.send_modify(|scene| {
        scene.gateway = gateway.pid();
        scene.admin = gateway.addresses().map(|addresses| addresses.admin);
        scene.what = "the gateway was killed, and is back on what it had stored";
    });
    at(0.78).await;
    scene.send_modify(|scene| scene.what = "all is well again");
    at(0.95).await;
    Ok(restart)
}
