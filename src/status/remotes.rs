//! What a relay reports of the gateways that it keeps records of.

use serde::{Deserialize, Serialize};

use super::DamagedLog;
use crate::record::Sequence;
use crate::store::{LogStatus, RemoteGateway, Store};

/// The gauges of gateways, with what they tell.
pub(super) const GAUGES: [(&str, &str); 5] = [
    ("ngsi_ferry_relay_heard_seconds", "Age of a gateway's last word"),
    ("ngsi_ferry_relay_write_backs_waiting", "Entries that a gateway has not pulled"),
    ("ngsi_ferry_relay_records", "Records of a gateway's stream"),
    ("ngsi_ferry_relay_bytes", "Bytes on the disk for them"),
    ("ngsi_ferry_relay_lag_records", "Records that the slowest consumer has not acknowledged"),
];

/// A gateway that this one is the relay of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Its name.
    pub gateway: String,
    /// How long ago it said something; none since the start.
    pub heard_seconds: Option<u64>,
    /// The replicas of its streams.
    pub replicas: Vec<ReplicaStatus>,
    /// Entries of its write-backs that it has not pulled.
    pub write_backs_waiting: u64,
}

/// A replica of one of its streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// What the log says; its name is the stream's.
    #[serde(flatten)]
    pub log: LogStatus,
    /// The gateway was wiped since: it is read to its end and then removed.
    pub is_earlier: bool,
}

impl ReplicaStatus {
    /// Records that the slowest consumer has not acknowledged; none without
    /// any consumer.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.log.consumers.iter().map(|consumer| consumer.lag).max()
    }
}

impl RemoteStatus {
    /// Of all gateways.
    pub(super) fn all(store: &Store) -> Vec<Self> {
        store.remotes().iter().map(|remote| Self::of(remote)).collect()
    }

    fn of(remote: &RemoteGateway) -> Self {
        let mut replicas = Vec::new();
        for (stream, logs) in remote.streams() {
            let newest = logs.len().saturating_sub(1);
            replicas.extend(logs.iter().enumerate().map(|(at, log)| ReplicaStatus {
                log: LogStatus { name: stream.clone(), ..log.status() },
                is_earlier: at < newest,
            }));
        }
        let outbox = remote.outbox().map(|log| log.status());
        let pulled = outbox.iter().flat_map(|outbox| &outbox.consumers);
        let waiting = pulled.filter(|consumer| consumer.name == crate::write_back::PULLED);
        Self {
            gateway: remote.name().to_owned(),
            heard_seconds: remote.heard().map(|age| age.as_secs()),
            replicas,
            write_backs_waiting: waiting.map(|consumer| consumer.lag).sum(),
        }
    }

    /// What damage took from its replicas, or had taken where they come from.
    pub(super) fn damaged(&self) -> impl Iterator<Item = DamagedLog> {
        let named = self.replicas.iter().map(|replica| LogStatus {
            name: format!("{}/{}", self.gateway, replica.log.name),
            ..replica.log.clone()
        });
        named.filter_map(|log| DamagedLog::of(&log))
    }

    /// What somebody has to know, a line each.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let earlier = self.replicas.iter().filter(|replica| replica.is_earlier);
        let waiting = earlier.filter(|replica| replica.log.records > 0);
        waiting
            .map(|replica| {
                let LogStatus { name, records, epoch, consumers, .. } = &replica.log;
                let names: Vec<_> =
                    consumers.iter().filter(|c| c.lag > 0).map(|c| c.name.as_str()).collect();
                let whom = if names.is_empty() { "a consumer".to_owned() } else { names.join(", ") };
                let gateway = &self.gateway;
                format!("{gateway}/{name}: the gateway was wiped or restored; {records} records of its earlier epoch {epoch} wait for {whom}")
            })
            .collect()
    }

    /// Gauges of its replicas: the name, the labels, the value.
    pub(super) fn gauges(&self) -> Vec<(&'static str, String, u64)> {
        let mut gauges = Vec::new();
        let gateway = &self.gateway;
        let of_gateway = format!("{{gateway=\"{gateway}\"}}");
        if let Some(seconds) = self.heard_seconds {
            gauges.push(("ngsi_ferry_relay_heard_seconds", of_gateway.clone(), seconds));
        }
        gauges.push(("ngsi_ferry_relay_write_backs_waiting", of_gateway, self.write_backs_waiting));
        for (name, value) in [
            ("ngsi_ferry_relay_records", (|log| log.records) as fn(&LogStatus) -> u64),
            ("ngsi_ferry_relay_bytes", |log| log.bytes),
            ("ngsi_ferry_relay_lag_records", |log| {
                log.consumers.iter().map(|consumer| consumer.lag).max().unwrap_or(0)
            }),
        ] {
            // Those of a stream's earlier epochs count with it.
            let mut of_streams = std::collections::BTreeMap::<&str, Sequence>::new();
            for replica in &self.replicas {
                *of_streams.entry(&replica.log.name).or_default() += value(&replica.log);
            }
            gauges.extend(of_streams.into_iter().map(|(stream, value)| {
                (name, format!("{{gateway=\"{gateway}\",stream=\"{stream}\"}}"), value)
            }));
        }
        gauges
    }
}
