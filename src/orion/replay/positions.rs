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
    moving: bool,
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
            moving: false,
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
        if self.moving {
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
        self.moving = true;
        self.durable = (step.applied, step.staged);
        Some(step)
    }

    pub(super) fn moved(&mut self) {
        self.moving = false;
    }

    /// When a move may come due.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        if self.moving { None } else { self.wake }
    }

    /// Moves everything as far as it goes.
    pub(super) async fn move_now(&mut self, logs: &Logs) {
        self.target().take(logs).await;
    }
}

impl Step {
    pub(super) async fn take(self, logs: &Logs) {
        let moved = async {
            logs.write_backs.acknowledge(APPLIED, None, self.applied, false).await?;
            // Only now are outcomes below it of no use.
            logs.outcomes.acknowledge(APPLIED, None, self.journal, false).await?;
            logs.write_backs.acknowledge(STAGED, None, self.staged, false).await
        };
        if let Err(error) = moved.await {
            warn!(%error, "the position in the write-backs could not be kept; it will be, later");
        }
    }
}
