//! Opening a log as it was left: by a clean end, a kill, a power cut, or with
//! damaged files. It always opens; what is gone is named exactly.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{error, info, warn};

use super::chain::{Chain, Sealed};
use super::checked_file::sync_folder;
use super::identity;
use super::log::Setup;
use super::segment::{self, Remains, Seal, Segment, SegmentError};
use super::state::{FoundState, Hole, HoleReason, State, StateFile};
use super::{OpenError, quarantine};
use crate::record::{Sequence, trusted_ms};

/// Where the state is gone nobody knows what was reserved: far beyond it.
const BEYOND_ANY_RESERVATION: u64 = 1 << 32;

/// Puts the chain of a log together and writes what was found into its state.
pub(super) fn recover(
    setup: &Setup,
    segments: &Path,
    state_file: &StateFile,
    found: FoundState,
) -> Result<Chain, OpenError> {
    let failed = |action| {
        let path = setup.folder.clone();
        move |source| OpenError::Io { action, path, source }
    };
    let folders = segment_folders(segments).map_err(failed("list the segments of"))?;
    let before = state_file.get();
    // A state that is new while there are segments, or an epoch, which is
    // written after it, has lost its files.
    let state_is_lost = match found {
        FoundState::BothDamaged => true,
        FoundState::New => !folders.is_empty() || identity::is_kept(&setup.folder),
        FoundState::Whole | FoundState::OneCopyDamaged => false,
    };
    say_what_was_found(setup, found, state_is_lost);
    let is_new = found == FoundState::New && !state_is_lost;
    let mut identity = identity::settle(&setup.folder, &setup.name, (!is_new).then_some(&before));

    let begun: Vec<Sequence> = folders.iter().map(|(first, _)| *first).collect();
    let Segments { mut seals, unreadable, written, leftovers } =
        read_segments(setup, folders, &before);
    let start = if state_is_lost { seals.first().map(|seal| seal.first) } else { None };
    let start = start.unwrap_or(before.earliest);
    let mut gaps = Gaps { at: start, known: &before.holes, new: Vec::new() };
    for seal in &seals {
        gaps.note(seal.first);
        // One whose end nobody knows yet holds at least what it is named for.
        gaps.at = gaps.at.max(if seal.assumed.is_some() { seal.first + 1 } else { seal.end });
    }
    let positions = before.consumers.values().map(|consumer| consumer.position);
    // What a body holds may look like a group: no number above the reserved
    // ones was ever given out.
    let written = written.min(before.reserved);
    let vanished = before.active.filter(|active| {
        let is_told = before.holes.iter().any(|h| h.from <= *active && *active < h.until);
        *active >= before.earliest && !is_told && !begun.contains(active)
    });
    let unreadable = unreadable.or(vanished);
    let mut evidence = positions.max().unwrap_or(0).max(before.written).max(written);
    if let Some(first) = unreadable {
        // How far it went nobody knows: at most to what was reserved.
        evidence = evidence.max(before.reserved).max(first + 1);
    }
    let assumed = seals.last_mut().filter(|seal| seal.assumed.is_some());
    if assumed.is_none() && !state_is_lost {
        gaps.note(evidence);
    }
    let ended = gaps.at.max(evidence);
    let next = if state_is_lost {
        let next = ended.max(identity.numbers_above) + BEYOND_ANY_RESERVATION;
        identity.numbers_above = next;
        next
    } else {
        ended.max(before.reserved)
    };
    let mut holes = gaps.new;
    if let Some(last) = assumed {
        (last.assumed, last.end) = (Some(evidence), next);
    } else if next > ended {
        info!(
            log = setup.name,
            from = ended,
            until = next,
            "numbers left unused after an unclean end"
        );
        holes.push(Hole { from: ended, until: next, reason: HoleReason::Unused });
    }
    let keep_identity =
        || identity::keep(&setup.folder, &identity).map_err(failed("write the epoch of"));
    if !is_new {
        keep_identity()?;
    }
    let lost = state_file.update(|state| {
        state.epoch.clone_from(&identity.epoch);
        state.reserved = next;
        state.written = next;
        state.active = None;
        if state_is_lost {
            state.earliest = if seals.is_empty() { next } else { start };
            state.positions_lost_ms = Some(trusted_ms(SystemTime::now()));
        }
        let lost_before = state.lost;
        for hole in &holes {
            if hole.until > state.earliest {
                state.add_hole(*hole);
            }
        }
        state.lost - lost_before
    });
    setup.metrics.lost(lost.map_err(failed("write the state of"))?);
    leftovers.clear(setup, segments);
    if is_new {
        keep_identity()?;
    }
    for hole in holes.iter().filter(|hole| hole.reason == HoleReason::Lost) {
        error!(log = setup.name, from = hole.from, until = hole.until, "records lost");
    }
    Ok(chain_of(segments, seals, next))
}

