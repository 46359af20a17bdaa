//! What a log tells of itself.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::lock;
use super::log::Log;
use super::state::{Evicted, Hole, State};
use crate::record::Sequence;

/// What a log reports of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub epoch: String,
    /// The lowest number that may still be asked for.
    pub earliest: Sequence,
    /// The number that the next record gets.
    pub next: Sequence,
    /// Records in it.
    pub records: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Limit of `bytes`.
    pub max_bytes: u64,
    /// Records that retention deleted before every consumer had them.
    pub evicted: Evicted,
    /// Records that damage took.
    pub lost: u64,
    /// Numbers without a record that may still be asked for.
    pub holes: Vec<Hole>,
    /// The disk refused the last write.
    pub failing: bool,
    /// Its consumers.
    pub consumers: Vec<ConsumerStatus>,
}

/// What a log reports of a consumer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: String,
    /// Everything below is acknowledged.
    pub position: Sequence,
    /// Records that it has not acknowledged.
    pub lag: u64,
    /// When it last acknowledged, to a minute, in ms since 1970; 0 where the
    /// clock was not set.
    pub moved_ms: u64,
}

impl Log {
    /// Whether the disk refused the last write.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// How many records have a number of `from` or above.
    #[must_use]
    pub fn records_from(&self, from: Sequence) -> u64 {
        lock(&self.shared.chain).records_from(from)
    }

    /// What it holds, and who reads it.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        let state = State::clone(&self.shared.state.get());
        let chain = lock(&self.shared.chain);
        let consumers = state
            .consumers
            .iter()
            .map(|(name, consumer)| ConsumerStatus {
                name: name.clone(),
                position: consumer.position,
                lag: chain.records_from(consumer.position),
                moved_ms: consumer.moved_ms,
            })
            .collect();
        LogStatus {
            name: self.shared.name.clone(),
            earliest: state.earliest,
            next: chain.next,
            records: chain.records_from(state.earliest),
            bytes: chain.disk_bytes(),
            max_bytes: self.shared.limits.load().max_bytes,
            evicted: state.evicted,
            lost: state.lost,
            holes: state.holes,
            epoch: state.epoch,
            failing: self.is_failing(),
            consumers,
        }
    }
}
