//! Who has which records: what each client was sent, how much of that its
//! kernel has acknowledged, and how far the consumer's position may go.
//!
//! Pure, so that every order of events can be tried.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::config::{Clients, Window};
use crate::record::Sequence;

/// A connection, told apart from all others of this run.
pub(super) type Id = u64;

/// A line that was handed to a client's kernel.
struct Piece {
    seq: Sequence,
    len: u64,
    /// Bytes on the wire up to its end.
    end: u64,
}

/// A connected client.
struct Open {
    /// Where it reads on, if each client gets all.
    cursor: Sequence,
    /// Where it began, unless that was another one's place.
    fresh: Option<Sequence>,
    /// Taken, and not yet sent.
    taken: Range<Sequence>,
    /// Sent: first those that are acknowledged and may be wanted again, then
    /// the others.
    pieces: VecDeque<Piece>,
    acknowledged: usize,
    acknowledged_bytes: u64,
}

/// Where a client was that has gone, for the next one that comes.
struct Place {
    at: Sequence,
    left: Instant,
}

pub(super) struct Ledger {
    clients: Clients,
    window: Window,
    place_expiry: Duration,
    /// Shared: the first number that nobody has taken. Repeated: where a
    /// client begins when there is no other.
    frontier: Sequence,
    /// Shared: what clients that went had not acknowledged.
    returned: VecDeque<Range<Sequence>>,
    /// Repeated: where clients that went have been.
    places: Vec<Place>,
    open: BTreeMap<Id, Open>,
    next_id: Id,
}

impl Open {
    /// The lowest number that it has not surely got.
    fn low(&self) -> Option<Sequence> {
        let taken = (!self.taken.is_empty()).then_some(self.taken.start);
        self.pieces.iter().map(|piece| piece.seq).chain(taken).min()
    }

    /// Forgets what is acknowledged and lies before the window.
    fn trim(&mut self, window: Window) {
        while self.acknowledged > 0 {
            let Some(first) = self.pieces.front() else { break };
            let is_within = match window {
                Window::Records(records) => self.acknowledged <= records,
                Window::Bytes(bytes) => self.acknowledged_bytes - first.len < bytes,
            };
            if is_within {
                break;
            }
            self.acknowledged -= 1;
            self.acknowledged_bytes -= first.len;
            self.pieces.pop_front();
        }
    }
}

