//! One segment of a log: a whole database in a folder of its own, which is
//! filled with groups, sealed, read, and deleted as one.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::checked_file::{self, sync_folder};
pub use super::database::SegmentError;
use super::database::{self, CELL_LEN, CONF_FILE, DATA_FILE, Database};
use super::disk::Disk;
use super::group::{self, Damaged, Group, GroupHeader, Piece};
use super::preallocation::{self, LEN_UNIT};
use crate::record::Sequence;

/// The longest piece of a group.
pub(super) const PIECE_LEN: usize = CELL_LEN;
const SEAL_FILE: &str = "seal";
/// Stands in the folder once all the rest of a new segment is durable.
const MADE_FILE: &str = "made";
/// How long sled may take to let go of a segment that another closed.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a data file that are looked through at a time.
const RAW_BLOCK: usize = 256 << 10;

/// What a sealed segment holds, written beside it when it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// Number of its first record.
    pub first: Sequence,
    /// One past the number of its last record.
    pub end: Sequence,
    /// crc32c over the checksums of its groups, in order.
    pub crc: u32,
    /// Newest `received` in it, ms since 1970; 0 where no clock was set.
    pub newest_ms: u64,
    /// How many of its cells are filled.
    pub cells: u32,
    /// The segment could not be read through yet, and `end` is as far as it
    /// may go: numbers below this were given out for sure.
    #[serde(skip)]
    pub assumed: Option<Sequence>,
}

impl Seal {
    /// Of a segment that holds nothing yet.
    pub(super) fn empty(first: Sequence) -> Self {
        Self { first, end: first, crc: 0, newest_ms: 0, cells: 0, assumed: None }
    }

    /// With one more group at its end.
    pub(super) fn with(mut self, group: &Group) -> Self {
        self.end = group.header.end();
        self.crc = crc32c::crc32c_append(self.crc, &group.crc().to_le_bytes());
        self.newest_ms = self.newest_ms.max(group.header.newest_ms);
        self.cells += u32::from(group.header.pieces);
        self
    }

    /// Reads the seal of a segment's folder. A damaged one counts as none:
    /// the segment is then read through.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        checked_file::read(&folder.join(SEAL_FILE)).ok().flatten()
    }

    /// Writes it, durably.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        checked_file::write(&folder.join(SEAL_FILE), self, 0)?;
        sync_folder(folder)
    }
}

/// What reading on from a number found.
pub(super) enum Found {
    /// The first group that holds that number or a later one.
    Group(Group),
    /// A group that is damaged; what is behind it begins at `resume`, where
    /// there is anything.
    Damaged { first: Sequence, resume: Option<Sequence>, damage: Damaged },
    /// Nothing from there on.
    End,
}

/// An open segment.
pub(super) struct Segment {
    database: Database,
    folder: PathBuf,
    /// How many cells are filled. Moves after the sync.
    cells: AtomicU32,
    /// Where the last reading ended: reading on is the usual case.
    ended: Mutex<Ended>,
    /// What cannot be read counts as not there.
    around_damage: AtomicBool,
}

/// The cell behind a group, and the number behind it.
#[derive(Clone, Copy, Default)]
struct Ended {
    cell: u32,
    seq: Sequence,
}

/// A group's head, found in a cell.
struct Head<V> {
    cell: u32,
    header: GroupHeader,
    /// All that the cell holds.
    value: V,
}

impl<V> Head<V> {
    /// The cell behind its group.
    fn next(&self) -> u32 {
        self.cell + u32::from(self.header.pieces)
    }
}

impl Segment {
    /// Makes a new segment, which is to hold about `bytes`. It counts only
    /// after its files, its folder and the folder above are on stable storage.
    pub(super) fn create(folder: &Path, bytes: u64) -> Result<Self, SegmentError> {
        fs::create_dir(folder)?;
        let made = Database::open(folder).and_then(|database| {
            database.begin(bytes)?;
            File::open(folder.join(CONF_FILE))?.sync_all()?;
            sync_folder(folder)?;
            File::create_new(folder.join(MADE_FILE))?;
            sync_folder(folder)?;
            if let Some(parent) = folder.parent() {
                sync_folder(parent)?;
            }
            Ok(Self::of(database, folder, 0))
        });
        if made.is_err() {
            // A half-made folder would stand in the way of the next try.
            let _ = fs::remove_dir_all(folder);
        }
        made
    }

