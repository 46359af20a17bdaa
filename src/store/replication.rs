//! Filling a replica: groups and holes at the numbers that they have where
//! they come from. What is there already is left out, so that a repeat changes
//! nothing, and what would leave a gap is refused.
//!
//! Each step is durable before the next one begins: a hole is noted in the
//! state before the segment behind it is made, and what is in a segment counts
//! as soon as it can be read after a crash. So there is no moment at which a
//! number could get another meaning: its content is the same wherever it ends.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::chain::Sealed;
use super::committer::{Command, Committer, Condition};
use super::group::Group;
use super::log::{Log, Origin};
use super::segment::{self, PIECE_LEN, Segment};
use super::state::{Hole, HoleReason};
use super::{AppendError, lock};
use crate::record::Sequence;

/// A piece of what a gateway hands over.
#[derive(Debug)]
pub enum Part {
    /// Records.
    Group(Group),
    /// Numbers without one.
    Hole(Hole),
}

/// Why nothing was added to a replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicateError {
    /// It would leave a gap. Go back to `next`.
    #[error("the replica ends at {next}")]
    Gap {
        /// Where the replica ends.
        next: Sequence,
    },
    /// The limits or the disk refused it, or the gateway is stopping. Retry later.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Parts that follow each other from a number on.
pub(super) struct Replicate {
    from: Sequence,
    parts: Vec<Part>,
    reply: oneshot::Sender<Result<Sequence, ReplicateError>>,
}

impl Log {
    /// Adds parts that follow each other from `from` on, and answers with
    /// where the replica ends, once that is on stable storage. After an error
    /// a part of them may be there.
    ///
    /// # Errors
    /// [`ReplicateError::Gap`] where `from` is above the replica's end: then
    /// nothing was added. [`ReplicateError::Append`] where it is full or its
    /// disk refuses, and for a log that is no replica.
    pub async fn replicate(
        &self,
        from: Sequence,
        parts: Vec<Part>,
    ) -> Result<Sequence, ReplicateError> {
        if self.shared.origin == Origin::Own {
            return Err(AppendError::Disk("not a replica".to_owned()).into());
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Replicate(Replicate { from, parts, reply });
        self.commands.send(command).await.map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed.into()))
    }

    /// Closes what is being written, for its memory: nothing more is expected.
    pub(super) fn rest(&self) {
        // With a full queue there is something to come.
        let _ = self.commands.try_send(Command::Rest);
    }
}

impl Committer {
    pub(super) fn replicate(&mut self, asked: Replicate) {
        let Replicate { from, parts, reply } = asked;
        let stored = self.replicate_now(from, parts);
        if let Err(ReplicateError::Append(AppendError::Disk(reason))) = &stored
            && !self.shared.failing.swap(true, Ordering::Relaxed)
        {
            error!(log = self.shared.name, %reason, "the log cannot be written");
        }
        // The one who asked may have gone; the records stay.
        let _ = reply.send(stored);
    }

    fn replicate_now(
        &mut self,
        from: Sequence,
        parts: Vec<Part>,
    ) -> Result<Sequence, ReplicateError> {
        self.adopt_what_was_left()?;
        let next = lock(&self.shared.chain).next;
        if from > next {
            return Err(ReplicateError::Gap { next });
        }
        for part in parts {
            let next = lock(&self.shared.chain).next;
            match part {
                Part::Hole(hole) if hole.until > next => {
                    self.note_hole(Hole { from: hole.from.max(next), ..hole })?;
                }
                Part::Group(group) if group.header.end() > next => self.store_from(next, group)?,
                Part::Hole(_) | Part::Group(_) => {}
            }
        }
        Ok(lock(&self.shared.chain).next)
    }

    fn store_from(&mut self, next: Sequence, group: Group) -> Result<(), AppendError> {
        let started = Instant::now();
        let disk = |error: &dyn std::fmt::Display| AppendError::Disk(error.to_string());
        let group = if group.header.first < next {
            let rest = next..Sequence::MAX;
            let cut = group.cut_in_pieces(&rest, PIECE_LEN).map_err(|error| disk(&error))?;
            let Some(group) = cut else { return Ok(()) };
            group
        } else {
            group
        };
        let (records, bytes) = (u64::from(group.header.count), group.header.lines_len as usize);
        let stored = self.make_room().and_then(|()| self.write_surely(&group));
        if let Err(error) = stored {
            self.shared.metrics.refused(records);
            return Err(error);
        }
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            info!(log = self.shared.name, "the log is written again");
        }
        self.shared.metrics.committed(records, bytes, started.elapsed());
        self.rotate();
        Ok(())
    }

    /// Numbers in a segment have no gaps: what comes behind a hole goes into
    /// a new one.
    fn note_hole(&mut self, hole: Hole) -> Result<(), AppendError> {
        self.seal_active(Condition::Good);
        let is_empty = lock(&self.shared.chain).sealed.is_empty();
        let Hole { from, until, reason } = hole;
        let noted = self.shared.state.update_with_end(until, |state| {
            if reason == HoleReason::Evicted {
                state.evicted.records += until - from;
            }
            let begins = is_empty && from <= state.earliest;
            match reason {
                // The replica only begins later.
                HoleReason::Evicted if begins => {
                    state.evicted.until = until;
                    state.raise_earliest(until);
                }
                HoleReason::Acknowledged if begins => state.raise_earliest(until),
                _ => drop(state.add_hole(hole)),
            }
        });
        noted.map_err(|error| AppendError::Disk(error.to_string()))?;
        let log = &self.shared.name;
        match reason {
            HoleReason::Unused => {}
            HoleReason::Acknowledged => {
                info!(
                    log,
                    from, until, "records had been acknowledged at their gateway and are not here"
                );
            }
            HoleReason::Evicted => {
                warn!(
                    log,
                    from, until, "records were evicted at their gateway before they came here"
                );
            }
            HoleReason::Lost => {
                self.shared.metrics.lost(until - from);
                error!(
                    log,
                    from, until, "records were lost at their gateway before they came here"
                );
            }
        }
        lock(&self.shared.chain).next = until;
        self.shared.durable.send_replace(until);
        self.shared.progress.step();
        Ok(())
    }

    /// A segment that could not be read through at the start, the disk being
    /// full or the like, is read through before anything is put in its place.
    fn adopt_what_was_left(&mut self) -> Result<(), AppendError> {
        let Some(next) = lock(&self.shared.chain).unread else { return Ok(()) };
        let folder = self.shared.segment_folder(next);
        let disk = |error: &dyn std::fmt::Display| AppendError::Disk(error.to_string());
        let opened = Segment::open_afresh(&folder, &self.shared.disk);
        let seal = match opened.and_then(|segment| segment.scan(next)) {
            Ok(seal) => seal,
            Err(error) if error.is_passing() => return Err(disk(&error)),
            // Nobody can read it: it is asked for again.
            Err(_) => {
                lock(&self.shared.chain).unread = None;
                return Ok(());
            }
        };
        if seal.end > seal.first {
            seal.write(&folder).map_err(|error| disk(&error))?;
            let disk_bytes = segment::disk_bytes(&folder);
            let mut chain = lock(&self.shared.chain);
            chain.sealed.push_back(Sealed { seal, written: None, disk_bytes });
            chain.next = seal.end;
            drop(chain);
            self.shared.durable.send_replace(seal.end);
        }
        lock(&self.shared.chain).unread = None;
        Ok(())
    }
}
