//! What the gateway reports of itself: `/status`, `ngsi-ferry status`, and the
//! gauges of `/metrics`.

mod certificates;
mod remotes;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::build;
use crate::certificates::{Certificate, ClientCertificate};
use crate::orion::replay;
use crate::record::{Sequence, trusted_ms};
use crate::spark::line_socket;
use crate::store::{HoleReason, Log, LogStatus, Store};
use crate::{tls, uplink, write_back};
pub use remotes::{RemoteStatus, ReplicaStatus};

/// The whole of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's name.
    pub id: String,
    /// Version of the program.
    pub version: String,
    /// The commit that it was built from.
    #[serde(default)]
    pub commit: String,
    /// The machine that it was built for.
    #[serde(default)]
    pub target: String,
    /// Its process; none where the store was looked at without one.
    pub pid: Option<u32>,
    /// When it was started.
    #[serde(with = "crate::timestamp::option")]
    pub started: Option<SystemTime>,
    /// Its streams, by name.
    pub streams: Vec<StreamStatus>,
    /// The logs that damage took something from; write-backs, outcomes and
    /// dead letters are logs too.
    #[serde(default)]
    pub damaged: Vec<DamagedLog>,
    /// How every log gets on: the streams, then the gateway's own.
    #[serde(default)]
    pub logs: Vec<LogPace>,
    /// Gateways that this one is the relay of.
    #[serde(default)]
    pub gateways: Vec<RemoteStatus>,
    /// What waits for Orion.
    pub write_backs: WriteBacksStatus,
    /// How the replay fares; none where no gateway runs.
    pub replay: Option<replay::Status>,
    /// How the link to the relay does; none where there is none.
    #[serde(default)]
    pub uplink: Option<uplink::Status>,
    /// How line sockets fare; none where no gateway runs.
    #[serde(default)]
    pub line_sockets: Vec<line_socket::Status>,
    /// Why the gateway cannot do its work now; `/ready` says the same.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Free bytes of the disk.
    pub disk_free_bytes: u64,
    /// Bytes that requests and answers hold in memory.
    pub bytes_in_flight: u64,
    /// Certificates in use.
    pub certificates: Vec<Certificate>,
    /// What clients showed last, of those that have connected.
    #[serde(default)]
    pub client_certificates: Vec<ClientCertificate>,
    /// What the system's clock says, where nobody has set it.
    #[serde(default)]
    pub clock_unset: Option<String>,
}

/// A log that damage took something from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLog {
    /// Its name.
    pub log: String,
    /// How many records it took since the log was made.
    pub lost: u64,
    /// Which of them may still be asked for, in order.
    pub ranges: Vec<LostRange>,
}

/// Numbers whose records are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// The first of them.
    pub from: Sequence,
    /// One past the last of them.
    pub until: Sequence,
}

impl DamagedLog {
    /// `None` where nothing was lost.
    fn of(log: &LogStatus) -> Option<Self> {
        let lost = log.holes.iter().filter(|hole| hole.reason == HoleReason::Lost);
        let ranges = lost.map(|hole| LostRange { from: hole.from, until: hole.until }).collect();
        (log.lost > 0).then(|| Self { log: log.name.clone(), lost: log.lost, ranges })
    }
}

/// How a log gets on. Seconds are by a clock that never jumps; none where it
/// has not happened since the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogPace {
    /// Its name.
    pub name: String,
    /// The disk refused the last write.
    pub failing: bool,
    /// How long ago something was committed to it.
    pub last_commit_seconds: Option<u64>,
    /// How long ago a consumer acknowledged something of it.
    pub last_acknowledgement_seconds: Option<u64>,
}

/// A stream, with how old its consumers' next records are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamStatus {
    /// What the log says.
    #[serde(flatten)]
    pub log: LogStatus,
    /// Age in seconds of the oldest record; none where there is none, or its
    /// clock was not set.
    pub oldest_seconds: Option<u64>,
    /// For each consumer, in their order, the age in seconds of the next
    /// record it has not acknowledged.
    pub consumer_oldest_seconds: Vec<Option<u64>>,
}

/// Write-backs on their way to Orion.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WriteBacksStatus {
    /// Entries of the write-back log that are not all done.
    pub waiting: u64,
    /// Age in seconds of the oldest of them.
    pub oldest_seconds: Option<u64>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Write-backs that Orion refused for good.
    pub dead_letters: u64,
}

