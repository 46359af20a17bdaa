//! What may be deleted, and the deleting. Runs on a log's committer only.
//!
//! A whole segment goes at a time: the state says so durably first, then the
//! folder is removed.

use std::time::Instant;

use tracing::{error, warn};

use super::chain::Sealed;
use super::checked_file::sync_folder;
use super::config::{LogLimits, WhenFull};
use super::lock;
use super::log::Shared;
use super::segment::Seal;
use super::state::State;
use crate::record::Sequence;

/// How long after the positions were lost the consumers may take to come
/// back before their acknowledgements delete again.
const POSITIONS_LOST_GRACE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Deletes what every consumer has acknowledged, and what is too old or over
/// the limit.
pub(super) fn tidy(shared: &Shared) {
    expire_consumers(shared);
    let limits = shared.limits.load();
    while let Some(Sealed { seal: oldest, written, .. }) = oldest_sealed(shared) {
        let acknowledged = acknowledged(shared).is_some_and(|upto| oldest.end <= upto);
        let is_due = acknowledged || is_too_old(shared, oldest, written, &limits);
        if !is_due || !delete(shared, oldest) {
            break;
        }
    }
    if !has_room(shared) {
        make_room(shared);
    }
}

/// Whether a record more is within the limits.
pub(super) fn has_room(shared: &Shared) -> bool {
    let limits = shared.limits.load();
    lock(&shared.chain).disk_bytes() < limits.max_bytes && shared.disk.free() >= limits.min_free
}

/// Deletes sealed segments until there is room, as far as that is allowed.
/// Answers whether there is.
pub(super) fn make_room(shared: &Shared) -> bool {
    while !has_room(shared) {
        let Some(Sealed { seal: oldest, .. }) = oldest_sealed(shared) else { return false };
        let acknowledged = acknowledged(shared).is_some_and(|upto| oldest.end <= upto);
        let may_drop = shared.limits.load().when_full == WhenFull::DropOldest;
        if !(acknowledged || may_drop) || !delete(shared, oldest) {
            return false;
        }
        shared.disk.sample();
    }
    true
}

/// Whether deleting the segment that is being written would be allowed.
pub(super) fn may_give_up_active(shared: &Shared) -> bool {
    let may_drop = shared.limits.load().when_full == WhenFull::DropOldest;
    may_drop && lock(&shared.chain).active.is_some() || active_is_acknowledged(shared)
}

/// Whether somebody may wait for the room that the segment being written
/// takes, and nobody for its records.
pub(super) fn active_is_in_the_way(shared: &Shared) -> bool {
    !has_room(shared) && active_is_acknowledged(shared)
}

fn active_is_acknowledged(shared: &Shared) -> bool {
    let acknowledged = acknowledged(shared);
    let chain = lock(&shared.chain);
    let end = chain.active.as_ref().map(|active| active.seal.end);
    end.zip(acknowledged).is_some_and(|(end, upto)| end <= upto)
}

/// Whether the segment that is being written is to be sealed for deletion: it
/// is too old, for a trickle never fills it, or everyone has it and there is
/// no room.
pub(super) fn active_is_due(shared: &Shared) -> bool {
    let is_full = !has_room(shared);
    let limits = shared.limits.load();
    let acknowledged = acknowledged(shared);
    let chain = lock(&shared.chain);
    chain.active.as_ref().is_some_and(|active| {
        let is_done = acknowledged.is_some_and(|upto| active.seal.end <= upto);
        is_too_old(shared, active.seal, Some(active.written), &limits) || is_full && is_done
    })
}

fn oldest_sealed(shared: &Shared) -> Option<Sealed> {
    lock(&shared.chain).sealed.front().copied()
}

/// What was written in this run is as old as the monotonic clock says. Of the
/// rest only what a set clock stamped has an age, and only a set clock tells it.
fn is_too_old(shared: &Shared, seal: Seal, written: Option<Instant>, limits: &LogLimits) -> bool {
    let Some(max_age) = limits.max_age else { return false };
    let age_ms = shared.clock.age_ms(seal.newest_ms, written);
    age_ms.is_some_and(|age_ms| u128::from(age_ms) > max_age.as_millis())
}

/// Everything below this number is acknowledged by every consumer.
fn acknowledged(shared: &Shared) -> Option<Sequence> {
    let state = shared.state.get();
    if let Some(lost_ms) = state.positions_lost_ms {
        // Where nobody knows when that was, it was just now.
        let since = shared.clock.age_ms(lost_ms, None);
        let since_ms = since.unwrap_or_else(|| shared.clock.open_for_ms());
        if since_ms < POSITIONS_LOST_GRACE_MS {
            return None;
        }
    }
    state.acknowledged()
}

/// Deletes the oldest segment; counts what not every consumer had. `false`
/// where the disk refused to note it: then it stays.
fn delete(shared: &Shared, seal: Seal) -> bool {
    let mut evicted = 0;
    let noted = shared.state.update(|state: &mut State| {
        let from = state.acknowledged().unwrap_or(seal.first).clamp(seal.first, seal.end);
        evicted = seal.end - from;
        if evicted > 0 {
            state.evicted.records += evicted;
            state.evicted.until = seal.end;
        }
        state.raise_earliest(seal.end);
    });
    if let Err(error) = noted {
        error!(log = shared.name, %error, "a segment cannot be deleted: the state cannot be written");
        return false;
    }
    shared.progress.step();
    {
        let mut chain = lock(&shared.chain);
        if chain.sealed.front().is_some_and(|front| front.seal.first == seal.first) {
            chain.sealed.pop_front();
        }
    }
    let (slot, forgotten) = {
        let mut opened = lock(&shared.opened);
        (opened.slot(seal.first), opened.forget(seal.first))
    };
    drop(forgotten);
    let folder = shared.segment_folder(seal.first);
    // sled would make an empty database of what is half deleted: no reader
    // may open it now. Those who have it open can go on.
    let nobody_opens = lock(&slot);
    if let Err(error) =
        std::fs::remove_dir_all(&folder).and_then(|()| sync_folder(&shared.segments))
    {
        // It is below `earliest`: the next start removes it.
        warn!(log = shared.name, folder = %folder.display(), %error, "a deleted segment's folder stays behind");
    }
    drop(nobody_opens);
    if evicted > 0 {
        shared.metrics.evicted(evicted);
        error!(
            log = shared.name,
            from = seal.first,
            until = seal.end,
            records = evicted,
            "records evicted by retention before every consumer had them"
        );
    }
    shared.room.notify_waiters();
    true
}

/// A consumer that has been silent for too long holds nothing any more.
fn expire_consumers(shared: &Shared) {
    let limits = shared.limits.load();
    let Some(expiry) = limits.consumer_expiry else { return };
    let is_expired = |name: &str, moved_ms: u64| {
        let silent_ms = shared.clock.age_ms(moved_ms, shared.clock.heard(name));
        silent_ms.is_some_and(|silent_ms| u128::from(silent_ms) > expiry.as_millis())
    };
    let state = &shared.state;
    let expired: Vec<String> = state
        .get()
        .consumers
        .iter()
        .filter(|(name, consumer)| is_expired(name, consumer.moved_ms))
        .map(|(name, _)| name.clone())
        .collect();
    for consumer in expired {
        shared.clock.forget(&consumer);
        let removed = state.update(|state| state.consumers.remove(&consumer)).is_ok();
        warn!(
            log = shared.name,
            consumer, removed, "a consumer was silent past consumer_expiry: it holds no records"
        );
    }
}
