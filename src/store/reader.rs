//! Reading a log: groups from a number on, over segments and holes.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tracing::error;

use super::chain::Place;
use super::group::Group;
use super::log::{Log, Shared};
use super::segment::{Found, Seal, Segment, SegmentError};
use super::state::{Hole, HoleReason};
use super::{GoneReason, ReadError, lock, quarantine};
use crate::record::{Record, Sequence};

/// Sealed segments that stay open between reads, for each log.
const KEPT_OPEN: usize = 2;
/// How long sled may take to let go of a segment that another reader closed.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Sealed segments that are open. Each sled database can be open once only,
/// so whoever reads a segment shares it.
#[derive(Default)]
pub(super) struct Opened {
    kept: Vec<(Sequence, Arc<Segment>)>,
    in_use: Vec<(Sequence, Weak<Segment>)>,
}

impl Opened {
    /// Keeps a segment open for the next reader.
    pub(super) fn keep(&mut self, first: Sequence, segment: &Arc<Segment>) {
        self.kept.retain(|(other, _)| *other != first);
        self.kept.insert(0, (first, Arc::clone(segment)));
        self.kept.truncate(KEPT_OPEN);
        self.in_use.retain(|(other, weak)| *other != first && weak.strong_count() > 0);
        self.in_use.push((first, Arc::downgrade(segment)));
    }

    fn get(&mut self, first: Sequence) -> Option<Arc<Segment>> {
        let (_, segment) = self.in_use.iter().find(|(other, _)| *other == first)?;
        let segment = segment.upgrade()?;
        self.keep(first, &segment);
        Some(segment)
    }

    pub(super) fn forget(&mut self, first: Sequence) {
        self.kept.retain(|(other, _)| *other != first);
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
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
        match step(shared, at)? {
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
                if !groups.is_empty() && bytes + group.header.lines_len as usize > max_bytes {
                    break;
                }
                bytes += group.header.lines_len as usize;
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

fn step(shared: &Shared, at: Sequence) -> Result<Step, ReadError> {
    {
        let state = lock(&shared.state);
        let state = state.get();
        if at < state.earliest {
            let evicted = at < state.evicted.until;
            let reason = if evicted { GoneReason::Evicted } else { GoneReason::Acknowledged };
            return Ok(Step::Gone { earliest: state.earliest, reason });
        }
        if let Some(hole) = state.holes.iter().find(|hole| hole.from <= at && at < hole.until) {
            return Ok(match hole.reason {
                HoleReason::Unused => Step::Skip(hole.until),
                HoleReason::Lost => Step::Gone { earliest: hole.until, reason: GoneReason::Lost },
            });
        }
    }
    let place = lock(&shared.chain).find(at);
    let (segment, seal) = match place {
        Place::Active(segment, seal) => (segment, seal),
        Place::Sealed(seal) => match open(shared, seal) {
            Ok(segment) => (segment, seal),
            Err(error) => return give_up_segment(shared, seal, at, &error),
        },
        // Deleted between the two looks, or a hole that nobody noted.
        Place::Hole(next) => {
            let known_until = next.unwrap_or(*shared.durable.borrow());
            if lock(&shared.state).get().earliest <= at {
                mark_lost(shared, at..known_until, "no segment holds these numbers")?;
            }
            return Ok(Step::Skip(at));
        }
    };
    match segment.read(at) {
        Ok(Found::Group(group)) if group.header.first <= at => Ok(Step::Group(group)),
        Ok(Found::Group(group)) => {
            mark_lost(shared, at..group.header.first, "a group is missing in its segment")?;
            Ok(Step::Skip(at))
        }
        Ok(Found::Damaged { first, resume, damage }) => {
            let until = resume.unwrap_or(seal.end).min(seal.end);
            mark_lost(shared, first.max(seal.first)..until, &damage.to_string())?;
            Ok(Step::Skip(at))
        }
        Ok(Found::End) => {
            mark_lost(shared, at..seal.end, "the segment is shorter than its seal says")?;
            Ok(Step::Skip(at))
        }
        Err(error) => {
            drop(segment);
            give_up_segment(shared, seal, at, &error)
        }
    }
}

fn open(shared: &Shared, seal: Seal) -> Result<Arc<Segment>, SegmentError> {
    let deadline = Instant::now() + UNLOCK_PATIENCE;
    let folder = shared.segment_folder(seal.first);
    loop {
        // Held while opening: two readers must not open one segment.
        let mut opened = lock(&shared.opened);
        if let Some(segment) = opened.get(seal.first) {
            return Ok(segment);
        }
        match Segment::open(&folder) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                opened.keep(seal.first, &segment);
                return Ok(segment);
            }
            Err(error) if error.is_lock() && Instant::now() < deadline => {
                drop(opened);
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A segment that cannot be opened goes to the quarantine, and what was in it
/// counts as lost. One that has just been deleted is no loss.
fn give_up_segment(
    shared: &Shared,
    seal: Seal,
    at: Sequence,
    error: &SegmentError,
) -> Result<Step, ReadError> {
    if at < lock(&shared.state).get().earliest {
        return Ok(Step::Skip(at));
    }
    if error.is_passing() {
        return Err(ReadError::Store(error.to_string()));
    }
    mark_lost(shared, seal.first..seal.end, &error.to_string())?;
    lock(&shared.opened).forget(seal.first);
    lock(&shared.chain).sealed.retain(|sealed| sealed.seal.first != seal.first);
    let folder = shared.segment_folder(seal.first);
    let taken = quarantine::take(&shared.quarantine, &shared.name, &folder);
    let folder = taken.as_ref().unwrap_or(&folder).display();
    let kept_aside = taken.is_ok();
    error!(log = shared.name, %folder, kept_aside, "a segment cannot be read; it is out of the log");
    Ok(Step::Skip(at))
}

fn mark_lost(shared: &Shared, lost: Range<Sequence>, reason: &str) -> Result<(), ReadError> {
    if lost.is_empty() {
        return Err(ReadError::Store(reason.to_owned()));
    }
    let hole = Hole { from: lost.start, until: lost.end, reason: HoleReason::Lost };
    lock(&shared.state)
        .update(|state| state.add_hole(hole))
        .map_err(|e| ReadError::Store(e.to_string()))?;
    shared.metrics.lost(lost.end - lost.start);
    error!(log = shared.name, from = lost.start, until = lost.end, reason, "records lost");
    Ok(())
}