    fn of(database: Database, folder: &Path, cells: u32) -> Self {
        let (cells, ended) = (AtomicU32::new(cells), Mutex::default());
        let around_damage = AtomicBool::new(false);
        Self { database, folder: folder.to_owned(), cells, ended, around_damage }
    }

    /// Opens an existing segment and syncs it: what is readable from now on
    /// is on stable storage. Waits for a moment where it is still open.
    pub(super) fn open(folder: &Path, disk: &Disk) -> Result<Self, SegmentError> {
        patiently(disk, || Self::try_open(folder)).map_err(|error| judged(error, folder))
    }

    /// As [`Segment::open`], but believes nothing but the data: what else
    /// sled wrote may be newer than the data that reached the disk.
    pub(super) fn open_afresh(folder: &Path, disk: &Disk) -> Result<Self, SegmentError> {
        patiently(disk, || {
            // Not while another has it open; that one may be writing them.
            let data = File::options().read(true).write(true).open(folder.join(DATA_FILE))?;
            data.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => SegmentError::Locked,
                TryLockError::Error(error) => error.into(),
            })?;
            database::remove_helpers(folder)?;
            // sled would fill the room with zeros, on a disk that may be full.
            preallocation::give_back(&data, LEN_UNIT)?;
            drop(data);
            Self::try_open(folder)
        })
        .map_err(|error| judged(error, folder))
    }

    fn try_open(folder: &Path) -> Result<Self, SegmentError> {
        if !folder.join(DATA_FILE).is_file() {
            // sled would make an empty database and call it a success.
            return Err(io::Error::new(io::ErrorKind::NotFound, "its data file is missing").into());
        }
        let database = Database::open(folder)?;
        database.sync_all()?;
        let cells = match Seal::read(folder) {
            Some(seal) => seal.cells,
            None => database.count()?,
        };
        Ok(Self::of(database, folder, cells))
    }

    /// Writes a group and waits until it is on stable storage. After an
    /// error the segment must not be written again.
    pub(super) fn write(&self, group: &Group) -> Result<(), SegmentError> {
        let first = self.cells.load(Ordering::Acquire);
        // A group that was cut short has no head, and counts as never written.
        self.database.fill(first, group.to_pieces(PIECE_LEN))?;
        self.cells.store(first + u32::from(group.header.pieces), Ordering::Release);
        Ok(())
    }

    /// The first group that holds `from` or a later number.
    pub(super) fn read(&self, from: Sequence) -> Result<Found, SegmentError> {
        let ended = *self.ended();
        if ended.seq == from {
            return self.first_group_from(ended.cell);
        }
        match self.last_head_upto(from)? {
            None => self.first_group_from(0),
            Some(head) if head.header.end() <= from => self.first_group_from(head.next()),
            Some(head) => self.group(&head),
        }
    }

    /// From now on only what is damaged counts as gone. Not the first time:
    /// a handle that failed once goes on failing, whatever the disk holds.
    pub(super) fn read_around_damage(&self) {
        self.around_damage.store(true, Ordering::Relaxed);
    }

    fn value(&self, cell: u32) -> Result<Option<impl Deref<Target = [u8]> + use<>>, SegmentError> {
        match self.database.get(cell) {
            Err(error) if self.around_damage.load(Ordering::Relaxed) && !error.is_passing() => {
                Ok(None)
            }
            read => read,
        }
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first head in a cell not below `cell`; damaged ones are none.
    fn head_from(
        &self,
        mut cell: u32,
    ) -> Result<Option<Head<impl Deref<Target = [u8]> + use<>>>, SegmentError> {
        let end = self.cells.load(Ordering::Acquire);
        while cell < end {
            let Some(value) = self.value(cell)? else {
                cell += 1;
                continue;
            };
            match group::read_piece(&value) {
                Ok(Piece::Head(header)) => return Ok(Some(Head { cell, header, value })),
                Ok(Piece::Tail { next_head }) => cell += u32::from(next_head),
                Err(_) => cell += 1,
            }
        }
        Ok(None)
    }

    /// The last head whose group does not begin above `seq`: numbers grow
    /// with the cells.
    fn last_head_upto(
        &self,
        seq: Sequence,
    ) -> Result<Option<Head<impl Deref<Target = [u8]> + use<>>>, SegmentError> {
        let (mut low, mut high) = (0, self.cells.load(Ordering::Acquire));
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.head_from(middle)? {
                Some(found) if found.header.first <= seq => {
                    low = found.cell + 1;
                    best = Some(found);
                }
                _ => high = middle,
            }
        }
        Ok(best)
    }

    fn first_group_from(&self, cell: u32) -> Result<Found, SegmentError> {
        match self.head_from(cell)? {
            Some(head) => self.group(&head),
            None => Ok(Found::End),
        }
    }

    fn group(&self, head: &Head<impl Deref<Target = [u8]>>) -> Result<Found, SegmentError> {
        let Head { cell, header, value } = head;
        let piece = |place| self.value(cell + u32::from(place));
        match Group::from_pieces(*header, value, piece)? {
            Ok(group) => {
                *self.ended() = Ended { cell: head.next(), seq: header.end() };
                Ok(Found::Group(group))
            }
            Err(damage) => {
                let resume = self.head_from(cell + 1)?.map(|next| next.header.first);
                Ok(Found::Damaged { first: header.first, resume, damage })
            }
        }
    }

    /// Reads the segment through and says what it holds, damage in between
    /// included: who reads it is told of that.
    pub(super) fn scan(&self, first: Sequence) -> Result<Seal, SegmentError> {
        let mut seal = Seal::empty(first);
        let mut at = first;
        loop {
            at = match self.read(at)? {
                Found::Group(group) => {
                    seal = seal.with(&group);
                    seal.end
                }
                Found::Damaged { resume: Some(resume), .. } => resume,
                Found::Damaged { first, resume: None, .. } => {
                    seal.end = seal.end.max(first + 1);
                    break;
                }
                Found::End => break,
            };
        }
        seal.cells = self.cells.load(Ordering::Acquire);
        Ok(seal)
    }

    /// Whether what stands in each segment from its making on is there.
    pub(super) fn was_begun(&self) -> Result<bool, SegmentError> {
        self.database.was_begun()
    }

    /// Nothing more will be written into it.
    pub(super) fn end(&self) {
        // Where it fails, it only takes a little more room.
        let _ = self.database.end();
    }

    /// Bytes of its data file on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.database.disk_bytes()
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Bytes of a segment's folder on the disk.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

