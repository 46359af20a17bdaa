//! Whose log this is: the epoch a second time, bound to the very file that
//! holds it. In a copy of the folder the file is another, so a restored
//! backup is noticed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::checked_file::{self, sync_folder};
use super::state::{State, new_epoch};
use crate::record::Sequence;

/// Its name in the log's folder.
pub(super) const FILE: &str = "epoch";

/// A file of its own: a copy has another number, and where that is given out
/// again, another time of birth.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Itself {
    inode: u64,
    born_ns: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    #[serde(flatten)]
    known: Known,
    itself: Itself,
}

/// What is known of a log though its state is lost.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub epoch: String,
    /// Where the numbers went on when the state was lost before.
    pub numbers_above: Sequence,
}

/// What the log goes on with, given its state unless it is new.
pub(super) fn settle(folder: &Path, log: &str, state: Option<&State>) -> Known {
    let path = folder.join(FILE);
    let new = || Known { epoch: new_epoch(), numbers_above: 0 };
    let Some(state) = state else { return new() };
    match (read(&path), Itself::of(&path)) {
        (Some(identity), Ok(itself)) if identity.itself == itself => identity.known,
        (Some(identity), _) => {
            warn!(log, "the data directory is a copy: the log gets a new epoch");
            Known { epoch: new_epoch(), ..identity.known }
        }
        (None, _) => Known { epoch: state.epoch.clone(), numbers_above: state.reserved },
    }
}

/// Whether the folder was a log's already: only after a new log's state is
/// durable this is.
pub(super) fn is_kept(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Writes it down, where it is not yet: before the state says the same, but
/// for a new log after it.
pub(super) fn keep(folder: &Path, known: &Known) -> io::Result<()> {
    let path = folder.join(FILE);
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    drop(file);
    let identity = Identity { known: known.clone(), itself: Itself::of(&path)? };
    if read(&path).as_ref() == Some(&identity) {
        return Ok(());
    }
    checked_file::write(&path, &identity, 0)?;
    sync_folder(folder)
}

fn read(path: &Path) -> Option<Identity> {
    checked_file::read(path).ok().flatten()
}

impl Itself {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        // Not every file system knows it.
        let born = file.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|since| u64::try_from(since.as_nanos()).ok());
        Ok(Self { inode: file.ino(), born_ns })
    }
}
