//! The table, and what is promised.

use std::time::Duration;

use crate::consumer::Drained;
use crate::disk::Usage;

const MOST_RSS: u64 = 40_000_000;
const READY_WITHIN: Duration = Duration::from_secs(2);
const LIVE_WITHIN: Duration = Duration::from_secs(1);
const MOST_SEGMENTS: usize = 2;

/// One phase.
pub struct Row {
    pub what: &'static str,
    pub took: Duration,
    pub rss_kib: u64,
    /// The gateway's highest in the phase; `None` where it is not the gateway.
    pub peak_kib: Option<u64>,
    pub on_disk: u64,
    pub note: String,
}

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    slowest_start: Duration,
    /// What is promised, as it is, and whether that holds.
    checks: Vec<(String, bool)>,
}

impl Report {
    pub fn row(&mut self, row: Row) {
        eprintln!("  {} in {:.1?}; {}", row.what, row.took, row.note);
        self.rows.push(row);
    }

    pub fn started(&mut self, took: Duration) {
        self.slowest_start = self.slowest_start.max(took);
    }

    /// The drain without live priority.
    pub fn strict(&mut self, drained: &Drained, stored: u64) {
        let order = drained.in_strict_order;
        self.check(format!("live priority off: strict order: {order}"), order);
        self.all_came(drained, stored);
    }

    /// The drain with it.
    pub fn live_first(&mut self, drained: &Drained, stored: u64) {
        self.all_came(drained, stored);
        let p99 = percentile(&drained.latencies, 0.99);
        let holds = p99.is_some_and(|p99| p99 < LIVE_WITHIN);
        self.check(format!("live record at the consumer, p99: {p99:.0?}, under 1 s"), holds);
    }

    fn all_came(&mut self, drained: &Drained, stored: u64) {
        let expected = stored + drained.sent;
        let came = drained.records;
        self.check(format!("every record once: {came} of {expected}"), came == expected);
    }

    pub fn left(&mut self, left: Usage, rss_kib: u64) {
        let (kb, segments) = (left.bytes / 1000, left.segments);
        let text = format!("left after draining: {segments} segments of the stream, {kb} kB");
        self.check(text, segments <= MOST_SEGMENTS);
        eprintln!("  {rss_kib} KiB resident at the end");
    }

    fn check(&mut self, text: String, holds: bool) {
        self.checks.push((text, holds));
    }

    pub fn missed(&self) -> bool {
        self.all_checks().iter().any(|(_, holds)| !holds)
    }

    fn all_checks(&self) -> Vec<(String, bool)> {
        let peak = self.rows.iter().filter_map(|row| row.peak_kib).max().unwrap_or(0) * 1024;
        let start = self.slowest_start;
        let mut all = vec![
            (format!("resident, peak: {:.1} MB, under 40", peak as f64 / 1e6), peak < MOST_RSS),
            (format!("ready, slowest: {start:.0?}, under 2 s"), start < READY_WITHIN),
        ];
        all.extend(self.checks.iter().cloned());
        all
    }

    pub fn print(&self) {
        println!("| Phase | Time | Resident | Peak | On the disk | |");
        println!("|---|---|---|---|---|---|");
        for row in &self.rows {
            let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            let peak = row.peak_kib.map_or_else(|| "not counted".to_owned(), mib);
            println!(
                "| {} | {:.2?} | {} | {peak} | {:.0} MB | {} |",
                row.what,
                row.took,
                mib(row.rss_kib),
                row.on_disk as f64 / 1e6,
                row.note
            );
        }
        println!();
        for (text, holds) in self.all_checks() {
            println!("{} {text}", if holds { "ok    " } else { "MISSED" });
        }
    }
}

pub fn latencies(all: &[Duration]) -> String {
    let at = |part| percentile(all, part).map_or("none".to_owned(), |value| format!("{value:.0?}"));
    format!("{} records, p50 {}, p99 {}, slowest {}", all.len(), at(0.5), at(0.99), at(1.0))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn percentile(all: &[Duration], part: f64) -> Option<Duration> {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * part).ceil() as usize])
}
