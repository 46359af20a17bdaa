//! What the store counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Which log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogLabel {
    log: String,
}

/// The store's metrics, for every log.
#[derive(Debug, Clone)]
pub struct Metrics {
    commit_seconds: Family<LogLabel, Histogram, fn() -> Histogram>,
    group_records: Family<LogLabel, Histogram, fn() -> Histogram>,
    appended: Family<LogLabel, Counter>,
    appended_bytes: Family<LogLabel, Counter>,
    refused: Family<LogLabel, Counter>,
    evicted: Family<LogLabel, Counter>,
    lost: Family<LogLabel, Counter>,
}

/// The metrics of one log.
#[derive(Debug, Clone)]
pub(super) struct LogMetrics {
    commit_seconds: Histogram,
    group_records: Histogram,
    appended: Counter,
    appended_bytes: Counter,
    refused: Counter,
    evicted: Counter,
    lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commit_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_25, 2.0, 14))
            }),
            group_records: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1.0, 2.0, 11))
            }),
            appended: Family::default(),
            appended_bytes: Family::default(),
            refused: Family::default(),
            evicted: Family::default(),
            lost: Family::default(),
        }
    }
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let store = registry.sub_registry_with_prefix("store");
        store.register_with_unit(
            "commit",
            "Time from taking a group to its stable storage",
            Unit::Seconds,
            new.commit_seconds.clone(),
        );
        store.register("group_records", "Records in a commit", new.group_records.clone());
        store.register("appended_records", "Records on stable storage", new.appended.clone());
        store.register_with_unit(
            "appended",
            "Bytes of lines on stable storage, before compression",
            Unit::Bytes,
            new.appended_bytes.clone(),
        );
        store.register(
            "refused_records",
            "Records that a full or failing disk refused",
            new.refused.clone(),
        );
        store.register(
            "evicted_records",
            "Records that retention deleted before every consumer had them",
            new.evicted.clone(),
        );
        store.register("lost_records", "Records that damage took", new.lost.clone());
        new
    }

    pub(super) fn of(&self, log: &str) -> LogMetrics {
        self.of_many(log, log)
    }

    /// Of one of hundreds of logs: histograms are of all of its `kind`.
    pub(super) fn of_many(&self, log: &str, kind: &str) -> LogMetrics {
        let label = LogLabel { log: log.to_owned() };
        let kind = LogLabel { log: kind.to_owned() };
        LogMetrics {
            commit_seconds: self.commit_seconds.get_or_create(&kind).clone(),
            group_records: self.group_records.get_or_create(&kind).clone(),
            appended: self.appended.get_or_create(&label).clone(),
            appended_bytes: self.appended_bytes.get_or_create(&label).clone(),
            refused: self.refused.get_or_create(&label).clone(),
            evicted: self.evicted.get_or_create(&label).clone(),
            lost: self.lost.get_or_create(&label).clone(),
        }
    }
}

impl LogMetrics {
    pub(super) fn committed(&self, records: u64, bytes: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        // A group has far fewer records than an f64 can count.
        self.group_records.observe(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
        self.appended.inc_by(records);
        self.appended_bytes.inc_by(bytes as u64);
    }

    pub(super) fn refused(&self, records: u64) {
        self.refused.inc_by(records);
    }

    pub(super) fn evicted(&self, records: u64) {
        self.evicted.inc_by(records);
    }

    pub(super) fn lost(&self, records: u64) {
        self.lost.inc_by(records);
    }
}