/// Whether the making of a segment was finished: before, nothing in it counts.
pub(super) fn was_made(folder: &Path) -> bool {
    folder.join(MADE_FILE).exists() || folder.join(SEAL_FILE).exists()
}

/// What stands in the file of a segment that was never sealed. To be asked
/// before sled opens it, which wipes what it does not understand.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Numbers below were written for sure, whatever can still be read of
    /// them: a group is written only when the one before it is on stable
    /// storage.
    pub written_upto: Sequence,
    /// Its length is none that an end of the process or the power leaves.
    pub was_cut: bool,
}

impl Remains {
    /// Of a file that cannot be read there are none: opening it will tell.
    pub(super) fn of(folder: &Path) -> Self {
        Self::read(folder).unwrap_or_default()
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let mut data = File::open(folder.join(DATA_FILE))?;
        let was_cut = database::was_cut(&data)?;
        let (mut block, mut written_upto) = (Vec::new(), 0);
        loop {
            let read = data.by_ref().take(RAW_BLOCK as u64).read_to_end(&mut block)?;
            let begun = group::headers_in(&block).map(|header| header.first);
            written_upto = begun.fold(written_upto, Sequence::max);
            if read == 0 {
                return Ok(Self { written_upto, was_cut });
            }
            // One may stand across the border of two blocks.
            block.drain(..block.len().saturating_sub(group::HEADER_LEN));
        }
    }
}

/// Tries again for a while where the database is still open, and once more
/// on a full disk where that can be given a little room.
fn patiently<T>(
    disk: &Disk,
    open: impl Fn() -> Result<T, SegmentError>,
) -> Result<T, SegmentError> {
    let deadline = Instant::now() + UNLOCK_PATIENCE;
    loop {
        match open() {
            Err(error) if error.is_lock() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.is_full_disk() && disk.drop_ballast() => {}
            opened => return opened,
        }
    }
}

/// Opening a segment writes to it. Where the disk refused that, the records
/// are no less there: as long as the data can be read it is not given up.
fn judged(error: SegmentError, folder: &Path) -> SegmentError {
    let reads_through = || -> io::Result<u64> {
        io::copy(&mut File::open(folder.join(DATA_FILE))?, &mut io::sink())
    };
    if error.is_of_the_disk() && reads_through().is_ok() {
        return SegmentError::Unwritable(error.to_string());
    }
    error
}
