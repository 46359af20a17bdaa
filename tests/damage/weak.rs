//! The segment that was being written has nothing beside it that tells what
//! it held.

use std::sync::Arc;

use crate::bed::{Bed, Left};
use crate::campaign::{Expected, judge, start};
use crate::harm::{Harm, Victim, harm};
use crate::picture::Picture;
use crate::seed::Seed;
use crate::support::{default_log, folder, log_folder, segments};

/// The segment that was being written at a kill -9 has no seal: how far it
/// went stands only in itself. Of what damage takes from it nothing may be
/// skipped without a word.
#[tokio::test(flavor = "multi_thread")]
async fn what_damage_took_from_the_segment_being_written_is_reported_lost() {
    let dir = folder();
    let bed = Arc::new(Bed::make(dir.path().join("killed"), Left::Killed).await);
    let mut seed = Seed::new(7);
    let mut silent = Vec::new();
    let db = [Harm::Emptied, Harm::Truncated, Harm::Zeros, Harm::Noise, Harm::Removed];
    let folder = [Harm::Removed, Harm::OtherKind];
    let cases = db.map(|how| (Victim::Db, how)).into_iter();
    let cases = cases.chain(folder.map(|how| (Victim::SegmentFolder, how)));
    let cases = cases.chain([(Victim::SegmentsFolder, Harm::Removed)]);
    for (victim, how) in cases {
        bed.restore();
        let last = segments(&bed.data).pop().unwrap();
        let path = match victim {
            Victim::Db => last.join("db"),
            Victim::SegmentFolder => last,
            _ => log_folder(&bed.data).join("segments"),
        };
        let expected = Expected::of(&bed, victim, std::slice::from_ref(&path));
        let what = harm(&path, how, &mut seed);
        let (store, _) = start(&bed, &what).await;
        let picture = Picture::of(&default_log(&store), &what).await;
        let result = judge(&bed, &expected, &picture, false, &what);
        if result.silent > 0 {
            silent.push(format!(
                "{victim:?} {how:?}: {} of {}",
                result.silent,
                expected.may_lose.len()
            ));
        }
        crate::bed::end(store).await;
    }
    assert!(silent.is_empty(), "acknowledged records skipped without a word: {silent:#?}");
}
