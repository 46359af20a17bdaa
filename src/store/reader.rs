//! Reading a log: groups from a number on, over segments and holes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use tracing::error;

use super::chain::Place;
use super::group::Group;
use super::log::{Log, Shared};
use super::segment::{self, Found, Seal, Segment, SegmentError};
use super::state::{Hole, HoleReason};
use super::{GoneReason, ReadError, lock, quarantine};
use crate::record::{Record, Sequence};

/// Sealed segments that stay open between reads, for each log.
const KEPT_OPEN: usize = 2;

/// Sealed segments that are open. Each sled database can be open once only,
/// so whoever reads a segment shares it.
#[derive(Default)]
pub(super) struct Opened {
    kept: Vec<(Sequence, Arc<Segment>)>,
    slots: BTreeMap<Sequence, Slot>,
}

/// The place of a segment that somebody may have open. Locked by whoever
/// opens or deletes the segment, so that neither waits for another segment.
pub(super) type Slot = Arc<Mutex<Weak<Segment>>>;

impl Opened {
    pub(super) fn slot(&mut self, first: Sequence) -> Slot {
        self.slots.retain(|_, slot| {
            let is_wanted = Arc::strong_count(slot) > 1;
            is_wanted || lock(slot).strong_count() > 0
        });
        Arc::clone(self.slots.entry(first).or_default())
    }

    /// Keeps a segment open for the next reader. What it returns is to be
    /// dropped without the lock: closing a database takes its time.
    #[must_use]
    pub(super) fn keep(&mut self, first: Sequence, segment: &Arc<Segment>) -> Option<Arc<Segment>> {
        let known = self.kept.iter().position(|(other, _)| *other == first);
        let replaced = known.map(|at| self.kept.remove(at).1);
        self.kept.insert(0, (first, Arc::clone(segment)));
        let surplus = if self.kept.len() > KEPT_OPEN { self.kept.pop() } else { None };
        replaced.or(surplus.map(|(_, segment)| segment))
    }

    pub(super) fn forget(&mut self, first: Sequence) -> Option<Arc<Segment>> {
        let at = self.kept.iter().position(|(other, _)| *other == first)?;
        Some(self.kept.remove(at).1)
    }

    pub(super) fn clear(&mut self) -> Vec<(Sequence, Arc<Segment>)> {
        std::mem::take(&mut self.kept)
    }
}

/// Groups that follow each other; holes that carry nothing are skipped.
#[derive(Debug)]
pub struct Batch {
    /// In order.
    pub groups: Vec<Group>,
    /// Where to read on.
    pub next: Sequence,
}

impl Batch {
    /// The records in it.
    ///
    /// # Errors
    /// Where a group does not unpack, though its checksum matched.
    pub fn records(&self) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        for group in &self.groups {
            let lines = group.lines().map_err(|e| ReadError::Store(e.to_string()))?;
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                records.push(Record::decode(line).map_err(|e| ReadError::Store(e.to_string()))?);
            }
        }
        Ok(records)
    }
}

impl Log {
    /// Reads the groups of `range`, up to `max_bytes` of lines but at least
    /// one record, where there is one. Groups on the edges are cut. Stops
    /// before a lost range.
    ///
    /// # Errors
    /// [`ReadError::Gone`] where the range's start was deleted or lost,
    /// [`ReadError::Beyond`] where it is above the log's end.
    pub async fn read(&self, range: Range<Sequence>, max_bytes: usize) -> Result<Batch, ReadError> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || read(&shared, &range, max_bytes));
        read.await.map_err(|_| ReadError::Store("the read was cancelled".to_owned()))?
    }

    /// Reads one record; `None` where there is none of that number.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn read_one(&self, seq: Sequence) -> Result<Option<Record>, ReadError> {
        Ok(self.read(seq..seq + 1, 0).await?.records()?.pop())
    }

    /// When the first record not below `seq` was received, ms since 1970, to
    /// the commit; `None` where there is none or its clock was not set.
    pub async fn received_ms(&self, seq: Sequence) -> Option<u64> {
        let batch = self.read(seq..Sequence::MAX, 0).await.ok()?;
        batch.groups.first().map(|group| group.header.newest_ms).filter(|ms| *ms > 0)
    }
}