impl Ledger {
    pub(super) fn new(
        clients: Clients,
        window: Window,
        place_expiry: Duration,
        position: Sequence,
    ) -> Self {
        Self {
            clients,
            window,
            place_expiry,
            frontier: position,
            returned: VecDeque::new(),
            places: Vec::new(),
            open: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// A client has connected. Where each gets all it goes on where the one
    /// was that has gone the furthest behind, else at the position.
    pub(super) fn join(&mut self) -> Id {
        let lowest = (0..self.places.len()).min_by_key(|at| self.places[*at].at);
        let place = lowest.map(|at| self.places.swap_remove(at).at);
        let cursor = place.unwrap_or_else(|| self.position());
        let id = self.next_id;
        self.next_id += 1;
        let open = Open {
            cursor,
            fresh: place.is_none().then_some(cursor),
            taken: cursor..cursor,
            pieces: VecDeque::new(),
            acknowledged: 0,
            acknowledged_bytes: 0,
        };
        self.open.insert(id, open);
        id
    }

    /// Where the next record for a client is, or will be.
    pub(super) fn next(&self, id: Id) -> Sequence {
        match (self.clients, self.open.get(&id)) {
            (Clients::Share, _) => self.returned.front().map_or(self.frontier, |range| range.start),
            (Clients::Repeat, Some(open)) => open.cursor,
            (Clients::Repeat, None) => 0,
        }
    }

    /// What a client is to read now, as far as there is something; to be
    /// followed by [`Ledger::took`]. Shared, nobody else may come between.
    pub(super) fn take(&mut self, id: Id) -> Range<Sequence> {
        let given_back = match self.clients {
            Clients::Share => self.returned.pop_front(),
            Clients::Repeat => None,
        };
        let range = given_back.unwrap_or_else(|| self.next(id)..Sequence::MAX);
        if let Some(open) = self.open.get_mut(&id).filter(|_| range.end < Sequence::MAX) {
            // Should it go now, this goes back.
            open.taken = range.clone();
        }
        range
    }

    /// A client has read what [`Ledger::take`] named, up to `until`.
    pub(super) fn took(&mut self, id: Id, asked: &Range<Sequence>, until: Sequence) {
        let until = until.min(asked.end);
        let Some(open) = self.open.get_mut(&id) else { return };
        open.taken = asked.start..until;
        if self.clients == Clients::Repeat {
            open.cursor = until;
        } else if asked.end == Sequence::MAX {
            self.frontier = until;
        } else if until < asked.end {
            self.returned.push_front(until..asked.end);
        }
    }

    /// A line went to a client's kernel; `end` is where it ends on the wire.
    pub(super) fn sent(&mut self, id: Id, seq: Sequence, len: u64, end: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.pieces.push_back(Piece { seq, len, end });
        open.taken.start = seq + 1;
    }

    /// All of what was taken is sent, or need not be.
    pub(super) fn done(&mut self, id: Id) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.taken.start = open.taken.end;
    }

    /// A client's kernel has acknowledged so many bytes on the wire.
    pub(super) fn acknowledged(&mut self, id: Id, wire: u64) {
        let window = self.window;
        let Some(open) = self.open.get_mut(&id) else { return };
        while let Some(piece) = open.pieces.get(open.acknowledged).filter(|piece| piece.end <= wire)
        {
            open.acknowledged_bytes += piece.len;
            open.acknowledged += 1;
        }
        open.trim(window);
    }

    /// Whether a client has something that its kernel has not acknowledged.
    pub(super) fn waits_for(&self, id: Id) -> bool {
        self.open.get(&id).is_some_and(|open| open.acknowledged < open.pieces.len())
    }

    /// A client has gone: what it surely got is done, all else comes again.
    pub(super) fn leave(&mut self, id: Id, now: Instant) {
        // With it, so that the position does not move by this.
        let position = self.position();
        let Some(open) = self.open.remove(&id) else { return };
        match self.clients {
            Clients::Repeat => {
                // Who came and went without a record has missed none.
                if open.fresh != Some(open.cursor) {
                    self.places.push(Place { at: open.low().unwrap_or(open.cursor), left: now });
                }
                self.frontier = position;
            }
            Clients::Share => {
                let mut left: Vec<_> =
                    open.pieces.iter().map(|piece| piece.seq..piece.seq + 1).collect();
                left.extend(Some(open.taken).filter(|taken| !taken.is_empty()));
                left.extend(self.returned.drain(..));
                left.sort_unstable_by_key(|range| range.start);
                for range in left {
                    match self.returned.back_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => self.returned.push_back(range),
                    }
                }
            }
        }
    }

    /// Gives up places that nobody came back to, while others read on.
    pub(super) fn expire_places(&mut self, now: Instant) {
        if !self.open.is_empty() {
            let expiry = self.place_expiry;
            self.places.retain(|place| now.duration_since(place.left) < expiry);
        }
    }

    /// How far the consumer's position may go.
    pub(super) fn position(&self) -> Sequence {
        match self.clients {
            Clients::Share => {
                let lows = self.open.values().filter_map(Open::low);
                let returned = self.returned.iter().map(|range| range.start);
                lows.chain(returned).min().unwrap_or(self.frontier).min(self.frontier)
            }
            Clients::Repeat => {
                let lows = self.open.values().map(|open| open.low().unwrap_or(open.cursor));
                lows.chain(self.places.iter().map(|place| place.at)).min().unwrap_or(self.frontier)
            }
        }
    }

    /// Connected clients.
    pub(super) fn clients(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
