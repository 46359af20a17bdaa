//! How much room the disk under the data directory has, and a little that is
//! kept for when it has none.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// sled writes up to 512 KiB and a snapshot before it lets a segment be read:
/// on a disk that others filled, what was written last could not even be sent
/// away. Given up by the piece: what is left of one would be written full.
const BALLAST: [&str; 8] = [
    "ballast.0",
    "ballast.1",
    "ballast.2",
    "ballast.3",
    "ballast.4",
    "ballast.5",
    "ballast.6",
    "ballast.7",
];
const PIECE_LEN: usize = 1 << 20;
/// Free bytes at which the ballast is taken on again.
const ROOM_FOR_BALLAST: u64 = 24 << 20;

/// The last reading of the disk's free bytes; taken by [`Disk::sample`].
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    free: AtomicU64,
}

impl Disk {
    pub(super) fn new(path: &Path) -> Self {
        let disk = Self { path: path.to_owned(), free: AtomicU64::new(u64::MAX) };
        disk.sample();
        disk.take_on_ballast();
        disk
    }

    /// Reads the free bytes anew. Where the system does not tell, they count
    /// as plenty: the write itself will tell.
    pub fn sample(&self) {
        let free = rustix::fs::statvfs(&self.path)
            .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        self.free.store(free, Ordering::Relaxed);
    }

    /// Bytes that were free when last read.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Keeps some bytes of the disk for [`Disk::drop_ballast`], while it has
    /// plenty. Waits for the disk.
    pub(super) fn take_on_ballast(&self) {
        if self.free() < ROOM_FOR_BALLAST {
            return;
        }
        for ballast in BALLAST.map(|name| self.path.join(name)) {
            if ballast.exists() {
                continue;
            }
            let taken = File::create(&ballast).and_then(|mut file| {
                // Some file systems store no zeros.
                file.write_all(&vec![0xb5; PIECE_LEN])?;
                file.sync_all()
            });
            if taken.is_err() {
                let _ = fs::remove_file(ballast);
                return;
            }
        }
    }

    /// Gives a piece of the kept bytes back, for what must be written now.
    /// `false` where there is none.
    pub(super) fn drop_ballast(&self) -> bool {
        BALLAST.iter().any(|name| {
            let dropped: io::Result<()> = fs::remove_file(self.path.join(name));
            dropped.is_ok()
        })
    }
}