fn read(shared: &Shared, range: &Range<Sequence>, max_bytes: usize) -> Result<Batch, ReadError> {
    let end = *shared.durable.borrow();
    if range.start > end {
        return Err(ReadError::Beyond { next: end });
    }
    let until = range.end.min(end);
    let mut at = range.start;
    let mut groups = Vec::new();
    let mut bytes = 0;
    while at < until {
        let step = match step(shared, at) {
            // What was read so far is good, whatever comes behind it.
            Err(_) if !groups.is_empty() => break,
            step => step?,
        };
        match step {
            Step::Skip(next) => at = next.min(end),
            Step::Gone { earliest, reason } => {
                if groups.is_empty() {
                    return Err(ReadError::Gone { earliest, reason });
                }
                break;
            }
            Step::Group(group) => {
                let damaged = |e: super::group::Damaged| ReadError::Store(e.to_string());
                let next = group.header.end();
                let Some(group) = group.cut(&(at..until)).map_err(damaged)? else { break };
                let group = if groups.is_empty() {
                    group.cut_to_bytes(max_bytes).map_err(damaged)?
                } else {
                    group
                };
                let with_it = group.header.lines_len as usize + bytes;
                if !groups.is_empty() && with_it > max_bytes {
                    break;
                }
                bytes = with_it;
                let reached = group.header.end();
                groups.push(group);
                at = reached;
                if reached < next {
                    break;
                }
            }
        }
    }
    Ok(Batch { groups, next: at })
}

enum Step {
    Group(Group),
    Skip(Sequence),
    Gone { earliest: Sequence, reason: GoneReason },
}

fn gone(earliest: Sequence, reason: GoneReason) -> Step {
    Step::Gone { earliest, reason }
}

fn step(shared: &Shared, at: Sequence) -> Result<Step, ReadError> {
    {
        let state = shared.state.get();
        if at < state.earliest {
            let evicted = at < state.evicted.until;
            let reason = if evicted { GoneReason::Evicted } else { GoneReason::Acknowledged };
            return Ok(gone(state.earliest, reason));
        }
        if let Some(hole) = state.holes.iter().find(|hole| hole.from <= at && at < hole.until) {
            return Ok(match hole.reason {
                HoleReason::Unused => Step::Skip(hole.until),
                HoleReason::Lost => gone(hole.until, GoneReason::Lost),
                HoleReason::Evicted => gone(hole.until, GoneReason::Evicted),
                HoleReason::Acknowledged => gone(hole.until, GoneReason::Acknowledged),
            });
        }
    }
    let place = lock(&shared.chain).find(at);
    let (read, seal) = match place {
        Place::Active(segment, seal) => match segment.read(at) {
            Ok(found) => (found, seal),
            Err(error) => {
                // The committer is still at it. Sealed, it is opened afresh.
                shared.seal_wanted.store(true, Ordering::Release);
                return Err(ReadError::Store(error.to_string()));
            }
        },
        Place::Sealed(seal) => match read_sealed(shared, seal, at) {
            Ok(found) => (found, seal),
            Err(error) => return give_up_segment(shared, seal, at, &error),
        },
        // Deleted between the two looks, or a hole that nobody noted.
        Place::Hole(next) => {
            let known_until = next.unwrap_or(*shared.durable.borrow());
            mark_lost(shared, at..known_until, "no segment holds these numbers")?;
            return Ok(Step::Skip(at));
        }
    };
    let _noted = match read {
        Found::Group(group) if group.header.first <= at => return Ok(Step::Group(group)),
        Found::Group(group) => {
            let until = group.header.first.min(seal.end);
            mark_lost(shared, at..until, "a group is missing in its segment")?
        }
        Found::Damaged { first, resume, damage } => {
            let until = resume.unwrap_or(seal.end).min(seal.end);
            mark_lost(shared, first.max(seal.first)..until, &damage.to_string())?
        }
        Found::End => match seal.assumed {
            Some(evidence) if evidence <= at => mark_unused(shared, at..seal.end)?,
            Some(evidence) => mark_lost(shared, at..evidence, "an unsealed segment ends early")?,
            None => mark_lost(shared, at..seal.end, "the segment is shorter than its seal says")?,
        },
    };
    Ok(Step::Skip(at))
}

