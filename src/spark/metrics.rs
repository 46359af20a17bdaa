//! What the Spark API counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

/// The Spark API's metrics.
#[derive(Debug, Clone)]
pub struct SparkMetrics {
    connections: Counter,
    answers: Family<StatusLabel, Counter>,
    sent: Family<StreamLabel, Counter>,
    sent_bytes: Family<StreamLabel, Counter>,
    accepted: Counter,
    expired: Counter,
    replicated: Counter,
}

impl SparkMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self {
            connections: Counter::default(),
            answers: Family::default(),
            sent: Family::default(),
            sent_bytes: Family::default(),
            accepted: Counter::default(),
            expired: Counter::default(),
            replicated: Counter::default(),
        };
        let spark = registry.sub_registry_with_prefix("spark");
        spark.register("connections", "Connections accepted", new.connections.clone());
        spark.register("answers", "Answers by status", new.answers.clone());
        spark.register("sent_records", "Records sent", new.sent.clone());
        spark.register_with_unit(
            "sent",
            "Bytes of records sent, as they went over the line",
            Unit::Bytes,
            new.sent_bytes.clone(),
        );
        spark.register(
            "accepted_write_backs",
            "Write-backs and commits on stable storage",
            new.accepted.clone(),
        );
        spark.register(
            "expired_attempts",
            "Staged attempts dropped because no commit came",
            new.expired.clone(),
        );
        spark.register(
            "replicated_records",
            "Records that gateways handed over, repeats included",
            new.replicated.clone(),
        );
        new
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        self.answers.get_or_create(&StatusLabel { status: status.as_u16() }).inc();
    }

    pub(super) fn sent(&self, stream: &str, records: u64, bytes: u64) {
        let label = StreamLabel { stream: stream.to_owned() };
        self.sent.get_or_create(&label).inc_by(records);
        self.sent_bytes.get_or_create(&label).inc_by(bytes);
    }

    pub(super) fn accepted(&self) {
        self.accepted.inc();
    }

    pub(super) fn replicated(&self, records: u64) {
        self.replicated.inc_by(records);
    }

    pub(super) fn expired(&self, attempts: u64) {
        self.expired.inc_by(attempts);
    }
}
