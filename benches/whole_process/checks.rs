//! The thresholds that the gateway has to keep.

use serde::Serialize;

use crate::summary::{Phase, Summary};

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Serialize)]
pub struct Check {
    pub what: String,
    /// None where the run did not measure it: that is no pass.
    pub measured: Option<f64>,
    pub limit: String,
    pub passed: bool,
}

pub fn run(summary: &Summary) -> Vec<Check> {
    use Limit::{AtLeast, AtMost};

    let ratio = |connections| summary.ratio(connections, "gateway");
    let median = |connections| summary.median(connections, "gateway");
    let mine = || summary.phases.iter().filter(|phase| phase.target == "gateway");
    let errors = mine().flat_map(|phase| phase.errors.values()).sum::<u64>() as f64;
    // Its largest start counts: one that is small now and then is not small.
    let idle = mine().map(|phase| phase.idle_rss_mib).max_by(f64::total_cmp);

    let mut checks = vec![
        check(
            "64 connections: rate, of the plain file's",
            ratio(64).and_then(|ratio| ratio.rate_of_file),
            AtLeast(0.9),
        ),
        check(
            "512 connections: rate, of the bare server's",
            ratio(512).and_then(|ratio| ratio.rate_of_bare),
            AtLeast(0.7),
        ),
        check(
            "64 connections: CPU per notification, of the bare server's",
            ratio(64).and_then(|ratio| ratio.cpu_of_bare),
            AtMost(2.2),
        ),
        check(
            "512 connections: CPU per notification, of the bare server's",
            ratio(512).and_then(|ratio| ratio.cpu_of_bare),
            AtMost(2.2),
        ),
        check(
            "1 connection: p50 latency, of the plain file's",
            ratio(1).and_then(|ratio| ratio.p50_of_file),
            AtMost(1.5),
        ),
        check(
            "64 connections: bytes written per payload byte",
            median(64).and_then(Phase::written_per_payload),
            AtMost(0.6),
        ),
        check(
            "1 connection: bytes written per commit",
            median(1).and_then(|phase| phase.written_each),
            AtMost(8.0 * 1024.0),
        ),
        check("idle RSS in MiB", idle, AtMost(12.0)),
        check("answers other than 204", idle.map(|_| errors), AtMost(0.0)),
    ];
    if mine().any(|phase| phase.device_each.is_some()) {
        checks.push(check(
            "64 connections: bytes to the device per payload byte",
            median(64).and_then(Phase::device_per_payload),
            AtMost(0.5),
        ));
        checks.push(check(
            "1 connection: bytes to the device, of the plain file's",
            ratio(1).and_then(|ratio| ratio.device_of_file),
            AtMost(1.3),
        ));
    }
    checks
}

fn check(what: &str, measured: Option<f64>, limit: Limit) -> Check {
    // NaN (nothing was answered) compares false, and so does not pass.
    let passed = measured.is_some_and(|measured| match limit {
        Limit::AtLeast(least) => measured >= least,
        Limit::AtMost(most) => measured <= most,
    });
    let limit = match limit {
        Limit::AtLeast(least) => format!("≥ {least}"),
        Limit::AtMost(most) => format!("≤ {most}"),
    };
    Check { what: what.to_owned(), measured, limit, passed }
}
