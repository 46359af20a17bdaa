//! Where segments go that cannot be read: kept for a person to look at, out
//! of the way of everything else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checked_file::sync_folder;

/// Moves a segment's folder into `quarantine`, under a name that says whose
/// it was. Returns where it is now.
pub(super) fn take(quarantine: &Path, log: &str, segment: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(quarantine)?;
    let first = segment.file_name().unwrap_or_default().to_string_lossy();
    let free_name = (0..=u32::MAX)
        .map(|n| quarantine.join(format!("{log}-{first}-{n}")))
        .find(|path| !path.exists())
        .ok_or_else(|| io::Error::other("no free name"))?;
    fs::rename(segment, &free_name)?;
    sync_folder(quarantine)?;
    if let Some(parent) = segment.parent() {
        sync_folder(parent)?;
    }
    Ok(free_name)
}