pub(super) fn chain_of(segments: &Path, seals: Vec<Seal>, next: Sequence) -> Chain {
    let sealed = seals.into_iter().map(|seal| {
        let folder = segments.join(folder_name(seal.first));
        Sealed { seal, written: None, disk_bytes: segment::disk_bytes(&folder) }
    });
    Chain { sealed: sealed.collect(), active: None, next, unread: None }
}

/// The name of a segment's folder: sorted as text it is sorted by number.
pub(super) fn folder_name(first: Sequence) -> String {
    format!("{first:020}")
}

pub(super) fn say_what_was_found(setup: &Setup, found: FoundState, state_is_lost: bool) {
    if state_is_lost {
        error!(
            log = setup.name,
            "both copies of the log's state are gone: consumers' positions are lost; nothing is deleted until they had time to come back"
        );
    } else if found == FoundState::OneCopyDamaged {
        warn!(log = setup.name, "one copy of the log's state was damaged; the other is whole");
    }
}

pub(super) fn segment_folders(segments: &Path) -> std::io::Result<Vec<(Sequence, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(segments)? {
        let entry = entry?;
        let name = entry.file_name();
        let first = name.to_str().and_then(|name| name.parse().ok());
        match first {
            // Only the name that it was given: it is looked for by that.
            Some(first) if name.to_str() == Some(&folder_name(first)) => {
                folders.push((first, entry.path()));
            }
            _ => warn!(path = %entry.path().display(), "not a segment; left alone"),
        }
    }
    folders.sort_unstable();
    Ok(folders)
}

/// What the segments of a log turn out to hold.
pub(super) struct Segments {
    /// In order.
    pub seals: Vec<Seal>,
    /// The number of the last segment, where that could not be read.
    pub unreadable: Option<Sequence>,
    /// Numbers below were written for sure, by what stands in the files.
    pub written: Sequence,
    /// To be cleared once the state names none of them any more: after a cut
    /// in between, a folder that the state names and that is not there counts
    /// as one that damage took, with all that it may have held.
    pub leftovers: Leftovers,
}

/// Folders of segments that hold nothing.
#[derive(Default)]
pub(super) struct Leftovers {
    empty: Vec<PathBuf>,
    never_begun: Vec<PathBuf>,
}

impl Leftovers {
    pub(super) fn clear(self, setup: &Setup, segments: &Path) {
        for folder in self.empty {
            let removed = fs::remove_dir_all(&folder).and_then(|()| sync_folder(segments));
            if let Err(error) = removed {
                warn!(log = setup.name, folder = %folder.display(), %error, "a deleted segment's folder stays behind");
            }
        }
        for folder in self.never_begun {
            into_quarantine(setup, &folder);
        }
    }
}

fn into_quarantine(setup: &Setup, folder: &Path) {
    if let Err(error) = quarantine::take(&setup.quarantine, &setup.name, folder) {
        error!(log = setup.name, folder = %folder.display(), %error, "quarantine failed; the segment is left where it is");
    }
}

