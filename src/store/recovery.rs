//! Opening a log as it was left: by a clean end, a kill, a power cut, or with
//! damaged files. It always opens; what is gone is named exactly.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::chain::{Chain, Sealed};
use super::checked_file::{self, sync_folder};
use super::log::Setup;
use super::segment::{self, Seal, Segment};
use super::state::{FoundState, Hole, HoleReason, StateFile, new_epoch};
use super::{OpenError, quarantine};
use crate::record::{Sequence, trusted_ms};

/// Where the state is gone nobody knows what was reserved: far beyond it.
const BEYOND_ANY_RESERVATION: u64 = 1 << 32;
const IDENTITY_FILE: &str = "epoch";

/// The epoch a second time, bound to the very file that holds it: in a copy
/// of the folder the file is another, so a restored backup is noticed.
#[derive(Serialize, Deserialize)]
struct Identity {
    epoch: String,
    inode: u64,
}

/// Puts the chain of a log together and writes what was found into its state.
pub(super) fn recover(
    setup: &Setup,
    segments: &Path,
    state: &mut StateFile,
    found: FoundState,
) -> Result<Chain, OpenError> {
    let failed = |action| {
        let path = setup.folder.clone();
        move |source| OpenError::Io { action, path, source }
    };
    let name = &setup.name;
    let epoch = settle_epoch(setup, state, found).map_err(failed("settle the epoch of"))?;
    let folders = segment_folders(segments).map_err(failed("list the segments of"))?;
    let earliest = state.get().earliest;
    let mut seals: Vec<Seal> = Vec::new();
    let mut last_unreadable = false;
    for (first, folder) in folders {
        last_unreadable = false;
        let seal = match Seal::read(&folder).filter(|seal| seal.first == first) {
            Some(seal) => Some(seal),
            None => read_through(setup, first, &folder),
        };
        match seal {
            Some(seal) if seal.end > seal.first && seal.end > earliest => seals.push(seal),
            Some(_) => {
                let removed = fs::remove_dir_all(&folder).and_then(|()| sync_folder(segments));
                removed.map_err(failed("remove a deleted segment of"))?;
            }
            None => last_unreadable = true,
        }
    }
    // What a failed write left behind its last good sync has its numbers in
    // the next segment.
    for at in 1..seals.len() {
        let next = seals[at].first;
        seals[at - 1].end = seals[at - 1].end.min(next);
    }
    seals.retain(|seal| seal.first < seal.end);

    let mut holes = Vec::new();
    let mut at = earliest;
    for seal in &seals {
        note_gap(&mut holes, &state.get().holes, at, seal.first);
        at = at.max(seal.end);
    }
    let state_now = state.get();
    let known = state_now.consumers.values().map(|consumer| consumer.position).max();
    let mut evidence = known.unwrap_or(0).max(state_now.written);
    if last_unreadable {
        // How far it went nobody knows: at most to what was reserved.
        evidence = evidence.max(state_now.reserved).max(at + 1);
    }
    note_gap(&mut holes, &state_now.holes, at, evidence);
    let ended = at.max(evidence);
    let next = match found {
        FoundState::BothDamaged => ended + BEYOND_ANY_RESERVATION,
        // A state that is new while there are segments has lost its files.
        FoundState::New if !seals.is_empty() => ended + BEYOND_ANY_RESERVATION,
        _ => ended.max(state_now.reserved),
    };
    if next > ended {
        info!(log = name, from = ended, until = next, "numbers left unused after an unclean end");
    }
    for hole in &holes {
        error!(log = name, from = hole.from, until = hole.until, "records lost");
    }
    let lost_records: u64 = holes.iter().map(|hole| hole.until - hole.from).sum();
    setup.metrics.lost(lost_records);
    let written = state.update(|state| {
        state.epoch = epoch;
        for hole in &holes {
            state.add_hole(*hole);
        }
        state.add_hole(Hole { from: ended, until: next, reason: HoleReason::Unused });
        state.reserved = next;
        state.written = next;
        if found == FoundState::BothDamaged {
            state.earliest = seals.first().map_or(next, |seal| seal.first);
            state.holes.retain(|hole| hole.until > state.earliest);
            state.positions_lost_ms = Some(trusted_ms(SystemTime::now()));
        }
    });
    written.map_err(failed("write the state of"))?;
    let sealed: VecDeque<Sealed> = seals
        .into_iter()
        .map(|seal| {
            let folder = segments.join(folder_name(seal.first));
            Sealed { seal, disk_bytes: segment::disk_bytes(&folder) }
        })
        .collect();
    Ok(Chain { sealed, active: None, next })
}

