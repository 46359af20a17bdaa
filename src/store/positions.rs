//! Consumers' positions: how far each has acknowledged, and who may move them.

use std::sync::Arc;
use std::time::Duration;

use super::log::{Log, Shared};
use super::state::{Consumer, State};
use super::{MAX_CONSUMERS, PositionError};
use crate::record::Sequence;

/// How much later a consumer that has not moved is noted to be still there;
/// not each time, to save flash.
const SIGN_OF_LIFE_MS: u64 = 60_000;

/// A reader's claim to be the only one that moves a consumer. Two queries that
/// shared a consumer would each take away what the other has not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Told apart from every other by this; the reader chooses it.
    pub token: String,
    /// Leases of the same reader before it was started anew.
    pub takes_over: Vec<String>,
}

/// What a reader asks of its position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Everything below is acknowledged.
    pub position: Sequence,
    /// The log that the position is of; any where it is not told.
    pub epoch: Option<String>,
    /// The position may go back.
    pub rewind: bool,
    /// Who moves it.
    pub lease: Option<Lease>,
}

impl Log {
    /// As [`Log::acknowledge_as`], for a reader without a lease.
    ///
    /// # Errors
    /// As there.
    pub async fn acknowledge(
        &self,
        consumer: &str,
        epoch: Option<&str>,
        position: Sequence,
        rewind: bool,
    ) -> Result<Sequence, PositionError> {
        let epoch = epoch.map(ToOwned::to_owned);
        let asked = Acknowledgement { position, epoch, rewind, lease: None };
        self.acknowledge_as(consumer, asked).await
    }

    /// Moves a consumer's position durably and answers with where it is now.
    /// The first call registers the consumer. A lower position changes
    /// nothing unless it asks to rewind. Waits for the disk.
    ///
    /// # Errors
    /// [`PositionError::Beyond`] above the log's end, [`PositionError::Epoch`]
    /// where the epoch is another log's, [`PositionError::Leased`] where
    /// somebody else holds the consumer and was heard of within `lease_expiry`.
    pub async fn acknowledge_as(
        &self,
        consumer: &str,
        asked: Acknowledgement,
    ) -> Result<Sequence, PositionError> {
        let (shared, consumer) = (Arc::clone(&self.shared), consumer.to_owned());
        let moved = self.update_state(move |state| shared.settle(state, consumer, asked));
        let now_at = moved.await??;
        self.shared.progress.last_acknowledgement.set();
        self.tidy();
        Ok(now_at)
    }

    /// Removes a consumer; it holds no records any more. `false` where there
    /// is none of that name.
    ///
    /// # Errors
    /// Where the disk refused it.
    pub async fn forget(&self, consumer: &str) -> Result<bool, PositionError> {
        self.shared.clock.forget(consumer);
        let consumer = consumer.to_owned();
        let known = self.update_state(move |state| state.consumers.remove(&consumer)).await?;
        self.tidy();
        Ok(known.is_some())
    }

    /// The position of a consumer, where it is registered.
    #[must_use]
    pub fn position(&self, consumer: &str) -> Option<Sequence> {
        self.shared.state.get().consumers.get(consumer).map(|known| known.position)
    }
}

impl Shared {
    /// Called by one at a time: who was heard of here is known to the next.
    fn settle(
        &self,
        state: &mut State,
        consumer: String,
        asked: Acknowledgement,
    ) -> Result<Sequence, PositionError> {
        if asked.epoch.is_some_and(|epoch| epoch != state.epoch) {
            return Err(PositionError::Epoch { epoch: state.epoch.clone() });
        }
        let next = *self.durable.borrow();
        if asked.position > next {
            return Err(PositionError::Beyond { next });
        }
        if state.consumers.len() >= MAX_CONSUMERS && !state.consumers.contains_key(&consumer) {
            return Err(PositionError::TooMany);
        }
        let held = state.consumers.get(&consumer).and_then(|known| known.lease.as_deref());
        if !held.is_none_or(|held| may_take(held, asked.lease.as_ref())) {
            let silent = self.silence_of(&consumer);
            let expiry = self.limits.load().lease_expiry;
            if silent < expiry {
                return Err(PositionError::Leased { expires_in: expiry.saturating_sub(silent) });
            }
        }
        self.clock.hear(&consumer);
        let now = Consumer::at(asked.position);
        let known = state.consumers.entry(consumer).or_insert_with(|| now.clone());
        if asked.position > known.position || asked.rewind {
            *known = now;
        } else if now.moved_ms.saturating_sub(known.moved_ms) > SIGN_OF_LIFE_MS {
            // On a quiet stream a consumer has only this to say.
            known.moved_ms = now.moved_ms;
        }
        known.lease = asked.lease.map(|lease| lease.token);
        Ok(known.position)
    }

    /// Before a restart nobody could be heard.
    fn silence_of(&self, consumer: &str) -> Duration {
        let heard = self.clock.heard(consumer).map(|at| at.elapsed());
        heard.unwrap_or_else(|| Duration::from_millis(self.clock.open_for_ms()))
    }
}

fn may_take(held: &str, lease: Option<&Lease>) -> bool {
    lease.is_some_and(|lease| {
        lease.token == held || lease.takes_over.iter().any(|earlier| earlier == held)
    })
}
