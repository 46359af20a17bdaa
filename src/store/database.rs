//! One sled database, used as a row of cells that is filled from the front and
//! never changed. The only file that names sled.
//!
//! Measured of sled 0.34.7, and the reason for what is done here:
//! - `flush()` is no fsync on Linux, so `sync_data()` on its file follows.
//! - A leaf longer than a quarter of its segment becomes a blob file that is
//!   never synced, so values are short.
//! - A leaf is written anew, values and all, when it is split at seventeen
//!   items or has changed ten times: three bytes for each that was stored. So
//!   leaves are made before there is anything in them, from empty markers, with
//!   room for the six or seven cells between nine of these.
//! - A damaged file may make it panic.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::checked_file::sync_folder;
use super::preallocation::{self, LEN_UNIT, PAGE_LEN, Preallocation, ZEROS_WRITTEN};

const SLED_SEGMENT_LEN: usize = 512 * 1024;
const _: () = assert!(SLED_SEGMENT_LEN as u64 == LEN_UNIT);
const CACHE_LEN: u64 = 1024 * 1024;
/// The longest value of a cell: sled keeps it within its log even if all the
/// seventeen items that a leaf can have were cells.
pub(super) const CELL_LEN: usize = 6 * 1024;
const _: () = assert!((CELL_LEN as u64) < ZEROS_WRITTEN);
const _: () = assert!(20 * (CELL_LEN + 64) < SLED_SEGMENT_LEN / 4);
/// What sled and the markers add to a cell, about.
const CELL_OVERHEAD: u64 = 256;
/// How many cells may be missing in a row: sled leaves out what it cannot read
/// up to the end of its segment, which has room for fewer.
const LONGEST_GAP: u32 = 8 * 1024;
/// The leaves for so many cells are made at a time ...
const MARKED_AT_ONCE: u32 = 32;
/// ... and always for so many more than are filled: the last leaf is not split
/// yet, and a value in it would be written anew with it.
const MARKED_AHEAD: u32 = 24;

pub(super) const DATA_FILE: &str = "db";
pub(super) const CONF_FILE: &str = "conf";
/// Stays empty, and sled wants it there.
const BLOBS_FOLDER: &str = "blobs";