/// The name of a segment's folder: sorted as text it is sorted by number.
pub(super) fn folder_name(first: Sequence) -> String {
    format!("{first:020}")
}

fn segment_folders(segments: &Path) -> std::io::Result<Vec<(Sequence, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(segments)? {
        let entry = entry?;
        if let Some(first) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            folders.push((first, entry.path()));
        } else {
            warn!(path = %entry.path().display(), "not a segment; left alone");
        }
    }
    folders.sort_unstable();
    Ok(folders)
}

/// What a segment without a seal holds; `None` where it cannot be opened, and
/// is in quarantine now.
fn read_through(setup: &Setup, first: Sequence, folder: &Path) -> Option<Seal> {
    let scanned = Segment::open(folder).and_then(|segment| segment.scan(first));
    match scanned {
        Ok(seal) => {
            if seal.end > seal.first
                && let Err(error) = seal.write(folder)
            {
                // Only means that the next start reads it through again.
                warn!(log = setup.name, first, %error, "a recovered segment could not be sealed");
            }
            Some(seal)
        }
        Err(error) => {
            error!(log = setup.name, folder = %folder.display(), %error, "a segment cannot be read and goes into quarantine");
            if let Err(error) = quarantine::take(&setup.quarantine, &setup.name, folder) {
                error!(log = setup.name, folder = %folder.display(), %error, "quarantine failed; the segment is left where it is");
            }
            None
        }
    }
}

/// Notes what of `from..until` no known hole explains.
fn note_gap(holes: &mut Vec<Hole>, known: &[Hole], from: Sequence, until: Sequence) {
    let mut at = from;
    for hole in known.iter().filter(|hole| hole.until > from && hole.from < until) {
        if at < hole.from {
            holes.push(Hole { from: at, until: hole.from, reason: HoleReason::Lost });
        }
        at = at.max(hole.until);
    }
    if at < until {
        holes.push(Hole { from: at, until, reason: HoleReason::Lost });
    }
}

/// The epoch this log goes on with.
fn settle_epoch(setup: &Setup, state: &StateFile, found: FoundState) -> std::io::Result<String> {
    let path = setup.folder.join(IDENTITY_FILE);
    let identity = checked_file::read::<Identity>(&path).ok().flatten();
    let inode = fs::metadata(&path).map(|file| file.ino()).ok();
    let state_is_gone = matches!(found, FoundState::BothDamaged | FoundState::New);
    let epoch = match identity {
        Some(identity) if Some(identity.inode) != inode => {
            warn!(log = setup.name, "the data directory is a copy: the log gets a new epoch");
            new_epoch()
        }
        Some(identity) if state_is_gone => identity.epoch,
        _ => state.get().epoch.clone(),
    };
    match found {
        FoundState::OneCopyDamaged => {
            warn!(log = setup.name, "one copy of the log's state was damaged; the other is whole");
        }
        FoundState::BothDamaged => {
            error!(
                log = setup.name,
                "both copies of the log's state are damaged: consumers' positions are lost; nothing is deleted until they had time to come back"
            );
        }
        FoundState::Whole | FoundState::New => {}
    }
    let is_current = inode.is_some()
        && checked_file::read::<Identity>(&path).is_ok_and(|file| {
            file.is_some_and(|file| file.epoch == epoch && Some(file.inode) == inode)
        });
    if !is_current {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let inode = file.metadata()?.ino();
        checked_file::write(&path, &Identity { epoch: epoch.clone(), inode })?;
        sync_folder(&setup.folder)?;
    }
    Ok(epoch)
}
