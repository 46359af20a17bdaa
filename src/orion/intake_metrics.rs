//! What the intake counts.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Why a notification was refused. Each refusal is a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Refused {
    Network,
    Secret,
    TooLarge,
    Body,
    Full,
    Disk,
    Stopping,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Refused,
}

/// The intake's metrics.
#[derive(Debug, Clone)]
pub struct IntakeMetrics {
    stored: Counter,
    stored_bytes: Counter,
    repeated: Counter,
    refused: Family<Reason, Counter>,
    seconds: Histogram,
}

impl IntakeMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self {
            stored: Counter::default(),
            stored_bytes: Counter::default(),
            repeated: Counter::default(),
            refused: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
        };
        let intake = registry.sub_registry_with_prefix("intake");
        intake.register("notifications", "Notifications on stable storage", new.stored.clone());
        intake.register_with_unit(
            "body",
            "Bytes of their bodies",
            Unit::Bytes,
            new.stored_bytes.clone(),
        );
        intake.register(
            "repeats",
            "Repeats of a notification whose answer was not delivered, stored once",
            new.repeated.clone(),
        );
        intake.register(
            "refused",
            "Notifications refused, and so lost: Orion does not resend",
            new.refused.clone(),
        );
        intake.register_with_unit(
            "answer",
            "Time from a request's head to its answer",
            Unit::Seconds,
            new.seconds.clone(),
        );
        new
    }

    pub(super) fn stored(&self, bytes: usize, took: Duration) {
        self.stored.inc();
        self.stored_bytes.inc_by(bytes as u64);
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn repeated(&self) {
        self.repeated.inc();
    }

    pub(super) fn refused(&self, reason: Refused) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}
