//! Opening a replica as it was left. Its numbers come from elsewhere, which
//! makes it simpler than a log that gives them out: it ends where what can be
//! read of it ends, without a reserved block, and whoever fills it goes on
//! from there. The same number is the same record in any case.

use std::path::Path;
use std::time::SystemTime;

use tracing::{error, warn};

use super::OpenError;
use super::chain::Chain;
use super::log::Setup;
use super::recovery::{
    Gaps, Segments, chain_of, read_segments, say_what_was_found, segment_folders,
};
use super::state::{FoundState, Hole, HoleReason, StateFile};
use crate::record::{Sequence, trusted_ms};

/// Puts the chain of a replica of `epoch` together. What damage took at its
/// end is asked for again from where it came; in between it is lost.
pub(super) fn recover(
    setup: &Setup,
    segments: &Path,
    state_file: &StateFile,
    found: FoundState,
    epoch: &str,
) -> Result<Chain, OpenError> {
    let failed = |action| {
        let path = setup.folder.clone();
        move |source| OpenError::Io { action, path, source }
    };
    let folders = segment_folders(segments).map_err(failed("list the segments of"))?;
    let before = state_file.get();
    let state_is_lost = match found {
        FoundState::BothDamaged => true,
        FoundState::New => !folders.is_empty(),
        FoundState::Whole | FoundState::OneCopyDamaged => false,
    };
    say_what_was_found(setup, found, state_is_lost);
    let Segments { mut seals, leftovers, .. } = read_segments(setup, folders, &before);
    // The committer reads the last one through before it goes on, where that
    // could not be done now.
    let unread = seals.pop_if(|last| last.assumed.is_some()).map(|seal| seal.first);
    let start =
        if state_is_lost { seals.first().map_or(0, |seal| seal.first) } else { before.earliest };
    let mut gaps = Gaps { at: start, known: &before.holes, new: Vec::new() };
    for seal in &seals {
        gaps.note(seal.first);
        gaps.at = gaps.at.max(seal.end);
    }
    let next = end_with_holes(gaps.at, &before.holes);
    let known_end =
        before.written.max(before.consumers.values().map(|c| c.position).max().unwrap_or(0));
    if next < known_end {
        warn!(
            log = setup.name,
            from = next,
            until = known_end,
            "the end of a replica is gone: its gateway is asked for it again"
        );
    }
    let lost = state_file.update(|state| {
        epoch.clone_into(&mut state.epoch);
        (state.reserved, state.written, state.active) = (next, next, None);
        if state_is_lost {
            state.earliest = start;
            state.positions_lost_ms = Some(trusted_ms(SystemTime::now()));
        }
        state.holes.retain(|hole| hole.from < next);
        let lost_before = state.lost;
        for hole in
            gaps.new.iter().filter(|hole| hole.until > state.earliest).copied().collect::<Vec<_>>()
        {
            state.add_hole(hole);
        }
        state.lost - lost_before
    });
    setup.metrics.lost(lost.map_err(failed("write the state of"))?);
    leftovers.clear(setup, segments);
    for hole in gaps.new.iter().filter(|hole| hole.reason == HoleReason::Lost) {
        error!(log = setup.name, from = hole.from, until = hole.until, "records lost");
    }
    let unread = unread.filter(|first| *first == next);
    Ok(Chain { unread, ..chain_of(segments, seals, next) })
}

/// A hole at the end was noted before the record behind it came.
fn end_with_holes(end: Sequence, holes: &[Hole]) -> Sequence {
    holes
        .iter()
        .filter(|hole| hole.until > end)
        .fold(end, |end, hole| if hole.from <= end { end.max(hole.until) } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_at_the_end_count_as_far_as_nothing_is_missing_before_them() {
        let hole = |from, until| Hole { from, until, reason: HoleReason::Unused };
        assert_eq!(end_with_holes(10, &[hole(3, 5), hole(10, 20), hole(20, 30), hole(40, 50)]), 30);
        assert_eq!(end_with_holes(10, &[hole(11, 20)]), 10);
    }
}