/// What can go wrong with a database.
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
    /// It opens, but nothing of what every segment begins with is in it.
    #[error("what it held is gone: its file was cut, emptied or written over")]
    Emptied,
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

    pub(super) fn is_full_disk(&self) -> bool {
        let (Self::Sled(sled::Error::Io(error)) | Self::Io(error)) = self else { return false };
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
            || tells(error, rustix::io::Errno::NOSPC)
    }

    /// What a disk says that cannot read, and also one that cannot write.
    pub(super) fn is_of_the_disk(&self) -> bool {
        let (Self::Sled(sled::Error::Io(error)) | Self::Io(error)) = self else { return false };
        tells(error, rustix::io::Errno::IO)
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

/// sled hands on copies of its errors, which only keep the text.
fn tells(error: &io::Error, errno: rustix::io::Errno) -> bool {
    let errno = errno.raw_os_error();
    error.raw_os_error() == Some(errno)
        || error.to_string().contains(&format!("(os error {errno})"))
}

/// An open database.
pub(super) struct Database {
    // `None` only while it is dropped.
    db: Option<sled::Db>,
    data: File,
    filling: Mutex<Option<Filling>>,
}

/// What only the one who fills it needs.
struct Filling {
    /// Cells below have their leaves.
    marked: u32,
    preallocation: Preallocation,
}

/// Stands in each from its making on: one without it has lost what it held.
const MADE_KEY: &[u8] = &[0xff; 6];

impl Database {
    /// Makes a new one, or opens what is there. A damaged snapshot or
    /// configuration is made anew: the one only speeds the start up, the other
    /// is always ours.
    pub(super) fn open(folder: &Path) -> Result<Self, SegmentError> {
        match Self::try_open(folder) {
            Err(error) if !error.is_passing() => {
                remove_helpers(folder)?;
                let database = Self::try_open(folder)?;
                File::open(folder.join(CONF_FILE))?.sync_all()?;
                sync_folder(folder)?;
                Ok(database)
            }
            opened => opened,
        }
    }

    fn try_open(folder: &Path) -> Result<Self, SegmentError> {
        let db = guarded(|| {
            Ok(sled::Config::new()
                .path(folder)
                .segment_size(SLED_SEGMENT_LEN)
                .cache_capacity(CACHE_LEN)
                .flush_every_ms(None)
                .open()?)
        })?;
        let data = OpenOptions::new().read(true).write(true).open(folder.join(DATA_FILE))?;
        Ok(Self { db: Some(db), data, filling: Mutex::default() })
    }

    fn db(&self) -> Result<&sled::Db, SegmentError> {
        self.db.as_ref().ok_or_else(|| SegmentError::Panicked("it was closed".to_owned()))
    }

    /// Makes it ready to be filled, up to about `bytes`.
    pub(super) fn begin(&self, bytes: u64) -> Result<(), SegmentError> {
        let mut preallocation = Preallocation::of(bytes);
        preallocation.begin(&self.data)?;
        guarded(|| Ok(self.db()?.insert(MADE_KEY, &[])?))?;
        *self.filling() = Some(Filling { marked: 0, preallocation });
        self.sync_all()
    }

    /// Nothing more will be filled: room that was made is given back.
    pub(super) fn end(&self) -> io::Result<()> {
        let filling = self.filling().take();
        if filling.is_some() { preallocation::give_back(&self.data, PAGE_LEN) } else { Ok(()) }
    }

    /// Whether what [`Database::begin`] left in it is still there.
    pub(super) fn was_begun(&self) -> Result<bool, SegmentError> {
        guarded(|| Ok(self.db()?.contains_key(MADE_KEY)?))
    }

    fn filling(&self) -> MutexGuard<'_, Option<Filling>> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything written before durable, the file's making included.
    pub(super) fn sync_all(&self) -> Result<(), SegmentError> {
        guarded(|| Ok(self.db()?.flush()?))?;
        Ok(self.data.sync_all()?)
    }

    /// Fills the cells from `first` on, the foremost last, and waits until
    /// they are on stable storage. After an error nothing more may be written
    /// or synced here: the kernel may have marked the failed pages clean.
    pub(super) fn fill(&self, first: u32, values: Vec<Vec<u8>>) -> Result<(), SegmentError> {
        let mut filling = self.filling();
        let Some(filling) = filling.as_mut() else {
            return Err(io::Error::other("nothing more may be written into it").into());
        };
        let cells = values.iter().zip(first..).map(|(value, _)| value.len() as u64 + CELL_OVERHEAD);
        // Nothing of sled's is under way here, and so nothing of it is in the
        // part of the file that is made.
        filling.preallocation.provide(&self.data, cells.sum())?;
        guarded(|| {
            let end = first.saturating_add(u32::try_from(values.len()).unwrap_or(u32::MAX));
            while filling.marked < end.saturating_add(MARKED_AHEAD) {
                for cell in filling.marked..filling.marked.saturating_add(MARKED_AT_ONCE) {
                    self.mark(cell)?;
                }
                filling.marked = filling.marked.saturating_add(MARKED_AT_ONCE);
            }
            for (cell, value) in (first..end).zip(values).rev() {
                self.db()?.insert(key(cell, 0), value)?;
            }
            self.db()?.flush()?;
            Ok(())
        })?;
        Ok(self.data.sync_data()?)
    }

    /// Three markers for two cells: nine are a leaf's half when it is split,
    /// and leave six or seven places to its sixteen.
    fn mark(&self, cell: u32) -> Result<(), SegmentError> {
        for marker in 1..=(2 - cell % 2) {
            let marker = u8::try_from(marker).unwrap_or(1);
            self.db()?.insert(key(cell, marker), &[])?;
        }
        Ok(())
    }

    /// What a cell holds.
    pub(super) fn get(
        &self,
        cell: u32,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, SegmentError> {
        guarded(|| Ok(self.db()?.get(key(cell, 0))?))
    }

    /// One past the last filled cell.
    pub(super) fn count(&self) -> Result<u32, SegmentError> {
        guarded(|| {
            let (mut cell, mut end) = (0, 0);
            while cell - end < LONGEST_GAP {
                if self.db()?.contains_key(key(cell, 0))? {
                    end = cell + 1;
                }
                cell += 1;
            }
            Ok(end)
        })
    }

    /// Bytes of its data file on the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        self.data.metadata().map_or(0, |data| data.blocks() * 512)
    }
}

impl Drop for Database {
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
            warn!(%error, "a segment was closed by a disk that fails");
        }
    }
}

/// Whether the length of a database's file that was being filled tells that
/// something is gone.
pub(super) fn was_cut(data: &File) -> io::Result<bool> {
    let len = data.metadata()?.len();
    Ok(len == 0 || len % LEN_UNIT != 0)
}

/// Removes what sled can do without, whatever stands there in its place.
pub(super) fn remove_helpers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_folder = entry.file_type()?.is_dir();
        if name == CONF_FILE || name.to_string_lossy().starts_with("snap.") {
            if is_folder {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        } else if name == BLOBS_FOLDER && !is_folder {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A cell's value has 0 behind its number, its markers follow.
fn key(cell: u32, marker: u8) -> [u8; 5] {
    let mut key = [marker; 5];
    key[..4].copy_from_slice(&cell.to_be_bytes());
    key
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
