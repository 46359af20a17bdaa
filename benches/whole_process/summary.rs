//! From what was counted to what can be compared.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Outcome;
use crate::notification::BODY_BYTES;
use crate::process::Reading;

/// One target under one number of connections, once.
#[derive(Clone, Default, Serialize)]
pub struct Phase {
    pub round: u32,
    pub connections: usize,
    pub target: String,
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub cpu_us: f64,
    pub client_cpu_us: f64,
    /// How much of one core the client used: near 1 it was the limit.
    pub client_busy: f64,
    pub idle_rss_mib: f64,
    pub rss_mib: f64,
    pub peak_rss_mib: f64,
    pub written_each: Option<f64>,
    pub device_each: Option<f64>,
    pub errors: BTreeMap<String, u64>,
}

impl Phase {
    pub fn new(idle: &Reading, outcome: Outcome) -> Self {
        let mut latencies = outcome.tally.latencies;
        latencies.sort_unstable();
        let quantile = |part: f64| {
            // A quantile's index: never negative, never beyond the end.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (latencies.len() as f64 * part) as usize;
            latencies.get(index).map_or(f64::NAN, |&latency| latency.into())
        };
        let count = latencies.len() as f64;
        let seconds = outcome.elapsed.as_secs_f64();
        let cpu = |(before, after): &(Reading, Reading)| {
            after.cpu.saturating_sub(before.cpu).as_secs_f64()
        };
        let (before, after) = &outcome.server;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let each = |of: fn(&Reading) -> Option<u64>| {
            of(before).zip(of(after)).map(|(before, after)| (after - before) as f64 / count)
        };
        Self {
            rate: count / seconds,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            cpu_us: cpu(&outcome.server) / count * 1e6,
            client_cpu_us: cpu(&outcome.client) / count * 1e6,
            client_busy: cpu(&outcome.client) / seconds,
            idle_rss_mib: mib(idle.rss_kib),
            rss_mib: mib(after.rss_kib),
            peak_rss_mib: mib(after.peak_rss_kib),
            written_each: each(|reading| reading.written),
            device_each: each(|reading| reading.written_to_device),
            errors: outcome.tally.errors,
            ..Self::default()
        }
    }

    pub fn written_per_payload(&self) -> Option<f64> {
        self.written_each.map(|written| written / BODY_BYTES as f64)
    }

    pub fn device_per_payload(&self) -> Option<f64> {
        self.device_each.map(|written| written / BODY_BYTES as f64)
    }
}

/// One target against the reference servers under the same load.
#[derive(Serialize)]
pub struct Ratios {
    pub connections: usize,
    pub target: String,
    pub rate_of_bare: Option<f64>,
    pub rate_of_file: Option<f64>,
    pub cpu_of_bare: Option<f64>,
    pub p50_of_file: Option<f64>,
    pub device_of_file: Option<f64>,
}

#[derive(Serialize)]
pub struct Summary {
    pub phases: Vec<Phase>,
    pub medians: Vec<Phase>,
    pub ratios: Vec<Ratios>,
}

impl Summary {
    pub fn new(phases: Vec<Phase>) -> Self {
        let mut summary = Self { phases, medians: Vec::new(), ratios: Vec::new() };
        let mut seen: Vec<(usize, String)> = Vec::new();
        for phase in &summary.phases {
            let key = (phase.connections, phase.target.clone());
            if !seen.contains(&key) {
                seen.push(key);
            }
        }
        for (connections, target) in seen {
            summary.medians.push(summary.median_phase(connections, &target));
            if target != "bare" {
                summary.ratios.push(summary.ratios(connections, &target));
            }
        }
        summary
    }

    pub fn median(&self, connections: usize, target: &str) -> Option<&Phase> {
        self.medians.iter().find(|phase| phase.connections == connections && phase.target == target)
    }

    pub fn ratio(&self, connections: usize, target: &str) -> Option<&Ratios> {
        self.ratios.iter().find(|ratio| ratio.connections == connections && ratio.target == target)
    }

    fn rounds_of<'a>(
        &'a self,
        connections: usize,
        target: &'a str,
    ) -> impl Iterator<Item = &'a Phase> {
        self.phases
            .iter()
            .filter(move |phase| phase.connections == connections && phase.target == target)
    }

    fn median_phase(&self, connections: usize, target: &str) -> Phase {
        let of = |value: fn(&Phase) -> f64| {
            median(self.rounds_of(connections, target).map(value)).unwrap_or(f64::NAN)
        };
        let mut errors = BTreeMap::new();
        for (what, count) in self.rounds_of(connections, target).flat_map(|phase| &phase.errors) {
            *errors.entry(what.clone()).or_default() += count;
        }
        Phase {
            round: 0,
            connections,
            target: target.to_owned(),
            rate: of(|phase| phase.rate),
            p50_us: of(|phase| phase.p50_us),
            p99_us: of(|phase| phase.p99_us),
            cpu_us: of(|phase| phase.cpu_us),
            client_cpu_us: of(|phase| phase.client_cpu_us),
            client_busy: of(|phase| phase.client_busy),
            idle_rss_mib: of(|phase| phase.idle_rss_mib),
            rss_mib: of(|phase| phase.rss_mib),
            peak_rss_mib: of(|phase| phase.peak_rss_mib),
            written_each: median(
                self.rounds_of(connections, target).filter_map(|phase| phase.written_each),
            ),
            device_each: median(
                self.rounds_of(connections, target).filter_map(|phase| phase.device_each),
            ),
            errors,
        }
    }

    /// The median of each round's ratio, not the ratio of medians: the two
    /// sides of a ratio then stem from the same minute.
    fn ratios(&self, connections: usize, target: &str) -> Ratios {
        let over = |reference: &str, value: fn(&Phase) -> f64| {
            median(self.rounds_of(connections, target).filter_map(|phase| {
                let same_round = self
                    .rounds_of(connections, reference)
                    .find(|reference| reference.round == phase.round)?;
                Some(value(phase) / value(same_round))
            }))
        };
        Ratios {
            connections,
            target: target.to_owned(),
            rate_of_bare: over("bare", |phase| phase.rate),
            rate_of_file: over("file", |phase| phase.rate),
            cpu_of_bare: over("bare", |phase| phase.cpu_us),
            p50_of_file: over("file", |phase| phase.p50_us),
            device_of_file: over("file", |phase| phase.device_each.unwrap_or(f64::NAN))
                .filter(|ratio| !ratio.is_nan()),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        Some(values[middle])
    } else {
        Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle]))
    }
}
