//! Whole processes under the load of a context broker: a bare hyper server, a
//! plain file behind the same server, and the gateway itself.
//!
//! Absolute rates say more about the machine than about the gateway. The two
//! reference servers turn them into ratios: `bare` is what HTTP alone costs,
//! `file` what durable HTTP costs at least.
//!
//! ```text
//! cargo bench --bench whole_process -- --seconds 3 --rounds 3 --check
//! ```

// Counts become rates here: none comes near the 2^53 where f64 loses a unit.
#![allow(clippy::cast_precision_loss)]

mod args;
mod checks;
mod image;
mod load;
// Of its two ways to get an image one is for the tests.
#[allow(dead_code)]
#[path = "../../tests/common/image.rs"]
mod loop_device;
mod meter;
mod notification;
mod process;
mod report;
mod servers;
mod summary;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use crate::args::Args;
use crate::summary::{Phase, Summary};
use crate::target::Target;

fn main() -> anyhow::Result<ExitCode> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(kind) = given.first().and_then(|first| servers::Kind::from_argument(first)) {
        servers::run(kind)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Only `cargo bench` passes `--bench`. `cargo test --benches` passes
    // nothing, nextest `--list`: neither may start a load.
    let has = |flag: &str| given.iter().any(|argument| argument == flag);
    if !has("--bench") || has("--test") || has("--list") {
        return Ok(ExitCode::SUCCESS);
    }

    let args = Args::parse();
    let summary = Summary::new(measure(&args)?);
    let checks = if args.check { checks::run(&summary) } else { Vec::new() };
    if args.json {
        report::json(&summary, &checks)?;
    } else {
        report::table(&summary, &checks);
    }
    let failed = checks.iter().any(|check| !check.passed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs every phase. The targets take turns within a round, next to each other
/// in time, so that a noisy minute of the machine falls on all of them.
fn measure(args: &Args) -> anyhow::Result<Vec<Phase>> {
    // One thread: the client shares the cores with the server, and a
    // work-stealing runtime would only add wake-ups that it pays for.
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut phases = Vec::new();
    for round in 0..args.rounds {
        for &connections in &args.connections {
            for target in args.targets() {
                let name = target.name().to_owned();
                eprintln!("round {round}: {name}, {connections} connections");
                let phase = client
                    .block_on(phase(args, &target, connections))
                    .with_context(|| format!("{name} with {connections} connections"))?;
                phases.push(Phase { round, connections, target: name, ..phase });
            }
        }
    }
    Ok(phases)
}

async fn phase(args: &Args, target: &Target, connections: usize) -> anyhow::Result<Phase> {
    // Started anew for every phase: no phase pays for what an earlier one left.
    let server = target.start(args.device)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let idle = server.meter.read()?;
    let load = load::Load {
        address: server.address,
        paths: server.paths(args.streams),
        connections,
        warm_up: Duration::from_secs_f64(args.warm_up),
        measured: Duration::from_secs_f64(args.seconds),
    };
    let outcome = load.run(&server.meter).await?;
    Ok(Phase::new(&idle, outcome))
}
