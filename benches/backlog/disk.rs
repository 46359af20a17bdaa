//! What the data takes on the disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// What is on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub bytes: u64,
    /// Segments of the stream `default`.
    pub segments: usize,
}

pub fn usage(data: &Path) -> anyhow::Result<Usage> {
    let mut usage = Usage { bytes: bytes(data), segments: 0 };
    let segments = data.join("streams/default/segments");
    if segments.exists() {
        usage.segments = std::fs::read_dir(segments)?.count();
    }
    Ok(usage)
}

/// What a folder holds; what is deleted meanwhile counts for nothing.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// What is left once nothing more is deleted.
pub async fn settled(data: &Path) -> anyhow::Result<Usage> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let usage = usage(data)?;
        if usage.segments <= 2 || Instant::now() > deadline {
            return Ok(usage);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// # Errors
/// Where the disk has less free than that.
pub fn ensure_room(folder: &Path, needed: u64) -> anyhow::Result<()> {
    let disk = rustix::fs::statvfs(folder).context("statvfs")?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(free >= needed, "{} needs {needed} bytes free, and has {free}", folder.display());
    Ok(())
}
