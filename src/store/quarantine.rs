//! Where segments go that cannot be read, and whatever stands where the store
//! needs something of another kind: kept for a person to look at, out of the
//! way of everything else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::error;

use super::checked_file::sync_folder;

/// What the store needs at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// Has nothing at `path` but what is of that kind: a folder where a file
/// belongs, or the other way round, would keep the store from opening.
pub(super) fn clear_for(kind: Kind, quarantine: &Path, log: &str, path: &Path) -> io::Result<()> {
    let is_right = match fs::metadata(path) {
        Ok(found) if kind == Kind::Folder => found.is_dir(),
        Ok(found) => !found.is_dir(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if is_right {
        return Ok(());
    }
    let taken = take(quarantine, log, path)?;
    error!(log, path = %path.display(), needed = ?kind, taken = %taken.display(), "something of another kind stood there; it is out of the way");
    Ok(())
}

/// Moves a segment's folder, or a file, into `quarantine`, under a name that
/// says whose it was. Returns where it is now.
pub(super) fn take(quarantine: &Path, log: &str, segment: &Path) -> io::Result<PathBuf> {
    make(quarantine)?;
    let first = segment.file_name().unwrap_or_default().to_string_lossy();
    // A replica's name has its gateway in front.
    let log = log.replace('/', "_");
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

/// The quarantine itself may be what something else stands in the place of.
fn make(quarantine: &Path) -> io::Result<()> {
    if quarantine.exists() && !quarantine.is_dir() {
        let free_name = (0..=u32::MAX)
            .map(|n| quarantine.with_extension(n.to_string()))
            .find(|path| !path.exists())
            .ok_or_else(|| io::Error::other("no free name"))?;
        fs::rename(quarantine, free_name)?;
    }
    fs::create_dir_all(quarantine)
}