fn read_sealed(shared: &Shared, seal: Seal, at: Sequence) -> Result<Found, SegmentError> {
    match open(shared, seal).and_then(|segment| segment.read(at)) {
        Err(error) if !error.is_passing() => {}
        read => {
            if matches!(&read, Ok(Found::Group(group)) if group.header.end() >= seal.end) {
                // Who reads on needs it no more, and sled holds all of it in memory.
                let forgotten = lock(&shared.opened).forget(seal.first);
                drop(forgotten);
            }
            return read;
        }
    }
    // A handle that failed once goes on failing, whatever the disk holds.
    let slot = {
        let mut opened = lock(&shared.opened);
        let forgotten = opened.forget(seal.first);
        let slot = opened.slot(seal.first);
        drop(opened);
        drop(forgotten);
        slot
    };
    *lock(&slot) = Weak::new();
    let segment = open(shared, seal)?;
    segment.read_around_damage();
    segment.read(at)
}

fn open(shared: &Shared, seal: Seal) -> Result<Arc<Segment>, SegmentError> {
    let segment = open_for_now(shared, seal)?;
    let surplus = lock(&shared.opened).keep(seal.first, &segment);
    drop(surplus);
    Ok(segment)
}

fn open_for_now(shared: &Shared, seal: Seal) -> Result<Arc<Segment>, SegmentError> {
    let slot = lock(&shared.opened).slot(seal.first);
    // Held while opening: two readers must not open one segment.
    let mut opened = lock(&slot);
    if let Some(segment) = opened.upgrade() {
        return Ok(segment);
    }
    let folder = shared.segment_folder(seal.first);
    let segment = Arc::new(Segment::open(&folder, &shared.disk)?);
    // sled fills its last part up with zeros, and writes a snapshot.
    lock(&shared.chain).set_disk_bytes(seal.first, segment::disk_bytes(&folder));
    *opened = Arc::downgrade(&segment);
    Ok(segment)
}

/// Lets sled write what it wants to write before it lets a segment be read.
/// Later, in an outage of days, there may be no room for that.
pub(super) fn prepare(shared: &Shared, seal: Seal) {
    // Where it fails, whoever reads it is told why.
    let _ = open_for_now(shared, seal);
}

/// A segment that cannot be opened goes to the quarantine, and what was in it
/// counts as lost. One that has just been deleted is no loss.
fn give_up_segment(
    shared: &Shared,
    seal: Seal,
    at: Sequence,
    error: &SegmentError,
) -> Result<Step, ReadError> {
    if at < shared.state.get().earliest {
        return Ok(Step::Skip(at));
    }
    if error.is_passing() {
        return Err(ReadError::Store(error.to_string()));
    }
    if mark_lost(shared, seal.first..seal.end, &error.to_string())? == 0 {
        // Another reader was first.
        return Ok(Step::Skip(at));
    }
    lock(&shared.chain).sealed.retain(|sealed| sealed.seal.first != seal.first);
    let forgotten = lock(&shared.opened).forget(seal.first);
    drop(forgotten);
    let folder = shared.segment_folder(seal.first);
    let taken = quarantine::take(&shared.quarantine, &shared.name, &folder);
    let folder = taken.as_ref().unwrap_or(&folder).display();
    let kept_aside = taken.is_ok();
    error!(log = shared.name, %folder, kept_aside, "a segment cannot be read; it is out of the log");
    Ok(Step::Skip(at))
}

/// Notes that records are lost, except what was deleted on purpose meanwhile.
/// Returns how many of them nobody had noted.
fn mark_lost(shared: &Shared, lost: Range<Sequence>, reason: &str) -> Result<u64, ReadError> {
    let new = mark(shared, lost, HoleReason::Lost, reason)?;
    let mut records = 0;
    // Each number is told once, however the damage comes to light.
    for Hole { from, until, .. } in new {
        records += until - from;
        error!(log = shared.name, from, until, reason, "records lost");
    }
    shared.metrics.lost(records);
    Ok(records)
}

fn mark_unused(shared: &Shared, unused: Range<Sequence>) -> Result<u64, ReadError> {
    let new = mark(shared, unused, HoleReason::Unused, "the segment ends")?;
    Ok(new.iter().map(|hole| hole.until - hole.from).sum())
}

/// What nobody had noted of it.
fn mark(
    shared: &Shared,
    numbers: Range<Sequence>,
    hole: HoleReason,
    reason: &str,
) -> Result<Vec<Hole>, ReadError> {
    if numbers.is_empty() {
        return Err(ReadError::Store(reason.to_owned()));
    }
    let noted = shared.state.update(|state| {
        let from = numbers.start.max(state.earliest);
        state.add_hole(Hole { from, until: numbers.end, reason: hole })
    });
    noted.map_err(|e| ReadError::Store(e.to_string()))
}
