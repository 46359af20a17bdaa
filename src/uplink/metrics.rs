//! What the uplink counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The uplink's metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) up: Gauge,
    pub(super) behind: Gauge,
    pub(super) sent: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) pulled: Counter,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let uplink = registry.sub_registry_with_prefix("uplink");
        uplink.register("up", "Whether the relay takes records: 1 or 0", new.up.clone());
        let behind = "Records that the relay does not have yet, roughly";
        uplink.register("behind_records", behind, new.behind.clone());
        uplink.register("sent_records", "Records that the relay took", new.sent.clone());
        let bytes = "Bytes of records sent, as they went over the line";
        uplink.register_with_unit("sent", bytes, Unit::Bytes, new.sent_bytes.clone());
        let pulled = "Entries of the relay's outbox that were taken over";
        uplink.register("pulled_entries", pulled, new.pulled.clone());
        new
    }
}
