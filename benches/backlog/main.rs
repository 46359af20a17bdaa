//! Days of outage in minutes: a backlog of gigabytes, or of millions of small
//! records, is built, started upon, and drained while live records come.
//!
//! ```text
//! cargo bench --bench backlog -- --gib 5 --check
//! cargo bench --bench backlog -- --records 10000000 --check
//! ```
//!
//! It is the real program, with its data under `target/`, where it is deleted
//! at the end. With `--gib` everything comes through the intake, in bodies
//! that do not compress, so that bytes on the disk are bytes. With `--records`
//! the library fills the store, as fast as it can.

// Counts become rates here: none comes near the 2^53 where f64 loses a unit.
#![allow(clippy::cast_precision_loss)]

mod args;
mod consumer;
mod disk;
mod fill;
mod live;
mod report;

#[path = "../../tests/common/mod.rs"]
mod common;
// The other benchmark reads more of it.
#[allow(dead_code)]
#[path = "../whole_process/process.rs"]
mod process;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;

use crate::args::Args;
use crate::common::gateway::{Gateway, Setup};
use crate::consumer::{Consumer, Drained};
use crate::report::{Report, Row};

fn main() -> anyhow::Result<ExitCode> {
    // As whole_process: only `cargo bench` may start a load.
    let given: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| given.iter().any(|argument| argument == flag);
    if !has("--bench") || has("--test") || has("--list") {
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&args))?;
    report.print();
    let failed = args.check && report.missed();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(args: &Args) -> anyhow::Result<Report> {
    let setup = Setup::new().set("STORE__MAX_BYTES", "1TiB");
    disk::ensure_room(setup.folder(), args.needs())?;
    let mut report = Report::default();

    eprintln!("building");
    let (gateway, stored) = build(args, setup, &mut report).await?;

    eprintln!("starting on it");
    let setup = gateway.kill().await;
    let gateway = start(setup, "start after kill -9", &mut report).await?;
    let (setup, ended) = gateway.stop().await;
    ensure!(ended.success(), "{ended}");
    // What is drained first is not acknowledged: it is drained twice.
    let setup = setup.set("SPARK__LIVE_SHARE", "0");
    let gateway = start(setup, "start after a clean end", &mut report).await?;

    eprintln!("draining in strict order");
    let mut consumer = Consumer::of(&gateway);
    let strict = drain(&gateway, &mut consumer, "drained in strict order", &mut report).await?;
    report.strict(&strict, stored);
    let (setup, ended) = gateway.stop().await;
    ensure!(ended.success(), "{ended}");

    eprintln!("draining with live records first");
    let gateway = setup.set("SPARK__LIVE_SHARE", "0.25").start().await;
    let mut consumer = Consumer::of(&gateway).acknowledging();
    let live = drain(&gateway, &mut consumer, "drained, live first", &mut report).await?;
    report.live_first(&live, stored + strict.sent);
    let left = disk::settled(&gateway.setup().data_dir()).await?;
    report.left(left, process::read(gateway.pid())?.rss_kib);
    Ok(report)
}

/// Builds the backlog; answers with how many records it holds.
async fn build(args: &Args, setup: Setup, report: &mut Report) -> anyhow::Result<(Gateway, u64)> {
    if let Some(records) = args.records {
        let begun = Instant::now();
        fill::through_the_library(&setup.data_dir(), records).await?;
        let own = process::read(std::process::id())?;
        let on_disk = disk::usage(&setup.data_dir())?.bytes;
        // The peak is this program's, with its lines: no promise of the gateway.
        report.row(Row {
            what: "built by the library (own memory)",
            took: begun.elapsed(),
            rss_kib: own.rss_kib,
            peak_kib: None,
            on_disk,
            note: format!("{records} records"),
        });
        return Ok((start(setup, "start after building", report).await?, records));
    }
    let gateway = setup.start().await;
    let (begun, target) = (Instant::now(), args.bytes());
    let stored = fill::through_the_intake(&gateway, target).await?;
    let note = format!("{stored} notifications of {} B", fill::BODY_LEN);
    report.row(row(&gateway, "built through the intake", begun.elapsed(), note)?);
    Ok((gateway, stored))
}

async fn start(setup: Setup, what: &'static str, report: &mut Report) -> anyhow::Result<Gateway> {
    let begun = Instant::now();
    let gateway = setup.start().await;
    let took = begun.elapsed();
    report.started(took);
    report.row(row(&gateway, what, took, "ready".to_owned())?);
    Ok(gateway)
}

async fn drain(
    gateway: &Gateway,
    consumer: &mut Consumer,
    what: &'static str,
    report: &mut Report,
) -> anyhow::Result<Drained> {
    // Peaks of the phase, not of what was before.
    std::fs::write(format!("/proc/{}/clear_refs", gateway.pid()), "5").context("clear_refs")?;
    let begun = Instant::now();
    let drained = consumer.drain(gateway, begun).await?;
    let mb = drained.bytes as f64 / 1e6;
    let note = format!(
        "{} records, {mb:.0} MB on the line, {:.0} MB/s; live: {}",
        drained.records,
        mb / drained.took.as_secs_f64(),
        report::latencies(&drained.latencies)
    );
    report.row(row(gateway, what, drained.took, note)?);
    Ok(drained)
}

fn row(gateway: &Gateway, what: &'static str, took: Duration, note: String) -> anyhow::Result<Row> {
    let reading = process::read(gateway.pid())?;
    let on_disk = disk::usage(&gateway.setup().data_dir())?.bytes;
    let (rss_kib, peak_kib) = (reading.rss_kib, Some(reading.peak_rss_kib));
    Ok(Row { what, took, rss_kib, peak_kib, on_disk, note })
}
