//! What line sockets count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SocketLabels {
    stream: String,
    consumer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    stream: String,
    consumer: String,
    reason: &'static str,
}

/// The metrics of all line sockets.
#[derive(Debug, Clone)]
pub struct Metrics {
    clients: Family<SocketLabels, Gauge>,
    sent: Family<SocketLabels, Counter>,
    sent_bytes: Family<SocketLabels, Counter>,
    converted: Family<SocketLabels, Counter>,
    left_out: Family<ReasonLabels, Counter>,
    gone: Family<SocketLabels, Counter>,
}

/// The metrics of one line socket.
#[derive(Debug, Clone)]
pub(super) struct SocketMetrics {
    labels: SocketLabels,
    all: Metrics,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self {
            clients: Family::default(),
            sent: Family::default(),
            sent_bytes: Family::default(),
            converted: Family::default(),
            left_out: Family::default(),
            gone: Family::default(),
        };
        let line_socket = registry.sub_registry_with_prefix("line_socket");
        line_socket.register("clients", "Connected clients", new.clients.clone());
        line_socket.register("sent_records", "Records sent, repeats too", new.sent.clone());
        line_socket.register_with_unit(
            "sent",
            "Bytes of their lines",
            Unit::Bytes,
            new.sent_bytes.clone(),
        );
        line_socket.register(
            "converted_records",
            "Records put into normalized form",
            new.converted.clone(),
        );
        line_socket.register(
            "left_out_records",
            "Records that can be no line, each once; others get them",
            new.left_out.clone(),
        );
        line_socket.register(
            "gone_records",
            "Numbers that were evicted or lost before they could be sent",
            new.gone.clone(),
        );
        new
    }

    pub(super) fn of(&self, stream: &str, consumer: &str) -> SocketMetrics {
        let labels = SocketLabels { stream: stream.to_owned(), consumer: consumer.to_owned() };
        SocketMetrics { labels, all: self.clone() }
    }
}

impl SocketMetrics {
    pub(super) fn clients(&self, clients: usize) {
        let clients = i64::try_from(clients).unwrap_or(i64::MAX);
        self.all.clients.get_or_create(&self.labels).set(clients);
    }

    pub(super) fn sent(&self, records: u64, bytes: u64) {
        self.all.sent.get_or_create(&self.labels).inc_by(records);
        self.all.sent_bytes.get_or_create(&self.labels).inc_by(bytes);
    }

    pub(super) fn converted(&self) {
        self.all.converted.get_or_create(&self.labels).inc();
    }

    pub(super) fn left_out(&self, reason: &'static str) {
        let SocketLabels { stream, consumer } = self.labels.clone();
        self.all.left_out.get_or_create(&ReasonLabels { stream, consumer, reason }).inc();
    }

    pub(super) fn gone(&self, numbers: u64) {
        self.all.gone.get_or_create(&self.labels).inc_by(numbers);
    }
}
