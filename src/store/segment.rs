//! One segment of a log: a whole sled database in a folder of its own, which
//! is filled, sealed, read, and deleted as one. The only file that names sled.
//!
//! Measured of sled 0.34.7, and the reason for what is done here:
//! `flush()` is no fsync on Linux, so `sync_data()` on its file follows;
//! a leaf longer than a quarter of its segment becomes a blob file that is
//! never synced, so values are cut; a damaged file may make it panic.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::checked_file::{self, sync_folder};
use super::disk::Disk;
use super::group::{Damaged, Group, GroupHeader, HEADER_LEN, MAX_GROUP_COUNT};
use crate::record::Sequence;

const SLED_SEGMENT_LEN: usize = 512 * 1024;
/// The longest value that sled keeps within its log whatever it does with it:
/// it rewrites leaves of up to seventeen items as one, and what is longer than
/// a quarter of its segment becomes a blob. Room for twenty.
pub(super) const CHUNK_LEN: usize = 6 * 1024;
const _: () = assert!(20 * (CHUNK_LEN + 64) < SLED_SEGMENT_LEN / 4);
/// How far behind damage the next group is looked for: a leaf of sled's holds
/// sixteen.
const FARTHEST_GROUP: u64 = 16 * 1024;
const CACHE_LEN: u64 = 1024 * 1024;
const DATA_FILE: &str = "db";
const CONF_FILE: &str = "conf";
const SEAL_FILE: &str = "seal";
/// Stands in the folder once all the rest of a new segment is durable.
const MADE_FILE: &str = "made";
/// How long sled may take to let go of a segment that another closed.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What can go wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A file could not be made, written, or synced.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// sled reported it.
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// sled panicked, which it does on some damaged files.
    #[error("sled panicked: {0}")]
    Panicked(String),
    /// It is still open elsewhere.
    #[error("the segment is still open")]
    Locked,
    /// The disk did not take what opening it writes, but all of it can be read.
    #[error("the disk refused a write to the segment: {0}")]
    Unwritable(String),
}

impl SegmentError {
    /// Somebody still has the database open.
    pub(super) fn is_lock(&self) -> bool {
        match self {
            Self::Locked => true,
            Self::Sled(sled::Error::Io(error)) => {
                error.to_string().contains("could not acquire lock")
            }
            _ => false,
        }
    }

    fn is_full_disk(&self) -> bool {
        let (Self::Sled(sled::Error::Io(error)) | Self::Io(error)) = self else { return false };
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
    }

    /// What a disk says that cannot read, and also one that cannot write.
    fn is_of_the_disk(&self) -> bool {
        let (Self::Sled(sled::Error::Io(error)) | Self::Io(error)) = self else { return false };
        let errno = rustix::io::Errno::IO.raw_os_error();
        // sled hands on copies of its errors, which only keep the text.
        error.raw_os_error() == Some(errno)
            || error.to_string().contains(&format!("(os error {errno})"))
    }

    /// It says nothing about the segment, and may be gone the next time.
    pub(super) fn is_passing(&self) -> bool {
        if matches!(self, Self::Unwritable(_)) {
            return true;
        }
        let (Self::Sled(sled::Error::Io(error)) | Self::Io(error)) = self else {
            return self.is_lock();
        };
        let kinds = [
            io::ErrorKind::OutOfMemory,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ];
        let errnos = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        self.is_lock()
            || self.is_full_disk()
            || kinds.contains(&error.kind())
            || errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
}

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
    /// The segment could not be read through yet, and `end` is as far as it
    /// may go: numbers below this were given out for sure.
    #[serde(skip)]
    pub assumed: Option<Sequence>,
}

impl Seal {
    /// Of a segment that holds nothing yet.
    pub(super) fn empty(first: Sequence) -> Self {
        Self { first, end: first, crc: 0, newest_ms: 0, assumed: None }
    }

