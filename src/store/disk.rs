//! How much room the disk under the data directory has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
}
