//! What a log must remember beside its records: epoch, reserved numbers,
//! consumers' positions, holes. Kept twice, with checksums.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::checked_file::{self, sync_folder};
use super::lock;
use crate::record::{Sequence, trusted_ms};

/// The names of its two copies.
pub(super) const COPIES: [&str; 2] = ["state.a", "state.b"];
/// Bytes that a copy takes from the start: what it must say on a disk that
/// has become full is written over blocks that it already has.
const COPY_LEN: usize = 16 << 10;

/// Why numbers between two segments carry no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoleReason {
    /// Reserved before an unclean end and never given out: readers skip it.
    Unused,
    /// There was, or may have been, something that is gone: readers are told.
    Lost,
    /// In a replica: retention had deleted it where it came from.
    Evicted,
    /// In a replica: every consumer had it where it came from.
    Acknowledged,
}

/// Numbers that carry no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// The first of them.
    pub from: Sequence,
    /// One past the last of them.
    pub until: Sequence,
    /// Why.
    pub reason: HoleReason,
}

/// A named reader and how far it has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Everything below is acknowledged.
    pub position: Sequence,
    /// When it last said so, ms since 1970; 0 where the clock was not set.
    pub moved_ms: u64,
    /// Who alone may move it, while it is heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// What retention took before every consumer had it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// How many records, since the log was made.
    pub records: u64,
    /// One past the newest of them.
    pub until: Sequence,
}

/// The durable state of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Counts the writes; the higher of two whole copies is the newer.
    generation: u64,
    /// Identity of the log.
    pub epoch: String,
    /// Numbers below may have been given out.
    pub reserved: Sequence,
    /// Where the log ended when this was written: evidence, should less be found.
    pub written: Sequence,
    /// Everything below was deleted on purpose.
    pub earliest: Sequence,
    /// The last segment that was begun, until the log is opened anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Sequence>,
    /// In order.
    pub holes: Vec<Hole>,
    pub consumers: BTreeMap<String, Consumer>,
    pub evicted: Evicted,
    /// Records that damage took, since the log was made.
    pub lost: u64,
    /// Small facts of the log's owner that must outlive its segments.
    pub marks: BTreeMap<String, String>,
    /// When both copies were found damaged, ms since 1970: until the
    /// consumers had time to come back, acknowledgements delete nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions_lost_ms: Option<u64>,
}

/// How the state was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundState {
    Whole,
    OneCopyDamaged,
    BothDamaged,
    New,
}

/// The state with its place on the disk. Read without waiting; changed by one
/// at a time, who waits for the disk.
pub(super) struct StateFile {
    folder: PathBuf,
    current: ArcSwap<State>,
    copies: Mutex<Copies>,
}

/// What is known of the two copies.
struct Copies {
    /// The newest generation that either may hold.
    generation: u64,
    /// The one to be written first: never the only one that is whole.
    first: usize,
    /// They may differ, or one of them may not be there.
    uneven: bool,
}

