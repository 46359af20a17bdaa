//! What a log holds, in memory: its segments in order, and where it ends.
//! Changed only by the log's committer; readers look things up in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::segment::{Seal, Segment};
use crate::record::Sequence;

/// A segment that will not grow any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    pub seal: Seal,
    /// Its last commit, where that was in this run.
    pub written: Option<Instant>,
    pub disk_bytes: u64,
}

/// The segment that is being written.
pub(super) struct Active {
    pub seal: Seal,
    pub segment: Arc<Segment>,
    /// Its last commit.
    pub written: Instant,
    pub disk_bytes: u64,
}

pub(super) struct Chain {
    pub sealed: VecDeque<Sealed>,
    pub active: Option<Active>,
    /// The number that the next record gets; all below are on stable storage.
    pub next: Sequence,
    /// A replica's last segment, where that could not be read through at the
    /// start: what it holds is not counted yet.
    pub unread: Option<Sequence>,
}

/// Where to read a number.
pub(super) enum Place {
    /// In a sealed segment.
    Sealed(Seal),
    /// In the one being written.
    Active(Arc<Segment>, Seal),
    /// In none; the next record, if there is one, has this number.
    Hole(Option<Sequence>),
}

impl Chain {
    pub(super) fn disk_bytes(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.disk_bytes).sum::<u64>()
            + self.active.as_ref().map_or(0, |active| active.disk_bytes)
    }

    /// Notes how much a sealed segment takes now.
    pub(super) fn set_disk_bytes(&mut self, first: Sequence, disk_bytes: u64) {
        if let Some(sealed) = self.sealed.iter_mut().find(|sealed| sealed.seal.first == first) {
            sealed.disk_bytes = disk_bytes;
        }
    }

    pub(super) fn seals(&self) -> impl DoubleEndedIterator<Item = Seal> {
        let sealed = self.sealed.iter().map(|sealed| sealed.seal);
        sealed.chain(self.active.as_ref().map(|active| active.seal))
    }

    /// How many records have a number of `from` or above.
    pub(super) fn records_from(&self, from: Sequence) -> u64 {
        self.seals().map(|seal| seal.end.saturating_sub(seal.first.max(from))).sum()
    }

    /// Where the last `count` records begin, whatever holes lie between them.
    pub(super) fn last(&self, count: u64) -> Sequence {
        let (mut from, mut left) = (self.next, count);
        for seal in self.seals().rev() {
            from = seal.end.saturating_sub(left).max(seal.first);
            left = left.saturating_sub(seal.end - seal.first);
            if left == 0 {
                break;
            }
        }
        from
    }

    pub(super) fn find(&self, seq: Sequence) -> Place {
        let at = self.sealed.partition_point(|sealed| sealed.seal.end <= seq);
        if let Some(sealed) = self.sealed.get(at) {
            return if sealed.seal.first <= seq {
                Place::Sealed(sealed.seal)
            } else {
                Place::Hole(Some(sealed.seal.first))
            };
        }
        match &self.active {
            Some(active) if active.seal.end > seq => {
                if active.seal.first <= seq {
                    Place::Active(Arc::clone(&active.segment), active.seal)
                } else {
                    Place::Hole(Some(active.seal.first))
                }
            }
            _ => Place::Hole(None),
        }
    }
}
