//! What a log must remember beside its records: epoch, reserved numbers,
//! consumers' positions, holes. Kept twice, with checksums.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::checked_file::{self, sync_folder};
use crate::record::{Sequence, trusted_ms};

const COPIES: [&str; 2] = ["state.a", "state.b"];

/// Why numbers between two segments carry no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoleReason {
    /// Reserved before an unclean end and never given out: readers skip it.
    Unused,
    /// There was, or may have been, something that is gone: readers are told.
    Lost,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Everything below is acknowledged.
    pub position: Sequence,
    /// When it last said so, ms since 1970; 0 where the clock was not set.
    pub moved_ms: u64,
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

/// The state with its place on the disk.
pub(super) struct StateFile {
    folder: PathBuf,
    state: State,
}

impl StateFile {
    /// Reads the state of a log's folder, or begins a new one.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, FoundState)> {
        let copies = COPIES.map(|name| checked_file::read::<State>(&folder.join(name)));
        let damaged = copies.iter().filter(|copy| copy.is_err()).count();
        if let Some(Err(error)) = copies
            .iter()
            .find(|copy| matches!(copy, Err(error) if error.kind() != io::ErrorKind::InvalidData))
        {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let missing = copies.iter().filter(|copy| matches!(copy, Ok(None))).count();
        let newest = copies.into_iter().flatten().flatten().max_by_key(|state| state.generation);
        let (state, found) = match newest {
            Some(state) if damaged + missing == 0 => (state, FoundState::Whole),
            Some(state) => (state, FoundState::OneCopyDamaged),
            None if damaged > 0 => (State::new(), FoundState::BothDamaged),
            None => (State::new(), FoundState::New),
        };
        Ok((Self { folder: folder.to_owned(), state }, found))
    }

    pub(super) fn get(&self) -> &State {
        &self.state
    }

    /// Changes the state, and keeps the change only if it is on stable
    /// storage. One copy at a time, so that a cut damages at most one.
    pub(super) fn update<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut next = self.state.clone();
        let result = change(&mut next);
        if next == self.state && next.generation > 0 {
            return Ok(result);
        }
        next.generation += 1;
        // Numbers must never go back, even where the disk refuses the rest.
        for name in COPIES {
            checked_file::write(&self.folder.join(name), &next)?;
        }
        if next.generation == 1 {
            sync_folder(&self.folder)?;
        }
        self.state = next;
        Ok(result)
    }
}

impl State {
    fn new() -> Self {
        Self {
            generation: 0,
            epoch: new_epoch(),
            reserved: 0,
            written: 0,
            earliest: 0,
            holes: Vec::new(),
            consumers: BTreeMap::new(),
            evicted: Evicted::default(),
            lost: 0,
            marks: BTreeMap::new(),
            positions_lost_ms: None,
        }
    }

    /// Notes numbers without a record, in order and without overlap.
    pub(super) fn add_hole(&mut self, hole: Hole) {
        if hole.from >= hole.until || self.holes.contains(&hole) {
            return;
        }
        if hole.reason == HoleReason::Lost {
            self.lost += hole.until - hole.from;
        }
        let at = self.holes.partition_point(|other| other.from < hole.from);
        self.holes.insert(at, hole);
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
        Self { position, moved_ms: trusted_ms(SystemTime::now()) }
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