    /// With one more group at its end.
    pub(super) fn with(mut self, group: &Group) -> Self {
        self.end = group.header.end();
        self.crc = crc32c::crc32c_append(self.crc, &group.crc().to_le_bytes());
        self.newest_ms = self.newest_ms.max(group.header.newest_ms);
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
    // `None` only while it is dropped.
    db: Option<sled::Db>,
    data: File,
    folder: PathBuf,
}

impl Segment {
    /// Makes a new segment, which counts only after its files, its folder
    /// and the folder above are on stable storage.
    pub(super) fn create(folder: &Path) -> Result<Self, SegmentError> {
        fs::create_dir(folder)?;
        let made = Self::open_database(folder).and_then(|segment| {
            segment.sync()?;
            File::open(folder.join(CONF_FILE))?.sync_all()?;
            sync_folder(folder)?;
            File::create_new(folder.join(MADE_FILE))?;
            sync_folder(folder)?;
            if let Some(parent) = folder.parent() {
                sync_folder(parent)?;
            }
            Ok(segment)
        });
        if made.is_err() {
            // A half-made folder would stand in the way of the next try.
            let _ = fs::remove_dir_all(folder);
        }
        made
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
            let data = File::open(folder.join(DATA_FILE))?;
            data.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => SegmentError::Locked,
                TryLockError::Error(error) => error.into(),
            })?;
            remove_helpers(folder)?;
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
        let segment = match Self::open_database(folder) {
            Ok(segment) => segment,
            Err(error) if error.is_passing() => return Err(error),
            Err(_) => {
                // A snapshot only speeds the start up, and the configuration
                // is always ours; a damaged one of either would keep an
                // undamaged log from opening.
                remove_helpers(folder)?;
                let segment = Self::open_database(folder)?;
                File::open(folder.join(CONF_FILE))?.sync_all()?;
                sync_folder(folder)?;
                segment
            }
        };
        segment.data.sync_all()?;
        Ok(segment)
    }

    fn open_database(folder: &Path) -> Result<Self, SegmentError> {
        let db = guarded(|| {
            Ok(sled::Config::new()
                .path(folder)
                .segment_size(SLED_SEGMENT_LEN)
                .cache_capacity(CACHE_LEN)
                .flush_every_ms(None)
                .open()?)
        })?;
        let data = File::open(folder.join(DATA_FILE))?;
        Ok(Self { db: Some(db), data, folder: folder.to_owned() })
    }

    fn db(&self) -> Result<&sled::Db, SegmentError> {
        self.db.as_ref().ok_or_else(|| SegmentError::Panicked("it was closed".to_owned()))
    }

    /// Writes a group and waits until it is on stable storage. After an
    /// error the segment must not be written or synced again: the kernel may
    /// have marked the failed pages clean.
    pub(super) fn write(&self, group: &Group) -> Result<(), SegmentError> {
        guarded(|| {
            // The head last: a group that was cut short in between has none,
            // and counts as never written. (A batch would be atomic too, but
            // writes a page more for each commit.)
            let chunks = group.to_chunks(CHUNK_LEN);
            for (chunk, bytes) in (0..group.header.chunks).zip(chunks).rev() {
                self.db()?.insert(key(group.header.first, chunk), bytes)?;
            }
            Ok(())
        })?;
        self.sync()
    }

    fn sync(&self) -> Result<(), SegmentError> {
        guarded(|| Ok(self.db()?.flush()?))?;
        Ok(self.data.sync_data()?)
    }

    /// The first group that holds `from` or a later number.
    ///
    /// Numbers in a segment have no gaps, so a group's neighbours are found by
    /// asking for the numbers around it. sled's own iterators would do it too,
    /// but put a mebibyte of `0xff` into the binary.
    pub(super) fn read(&self, from: Sequence) -> Result<Found, SegmentError> {
        guarded(|| {
            // Reading on from where a group ended is the usual case.
            if self.begins_at(from)? {
                return self.group(from);
            }
            if let Some(before) = self.begins_below(from)? {
                match self.group(before)? {
                    Found::Group(group) if group.header.end() <= from => {}
                    // It may have held `from`, unless another begins there.
                    Found::Damaged { resume: Some(resume), .. } if resume <= from => {}
                    found => return Ok(found),
                }
            }
            match self.begins_above(from)? {
                Some(first) => self.group(first),
                None => Ok(Found::End),
            }
        })
    }

    fn begins_at(&self, first: Sequence) -> Result<bool, SegmentError> {
        Ok(self.db()?.contains_key(key(first, 0))?)
    }

    fn begins_below(&self, seq: Sequence) -> Result<Option<Sequence>, SegmentError> {
        for first in (seq.saturating_sub(MAX_GROUP_COUNT)..seq).rev() {
            if self.begins_at(first)? {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn begins_above(&self, seq: Sequence) -> Result<Option<Sequence>, SegmentError> {
        for first in seq + 1..=seq.saturating_add(FARTHEST_GROUP) {
            if self.begins_at(first)? {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn group(&self, first: Sequence) -> Result<Found, SegmentError> {
        let damaged = |damage| -> Result<Found, SegmentError> {
            Ok(Found::Damaged { first, resume: self.begins_above(first)?, damage })
        };
        // Without its head a group was never completed.
        let Some(head) = self.db()?.get(key(first, 0))? else { return Ok(Found::End) };
        let header = match GroupHeader::decode(first, &head) {
            Ok(header) => header,
            Err(damage) => return damaged(damage),
        };
        // A damaged length must not become an allocation of gigabytes.
        let most = usize::from(header.chunks) * CHUNK_LEN;
        let mut frame = Vec::with_capacity(most.min(header.frame_len as usize));
        frame.extend_from_slice(&head[HEADER_LEN..]);
        for chunk in 1..header.chunks {
            match self.db()?.get(key(first, chunk))? {
                Some(bytes) => frame.extend_from_slice(&bytes),
                None => return damaged(Damaged::Short),
            }
        }
        match Group::verify(header, frame.into()) {
            Ok(group) => Ok(Found::Group(group)),
            Err(damage) => damaged(damage),
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
                    return Ok(seal);
                }
                Found::End => return Ok(seal),
            };
        }
    }

    /// Bytes of its data file on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.data.metadata().map_or(0, |data| data.blocks() * 512)
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Segment {
    /// sled syncs a database that it closes, and panics where that fails: as
    /// it does after a sync of ours that failed, each handle being told once.
    /// Whoever closes it, the committer above all, must live on.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = guarded(|| {
            drop(db);
            Ok(())
        });
        if let Err(error) = closed {
            warn!(folder = %self.folder.display(), %error, "a segment was closed by a disk that fails");
        }
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

/// Removes what sled can do without.
fn remove_helpers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == CONF_FILE || name.to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn key(first: Sequence, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
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

/// Runs something of sled's that panics on damaged files.
fn guarded<T>(run: impl FnOnce() -> Result<T, SegmentError>) -> Result<T, SegmentError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(SegmentError::Panicked(text.unwrap_or("without a message").to_owned()))
    })
}