pub(super) fn read_segments(
    setup: &Setup,
    folders: Vec<(Sequence, PathBuf)>,
    state: &State,
) -> Segments {
    let mut seals: Vec<Seal> = Vec::new();
    let mut last_unreadable = None;
    let mut written = 0;
    let mut leftovers = Leftovers::default();
    for (first, folder) in folders {
        let sealed = Seal::read(&folder).filter(|seal| seal.first == first);
        let content = sealed.map_or_else(
            || {
                let remains = Remains::of(&folder);
                written = written.max(remains.written_upto);
                read_through(setup, first, &folder, &remains)
            },
            Content::Held,
        );
        match content {
            Content::Held(seal) | Content::HeldMore(seal)
                if seal.end > seal.first.max(state.earliest) =>
            {
                let held_more = matches!(content, Content::HeldMore(_));
                last_unreadable = held_more.then_some(first);
                seals.push(seal);
            }
            Content::Held(_) | Content::HeldMore(_) => leftovers.empty.push(folder),
            Content::NeverBegun => leftovers.never_begun.push(folder),
            Content::Unreadable => last_unreadable = Some(first),
        }
    }
    // What a failed write left behind its last good sync has its numbers in
    // the next segment; and there ends one that is not read through yet.
    for at in 1..seals.len() {
        let next = seals[at].first;
        seals[at - 1].end = seals[at - 1].end.min(next);
        if let Some(evidence) = &mut seals[at - 1].assumed {
            *evidence = next;
        }
    }
    seals.retain(|seal| seal.first < seal.end);
    Segments { seals, unreadable: last_unreadable, written, leftovers }
}

/// What a segment without a seal turns out to be.
enum Content {
    Held(Seal),
    /// This, and more that damage took.
    HeldMore(Seal),
    /// Left by an end within its making: nothing in it was acknowledged.
    NeverBegun,
    /// Gone into quarantine.
    Unreadable,
}

fn read_through(setup: &Setup, first: Sequence, folder: &Path, remains: &Remains) -> Content {
    // What is no folder was one: the gateway makes nothing else here.
    let was_made = segment::was_made(folder) || !folder.is_dir();
    let scanned = Segment::open_afresh(folder, &setup.disk).and_then(|segment| {
        let is_whole = !remains.was_cut && segment.was_begun()?;
        segment.read_around_damage();
        let seal = segment.scan(first)?;
        if was_made && !is_whole && seal.end == first {
            return Err(SegmentError::Emptied);
        }
        Ok((seal, is_whole || !was_made))
    });
    match scanned {
        Ok((seal, is_whole)) => {
            if seal.end > seal.first
                && let Err(error) = seal.write(folder)
            {
                // Only means that the next start reads it through again.
                warn!(log = setup.name, first, %error, "a recovered segment could not be sealed");
            }
            if is_whole { Content::Held(seal) } else { Content::HeldMore(seal) }
        }
        Err(error) if error.is_passing() && was_made => {
            warn!(log = setup.name, first, %error, "a segment cannot be read through now; its end is found when it can");
            Content::Held(Seal { end: Sequence::MAX, assumed: Some(first), ..Seal::empty(first) })
        }
        Err(error) => {
            error!(log = setup.name, folder = %folder.display(), %error, was_made, "a segment cannot be read and goes into quarantine");
            if !was_made {
                return Content::NeverBegun;
            }
            into_quarantine(setup, folder);
            Content::Unreadable
        }
    }
}

/// The gaps between segments that no known hole explains.
pub(super) struct Gaps<'a> {
    /// Everything below is explained.
    pub at: Sequence,
    pub known: &'a [Hole],
    pub new: Vec<Hole>,
}

impl Gaps<'_> {
    pub(super) fn note(&mut self, until: Sequence) {
        let reason = HoleReason::Lost;
        let from = self.at;
        for hole in self.known.iter().filter(|hole| hole.until > from && hole.from < until) {
            if self.at < hole.from {
                self.new.push(Hole { from: self.at, until: hole.from, reason });
            }
            self.at = self.at.max(hole.until);
        }
        if self.at < until {
            self.new.push(Hole { from: self.at, until, reason });
            self.at = until;
        }
    }
}
