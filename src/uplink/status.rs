//! What the uplink says of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::pull::LONG_POLL;
use super::shared::Shared;
use super::{Config, Error};
use crate::health::Busy;
use crate::record::Sequence;

/// How the link to the relay does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The relay's URL.
    pub relay: String,
    /// Whether it takes records.
    pub up: bool,
    /// Since when it does, or not.
    #[serde(with = "crate::timestamp")]
    pub since: SystemTime,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Bytes of records sent since the start, as they went over the line.
    pub sent_bytes: u64,
    /// Records that the relay took since the start.
    pub sent_records: u64,
    /// Entries of the relay's outbox taken over since the start.
    pub pulled_entries: u64,
    /// Its streams, by name.
    pub streams: Vec<StreamStatus>,
}

/// How far a stream is at the relay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// The relay has everything below.
    pub next: Sequence,
    /// Records that it does not have yet.
    pub behind: u64,
    /// Why this stream does not get on, where the others may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Where the streams are, as their tasks tell it.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<BTreeMap<String, StreamStatus>>);

impl Streams {
    pub(super) fn set(&self, name: &str, change: impl FnOnce(&mut StreamStatus)) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = streams.entry(name.to_owned()).or_default();
        name.clone_into(&mut known.name);
        change(known);
    }

    fn all(&self) -> Vec<StreamStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// For those who ask how the uplink does, or change its configuration, while
/// it runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// How the link to the relay does.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let seen = shared.line.seen();
        let mut streams = shared.streams.all();
        for stream in &mut streams {
            if let Some(log) = shared.store.stream(&stream.name) {
                stream.behind = log.records_from(stream.next);
            }
        }
        let behind: u64 = streams.iter().map(|stream| stream.behind).sum();
        let metrics = &shared.metrics;
        metrics.up.set(i64::from(seen.up));
        metrics.behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        Status {
            relay: shared.client.load().url.clone(),
            up: seen.up,
            since: seen.since,
            last_error: seen.last_error,
            sent_bytes: metrics.sent_bytes.get(),
            sent_records: metrics.sent.get(),
            pulled_entries: metrics.pulled.get(),
            streams,
        }
    }

    /// The relay is worth another try now, if it is away: the clock was set.
    pub fn try_now(&self) {
        self.0.line.try_now(&self.0.client.load().url);
    }

    /// What has work: a request to the relay must end within its timeout, and
    /// what comes of it must be stored within `patience`. Who waits for a
    /// relay that is away has none.
    pub fn busy(&self, patience: Duration, busy: &mut Vec<Busy>) {
        let timeout = self.0.client.load().timeout;
        let answer = timeout.saturating_add(LONG_POLL);
        let requests = self.0.longest_answer.added_to(patience, answer);
        let parts = [
            ("the uplink's requests to the relay", &self.0.requests, requests),
            ("the uplink's reading and storing", &self.0.steps, 3 * patience),
        ];
        for (part, jobs, patience) in parts {
            busy.extend(jobs.step().map(|step| Busy { part: part.to_owned(), step, patience }));
        }
    }

    /// Takes over a changed configuration and reads the certificates again,
    /// for requests from now on. Which streams it sends needs a restart.
    ///
    /// # Errors
    /// Where the configuration cannot be used; the old one then stays.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        self.0.reload(config)
    }
}
