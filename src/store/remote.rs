//! Another gateway, as its relay knows it: replicas of its streams, and the
//! write-backs that wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::state::{Consumer, Evicted};
use super::{Acknowledgement, PositionError, lock, read};
use crate::health::Stamp;
use crate::record::Sequence;

/// Marks of replicas that were there before, by their epoch.
const REMOVED: &str = "removed:";

/// A gateway that this one is the relay of.
pub struct RemoteGateway {
    name: String,
    /// The replicas of a stream, oldest first: a gateway that was wiped begins
    /// another.
    streams: RwLock<BTreeMap<String, Vec<Replica>>>,
    outbox: RwLock<Option<Arc<Log>>>,
    heard: Stamp,
}

/// A replica with its place among those of its stream.
#[derive(Clone)]
pub(super) struct Replica {
    pub ordinal: u64,
    pub log: Arc<Log>,
}

/// A replica that is not there any more: every consumer had it, or retention
/// took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its identity.
    pub epoch: String,
    /// Where it ended.
    pub next: Sequence,
    /// What of it not every consumer had.
    pub evicted: Evicted,
}

#[derive(Serialize, Deserialize)]
struct RemovedMark {
    next: Sequence,
    evicted: Evicted,
}

impl RemoteGateway {
    pub(super) fn new(name: &str) -> Self {
        let (streams, outbox) = (RwLock::default(), RwLock::default());
        Self { name: name.to_owned(), streams, outbox, heard: Stamp::default() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A replica that there is: that of an epoch, or the newest.
    #[must_use]
    pub fn replica(&self, stream: &str, epoch: Option<&str>) -> Option<Arc<Log>> {
        let streams = read(&self.streams);
        let replicas = streams.get(stream)?;
        let found = match epoch {
            None => replicas.last(),
            Some(epoch) => replicas.iter().rfind(|replica| replica.log.epoch() == epoch),
        };
        found.map(|replica| Arc::clone(&replica.log))
    }

    /// Its streams by name, each with its replicas, the newest last.
    #[must_use]
    pub fn streams(&self) -> Vec<(String, Vec<Arc<Log>>)> {
        let logs = |replicas: &[Replica]| replicas.iter().map(|r| Arc::clone(&r.log)).collect();
        read(&self.streams).iter().map(|(name, all)| (name.clone(), logs(all))).collect()
    }

    /// The write-backs that wait for it, once there were any or it asked.
    #[must_use]
    pub fn outbox(&self) -> Option<Arc<Log>> {
        read(&self.outbox).clone()
    }

    /// All of its logs.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let replicas = self.streams().into_iter().flat_map(|(_, replicas)| replicas);
        replicas.chain(self.outbox()).collect()
    }

    /// It says something.
    pub fn hear(&self) {
        self.heard.set();
    }

    /// How long ago it said something; none since the start.
    #[must_use]
    pub fn heard(&self) -> Option<Duration> {
        self.heard.age()
    }

    /// As [`Log::acknowledge_as`], on the replica of the epoch that is asked
    /// for, or the newest. A consumer of an earlier one holds the later ones
    /// too, from their start: it will come to them.
    ///
    /// # Errors
    /// As there; and [`PositionError::Epoch`] with the newest replica's epoch
    /// where there is none of that one.
    pub async fn acknowledge(
        &self,
        newest: &Log,
        stream: &str,
        consumer: &str,
        asked: Acknowledgement,
    ) -> Result<(String, Sequence), PositionError> {
        let replicas = read(&self.streams).get(stream).cloned().unwrap_or_default();
        let wanted = asked.epoch.clone().unwrap_or_else(|| newest.epoch());
        let Some(at) = replicas.iter().rposition(|replica| replica.log.epoch() == wanted) else {
            return Err(PositionError::Epoch { epoch: newest.epoch() });
        };
        let position = replicas[at].log.acknowledge_as(consumer, asked).await?;
        for replica in &replicas[at + 1..] {
            if replica.log.position(consumer).is_none() {
                let earliest = replica.log.bounds().earliest;
                replica.log.acknowledge(consumer, None, earliest, false).await?;
            }
        }
        Ok((wanted, position))
    }

    /// As [`Log::forget`], on every replica of a stream.
    ///
    /// # Errors
    /// As there.
    pub async fn forget(&self, stream: &str, consumer: &str) -> Result<bool, PositionError> {
        let replicas = read(&self.streams).get(stream).cloned().unwrap_or_default();
        let mut known = false;
        for replica in replicas {
            known |= replica.log.forget(consumer).await?;
        }
        Ok(known)
    }

    pub(super) fn replicas_of(&self, stream: &str) -> Vec<Replica> {
        read(&self.streams).get(stream).cloned().unwrap_or_default()
    }

    pub(super) fn add_replica(&self, stream: &str, replica: Replica) {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let replicas = streams.entry(stream.to_owned()).or_default();
        replicas.push(replica);
        replicas.sort_by_key(|replica| replica.ordinal);
    }

    pub(super) fn drop_replica(&self, stream: &str, epoch: &str) {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(replicas) = streams.get_mut(stream) {
            replicas.retain(|replica| replica.log.epoch() != epoch);
        }
    }

    pub(super) fn set_outbox(&self, log: Arc<Log>) {
        *self.outbox.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
    }
}

impl Log {
    /// Replicas that were there before this one.
    #[must_use]
    pub fn removed(&self) -> Vec<Removed> {
        let marks = self.marks();
        let removed = marks.iter().filter_map(|(name, value)| {
            let epoch = name.strip_prefix(REMOVED)?.to_owned();
            let RemovedMark { next, evicted } = serde_json::from_str(value).ok()?;
            Some(Removed { epoch, next, evicted })
        });
        removed.collect()
    }

    /// Keeps, for whoever asks for it, what became of an earlier replica, and of
    /// those that it kept that of.
    pub(super) async fn note_removed(&self, earlier: &Log) -> Result<(), PositionError> {
        let (next, evicted) = (earlier.bounds().next, earlier.shared.state.get().evicted);
        let this = Removed { epoch: earlier.epoch(), next, evicted };
        for Removed { epoch, next, evicted } in earlier.removed().into_iter().chain([this]) {
            let mark = serde_json::to_string(&RemovedMark { next, evicted }).unwrap_or_default();
            self.set_mark(&format!("{REMOVED}{epoch}"), &mark).await?;
        }
        Ok(())
    }

    /// Whether it holds nothing any more.
    pub(super) fn is_used_up(&self) -> bool {
        let chain = lock(&self.shared.chain);
        chain.sealed.is_empty() && chain.active.is_none() && chain.unread.is_none()
    }

    /// Whether a segment is open for writing.
    pub(super) fn is_being_written(&self) -> bool {
        lock(&self.shared.chain).active.is_some()
    }

    /// Has the consumers of an earlier replica hold this one from its start.
    /// Waits for the disk.
    pub(super) fn inherit_consumers(&self, earlier: &Log) -> std::io::Result<()> {
        let consumers = earlier.shared.state.get().consumers.clone();
        self.shared.state.update(|state| {
            for (name, consumer) in consumers {
                let position = state.earliest;
                let at_its_start = Consumer { lease: consumer.lease, ..Consumer::at(position) };
                state.consumers.entry(name).or_insert(at_its_start);
            }
        })
    }
}