impl Status {
    /// What the store alone tells.
    pub async fn of(store: &Arc<Store>) -> Self {
        let mut streams = Vec::new();
        for log in store.streams() {
            streams.push(StreamStatus::of(&log).await);
        }
        let mut damaged: Vec<_> =
            streams.iter().filter_map(|stream| DamagedLog::of(&stream.log)).collect();
        let internal = [store.write_backs(), store.outcomes(), store.dead_letters()];
        damaged.extend(internal.iter().filter_map(|log| DamagedLog::of(&log.status())));
        let gateways = RemoteStatus::all(store);
        damaged.extend(gateways.iter().flat_map(RemoteStatus::damaged));
        let log = store.write_backs();
        let status = log.status();
        let applied = log.position(write_back::APPLIED).unwrap_or(status.earliest);
        let own = status.consumers.iter().find(|consumer| consumer.name == write_back::APPLIED);
        let write_backs = WriteBacksStatus {
            waiting: own.map_or(status.records, |own| own.lag),
            oldest_seconds: age_at(log, applied).await,
            bytes: status.bytes,
            dead_letters: 0,
        };
        Self {
            id: String::new(),
            version: build::VERSION.to_owned(),
            commit: build::COMMIT.to_owned(),
            target: build::TARGET.to_owned(),
            pid: None,
            started: None,
            streams,
            damaged,
            logs: store.own_logs().iter().map(|log| LogPace::of(log)).collect(),
            gateways,
            write_backs,
            replay: None,
            uplink: None,
            line_sockets: Vec::new(),
            problems: Vec::new(),
            disk_free_bytes: store.disk().free(),
            bytes_in_flight: 0,
            certificates: Vec::new(),
            client_certificates: Vec::new(),
            clock_unset: tls::unset_clock(SystemTime::now()),
        }
    }

    /// Appends the gauges, in the form of `/metrics`.
    pub fn write_metrics(&self, text: &mut String) {
        let mut gauge = |name: &str, help: &str, values: Vec<(String, f64)>| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let of_streams = |value: &dyn Fn(&StreamStatus) -> f64| {
            self.streams.iter().map(|s| (format!("{{log=\"{}\"}}", s.log.name), value(s))).collect()
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge is good to 15 digits")]
        let float = |n: u64| n as f64;
        gauge("ngsi_ferry_store_bytes", "Bytes on the disk", of_streams(&|s| float(s.log.bytes)));
        gauge("ngsi_ferry_store_records", "Records kept", of_streams(&|s| float(s.log.records)));
        let of_logs = |seconds: &dyn Fn(&LogPace) -> Option<u64>| {
            let known = self.logs.iter().filter_map(|log| Some((&log.name, seconds(log)?)));
            known.map(|(name, age)| (format!("{{log=\"{name}\"}}"), float(age))).collect()
        };
        gauge(
            "ngsi_ferry_store_last_commit_seconds",
            "Age of the last commit",
            of_logs(&|log| log.last_commit_seconds),
        );
        gauge(
            "ngsi_ferry_store_last_acknowledgement_seconds",
            "Age of the last acknowledgement",
            of_logs(&|log| log.last_acknowledgement_seconds),
        );
        let mut lags = Vec::new();
        let mut ages = Vec::new();
        for stream in &self.streams {
            for (consumer, age) in stream.log.consumers.iter().zip(&stream.consumer_oldest_seconds)
            {
                let labels =
                    format!("{{log=\"{}\",consumer=\"{}\"}}", stream.log.name, consumer.name);
                lags.push((labels.clone(), float(consumer.lag)));
                ages.push((labels, float(age.unwrap_or(0))));
            }
        }
        gauge("ngsi_ferry_consumer_lag_records", "Records not acknowledged", lags);
        gauge("ngsi_ferry_consumer_oldest_seconds", "Age of the oldest of them", ages);
        let one = |value: u64| vec![(String::new(), float(value))];
        if !self.gateways.is_empty() {
            gauge(
                "ngsi_ferry_relay_gateways",
                "Gateways known here",
                one(self.gateways.len() as u64),
            );
            let all: Vec<_> = self.gateways.iter().flat_map(RemoteStatus::gauges).collect();
            for (name, help) in remotes::GAUGES {
                let these = all.iter().filter(|(of, ..)| *of == name);
                let values = these.map(|(_, labels, value)| (labels.clone(), float(*value)));
                gauge(name, help, values.collect());
            }
        }
        let waiting = &self.write_backs;
        gauge(
            "ngsi_ferry_write_backs_waiting",
            "Entries that wait for Orion",
            one(waiting.waiting),
        );
        let age = waiting.oldest_seconds.unwrap_or(0);
        gauge("ngsi_ferry_write_backs_oldest_seconds", "Age of the oldest of them", one(age));
        gauge("ngsi_ferry_disk_free_bytes", "Free bytes of the disk", one(self.disk_free_bytes));
        gauge("ngsi_ferry_in_flight_bytes", "Bytes held by requests", one(self.bytes_in_flight));
        certificates::write_gauges(self, &mut gauge);
    }
}

impl LogPace {
    fn of(log: &Log) -> Self {
        let seconds = |age: Option<Duration>| age.map(|age| age.as_secs());
        Self {
            name: log.name().to_owned(),
            failing: log.is_failing(),
            last_commit_seconds: seconds(log.last_commit()),
            last_acknowledgement_seconds: seconds(log.last_acknowledgement()),
        }
    }
}

impl StreamStatus {
    async fn of(log: &Log) -> Self {
        let status = log.status();
        let mut consumer_oldest_seconds = Vec::new();
        for consumer in &status.consumers {
            consumer_oldest_seconds.push(age_at(log, consumer.position).await);
        }
        let oldest_seconds = age_at(log, status.earliest).await;
        Self { log: status, oldest_seconds, consumer_oldest_seconds }
    }
}

async fn age_at(log: &Log, seq: u64) -> Option<u64> {
    let received_ms = log.received_ms(seq).await?;
    let now_ms = trusted_ms(SystemTime::now());
    (now_ms > 0).then(|| now_ms.saturating_sub(received_ms) / 1000)
}
