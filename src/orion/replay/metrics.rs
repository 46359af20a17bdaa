//! What the replay counts.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: String,
}

/// What became of a write-back, or of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)] // they are the labels
pub(super) enum Kind {
    applied,
    applied_in_part,
    retried,
    refused,
    ambiguous,
    coalesced,
    unauthorized,
    unreadable,
    gave_up,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    target: String,
    outcome: Kind,
}

/// The replay's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    outcomes: Family<OutcomeLabel, Counter>,
    request_seconds: Family<TargetLabel, Histogram, fn() -> Histogram>,
    in_flight: Family<TargetLabel, Gauge>,
    up: Family<TargetLabel, Gauge>,
    waiting: Gauge,
    dead_letters: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            outcomes: Family::default(),
            request_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            in_flight: Family::default(),
            up: Family::default(),
            waiting: Gauge::default(),
            dead_letters: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let replay = registry.sub_registry_with_prefix("replay");
        let outcomes = "What became of write-backs and of attempts to send them";
        replay.register("outcomes", outcomes, new.outcomes.clone());
        let seconds = "Time from sending a write-back to the end of the answer";
        replay.register_with_unit("request", seconds, Unit::Seconds, new.request_seconds.clone());
        replay.register("in_flight", "Requests in flight", new.in_flight.clone());
        let up = "Whether the target takes write-backs: 1 or 0";
        replay.register("target_up", up, new.up.clone());
        let waiting = "Entries and write-backs that wait for Orion, roughly";
        replay.register("waiting", waiting, new.waiting.clone());
        replay.register("dead_letters_open", "Open dead letters", new.dead_letters.clone());
        new
    }

    pub(super) fn outcome(&self, target: &str, outcome: Kind, count: usize) {
        let label = OutcomeLabel { target: target.to_owned(), outcome };
        self.outcomes.get_or_create(&label).inc_by(count as u64);
    }

    pub(super) fn sent(&self, target: &str, took: Duration) {
        let label = TargetLabel { target: target.to_owned() };
        self.request_seconds.get_or_create(&label).observe(took.as_secs_f64());
    }

    pub(super) fn target(&self, target: &str, in_flight: usize, up: bool) {
        let label = TargetLabel { target: target.to_owned() };
        self.in_flight.get_or_create(&label).set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.up.get_or_create(&label).set(i64::from(up));
    }

    pub(super) fn waiting(&self, waiting: u64, dead_letters: usize) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.dead_letters.set(i64::try_from(dead_letters).unwrap_or(i64::MAX));
    }
}
