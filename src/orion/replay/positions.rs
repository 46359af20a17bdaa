//! The positions that the replay keeps in the logs, moved from time to time:
//! each move is a few synced writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Logs;
use super::journal::Needed;
use crate::record::Sequence;
use crate::write_back::{APPLIED, STAGED};

/// Outcomes after which positions are moved though there is more to do.
const OUTCOMES: usize = 1024;
/// How long a move may wait where there is nothing else to do.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Positions {
    /// All entries below are read.
    read: Sequence,
    /// The oldest staged attempt that may still be committed, as far as read.
    staged: Option<Sequence>,
    /// Unfinished commits, with the oldest entry that each needs.
    commits: BTreeMap<Sequence, Sequence>,
    needed: Needed,
    /// The entry of the oldest unfinished unit.
    lowest: Option<Sequence>,
    /// As they were moved last.
    durable: (Sequence, Sequence),
    outcomes: usize,
    /// Where a move under way leads.
    moving: Option<(Sequence, Sequence)>,
    wake: Option<Instant>,
}

/// A move that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    applied: Sequence,
    staged: Sequence,
    journal: Sequence,
}

impl Positions {
    pub(super) fn new(applied: Sequence, staged: Sequence, needed: Needed) -> Self {
        Self {
            read: applied,
            staged: None,
            commits: BTreeMap::new(),
            needed,
            lowest: None,
            durable: (applied, staged),
            outcomes: 0,
            moving: None,
            wake: None,
        }
    }

    pub(super) fn read(&self) -> Sequence {
        self.read
    }

    /// A commit begins.
    pub(super) fn begin(&mut self, commit: Sequence, needs: Sequence) {
        self.commits.insert(commit, needs);
    }

    /// All below `next` is read.
    pub(super) fn end(&mut self, next: Sequence, staged: Option<Sequence>) {
        if next >= self.read {
            self.read = next;
            self.staged = staged;
        }
    }

    pub(super) fn lowest(&mut self, lowest: Option<Sequence>) {
        self.lowest = lowest;
    }

    pub(super) fn noted(&mut self, records: &Range<Sequence>, highest: Sequence, done: usize) {
        self.needed.add(records, highest);
        self.outcomes += done;
    }

    fn target(&mut self) -> Step {
        // A half-read entry is not below `read`.
        let applied = self.lowest.map_or(self.read, |lowest| lowest.min(self.read));
        // Never back: entries below were applied by an earlier run.
        let applied = applied.max(self.durable.0);
        self.commits = self.commits.split_off(&applied);
        let needs = self.commits.values().copied().min();
        let staged = [self.staged, needs].into_iter().flatten().fold(applied, Sequence::min);
        Step { applied, staged, journal: self.needed.lowest(applied) }
    }

    /// The move to make now, if one is.
    pub(super) fn due(&mut self, now: Instant) -> Option<Step> {
        if self.moving.is_some() {
            return None;
        }
        let step = self.target();
        if (step.applied, step.staged) == self.durable {
            self.wake = None;
            return None;
        }
        if self.outcomes < OUTCOMES {
            let wake = *self.wake.get_or_insert(now + IDLE);
            if wake > now {
                return None;
            }
        }
        self.wake = None;
        self.outcomes = 0;
        self.moving = Some((step.applied, step.staged));
        Some(step)
    }

    /// A move has ended; one that failed comes due again.
    pub(super) fn moved(&mut self, is_kept: bool) {
        let to = self.moving.take();
        self.durable = to.filter(|_| is_kept).unwrap_or(self.durable);
    }

    /// When a move may come due.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        if self.moving.is_some() { None } else { self.wake }
    }

    /// Moves everything as far as it goes.
    pub(super) async fn move_now(&mut self, logs: &Logs) {
        self.target().take(logs).await;
    }
}

impl Step {
    /// Makes the move; tells whether it is on stable storage.
    pub(super) async fn take(self, logs: &Logs) -> bool {
        let moved = async {
            logs.write_backs.acknowledge(APPLIED, None, self.applied, false).await?;
            // Only now are outcomes below it of no use.
            logs.outcomes.acknowledge(APPLIED, None, self.journal, false).await?;
            logs.write_backs.acknowledge(STAGED, None, self.staged, false).await
        };
        let kept = moved.await;
        if let Err(error) = &kept {
            warn!(%error, "the position in the write-backs could not be kept; it will be, later");
        }
        kept.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_could_not_be_kept_comes_due_again() {
        let mut positions = Positions::new(0, 0, Needed::default());
        let begun = Instant::now();
        positions.end(10, None);
        assert!(positions.due(begun).is_none(), "it may wait");
        let mut now = begun + IDLE;
        for _ in 0..2 {
            assert_eq!(positions.due(now).map(|step| step.applied), Some(10));
            assert!(positions.due(now).is_none(), "one at a time");
            positions.moved(false);
            assert!(positions.due(now).is_none(), "not at once");
            now = positions.wakes_at().unwrap();
        }
        assert!(positions.due(now).is_some());
        positions.moved(true);
        assert!(positions.due(now + IDLE).is_none());
        assert_eq!(positions.wakes_at(), None);
    }
}
