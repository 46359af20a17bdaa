//! Where the replicas and outboxes of a relay lie in its data directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::checked_file::sync_folder;
use super::is_stream_name;

pub(super) const REPLICAS: &str = "replicas";
pub(super) const OUTBOXES: &str = "outboxes";

/// A log that was found in the data directory.
pub(super) struct Found {
    pub gateway: String,
    pub folder: PathBuf,
    pub kind: FoundKind,
}

pub(super) enum FoundKind {
    Replica { stream: String, ordinal: u64, epoch: String },
    Outbox,
}

/// Makes a folder below `root` so that it is there after a power cut.
pub(super) fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for made in folder.ancestors().take_while(|ancestor| *ancestor != root) {
        sync_folder(made)?;
    }
    sync_folder(root)
}

/// Every replica and outbox that there is.
pub(super) fn find(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (gateway, folder) in folders(&root.join(REPLICAS))? {
        for (stream, folder) in folders(&folder)? {
            for (name, folder) in folders(&folder)? {
                let Some((ordinal, epoch)) = name.split_once('-') else { continue };
                let Ok(ordinal) = ordinal.parse() else { continue };
                let (stream, epoch) = (stream.clone(), epoch.to_owned());
                let kind = FoundKind::Replica { stream, ordinal, epoch };
                found.push(Found { gateway: gateway.clone(), folder, kind });
            }
        }
    }
    let outboxes = folders(&root.join(OUTBOXES))?.into_iter();
    found.extend(outboxes.map(|(gateway, folder)| Found {
        gateway,
        folder,
        kind: FoundKind::Outbox,
    }));
    Ok(found)
}

/// The folders in a folder whose names we would give; none where there is none.
fn folders(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut folders = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        match entry.file_name().into_string() {
            Ok(name) if is_stream_name(&name) => {
                folders.insert(name, entry.path());
            }
            _ => warn!(path = %entry.path().display(), "not a replica; left alone"),
        }
    }
    Ok(folders)
}