impl StateFile {
    /// Reads the state of a log's folder, or begins a new one.
    /// A new one gets `epoch`, or an epoch of its own.
    pub(super) fn open(folder: &Path, epoch: Option<&str>) -> io::Result<(Self, FoundState)> {
        let mut damaged = 0;
        let mut read = [None, None];
        for (copy, name) in read.iter_mut().zip(COPIES) {
            match checked_file::read::<State>(&folder.join(name)) {
                Ok(found) => *copy = found,
                Err(error) if is_damage(&error) => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        let [a, b] = read;
        let generation = |copy: &Option<State>| copy.as_ref().map(|state| state.generation);
        let (of_a, of_b) = (generation(&a), generation(&b));
        let found = match (of_a, of_b) {
            (Some(_), Some(_)) => FoundState::Whole,
            (None, None) if damaged > 0 => FoundState::BothDamaged,
            (None, None) => FoundState::New,
            _ => FoundState::OneCopyDamaged,
        };
        let copies = Copies {
            generation: of_a.max(of_b).unwrap_or(0),
            first: usize::from(of_a > of_b),
            uneven: of_a.is_none() || of_a != of_b,
        };
        let newest = if of_a > of_b { a } else { b };
        let current = ArcSwap::from_pointee(
            newest.unwrap_or_else(|| State::new(epoch.map_or_else(new_epoch, ToOwned::to_owned))),
        );
        Ok((Self { folder: folder.to_owned(), current, copies: Mutex::new(copies) }, found))
    }

    /// The state as it is on stable storage.
    pub(super) fn get(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// Changes the state, and keeps the change only if both copies are on
    /// stable storage. One copy at a time, so that a cut damages at most one.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        self.update_with_end(0, change)
    }

    /// As [`StateFile::update`], and notes where the log ends, if anything
    /// changes: that costs nothing then, and tells after damage what is missing.
    pub(super) fn update_with_end<T>(
        &self,
        end: Sequence,
        change: impl FnOnce(&mut State) -> T,
    ) -> io::Result<T> {
        let mut copies = lock(&self.copies);
        let current = self.get();
        let mut next = State::clone(&current);
        let result = change(&mut next);
        if next == *current && !copies.uneven {
            return Ok(result);
        }
        next.written = next.written.max(end);
        let may_be_new = std::mem::replace(&mut copies.uneven, true);
        // Never one that a failed write may have left: the higher is the newer.
        copies.generation += 1;
        next.generation = copies.generation;
        for at in [copies.first, 1 - copies.first] {
            copies.first = at;
            checked_file::write(&self.folder.join(COPIES[at]), &next, COPY_LEN)?;
        }
        if may_be_new {
            sync_folder(&self.folder)?;
        }
        copies.uneven = false;
        self.current.store(Arc::new(next));
        Ok(result)
    }
}

/// Whether the error means that what was written is not there any more. Any
/// other may pass, and must not cost the positions.
fn is_damage(error: &io::Error) -> bool {
    let of_the_medium = [rustix::io::Errno::IO, rustix::io::Errno::UCLEAN];
    error.kind() == io::ErrorKind::InvalidData
        || of_the_medium.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl State {
    fn new(epoch: String) -> Self {
        Self {
            generation: 0,
            epoch,
            reserved: 0,
            written: 0,
            earliest: 0,
            active: None,
            holes: Vec::new(),
            consumers: BTreeMap::new(),
            evicted: Evicted::default(),
            lost: 0,
            marks: BTreeMap::new(),
            positions_lost_ms: None,
        }
    }

    /// Notes numbers without a record, in order; what another hole already
    /// tells stays told by that. Returns what is new of it, in order.
    pub(super) fn add_hole(&mut self, hole: Hole) -> Vec<Hole> {
        let mut new = Vec::new();
        let mut from = hole.from;
        for known in self.holes.iter().filter(|k| k.until > hole.from && k.from < hole.until) {
            if from < known.from {
                new.push(Hole { from, until: known.from, ..hole });
            }
            from = from.max(known.until);
        }
        if from < hole.until {
            new.push(Hole { from, ..hole });
        }
        if hole.reason == HoleReason::Lost {
            self.lost += new.iter().map(|hole| hole.until - hole.from).sum::<u64>();
        }
        self.holes.extend(&new);
        self.holes.sort_unstable_by_key(|hole| hole.from);
        // Damage is found piece by piece; what lies together is told as one.
        self.holes.dedup_by(|hole, before| {
            let is_one = before.until == hole.from && before.reason == hole.reason;
            if is_one {
                before.until = hole.until;
            }
            is_one
        });
        new
    }

    /// Moves the log's start; nothing below is asked for again.
    pub(super) fn raise_earliest(&mut self, earliest: Sequence) {
        self.earliest = self.earliest.max(earliest);
        self.holes.retain(|hole| hole.until > self.earliest);
    }

    /// The lowest position of all consumers; `None` where there is none.
    pub(super) fn acknowledged(&self) -> Option<Sequence> {
        self.consumers.values().map(|consumer| consumer.position).min()
    }
}

impl Consumer {
    pub(super) fn at(position: Sequence) -> Self {
        Self { position, moved_ms: trusted_ms(SystemTime::now()), lease: None }
    }
}

/// 128 random bits in hex.
pub(super) fn new_epoch() -> String {
    let mut bytes = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if filled.is_err() {
        // No kernel since 3.17 refuses; the time still tells two logs apart.
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        bytes = nanos.to_be_bytes();
    }
    bytes.iter().fold(String::with_capacity(32), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
