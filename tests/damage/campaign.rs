//! The store through the library: damaged, opened, read, written, closed and
//! opened again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ngsi_ferry::record::Sequence;
use ngsi_ferry::store::{Metrics, Store};

use crate::bed::{Bed, CONSUMERS, Left, OTHER, config, content, end, other_records};
use crate::harm::{HARMS, Harm, VICTIMS, Victim, harm};
use crate::picture::{Numbers, Picture};
use crate::seed::Seed;
use crate::support::{append, default_log, folder, segments};
use crate::table::{Result, Table};

/// A start takes a fraction of a second; this only tells one that hangs.
const START: Duration = Duration::from_secs(30);

/// What a damage may cost.
#[expect(clippy::struct_excessive_bools, reason = "each is a promise of its own")]
pub struct Expected {
    /// Records that may be lost.
    pub may_lose: Vec<Sequence>,
    /// Exactly those must be lost.
    pub all_of_them: bool,
    /// The log may be another one, with another epoch, and empty.
    pub may_be_new: bool,
    pub keeps_positions: bool,
    /// Numbers without a record that may be called lost all the same.
    pub may_over_report: bool,
    /// Acknowledged records that may go without a word: zeros or noise over
    /// the end of a file that was being written look as if the power had gone.
    pub may_be_silent: Vec<Sequence>,
}

impl Expected {
    pub fn of(bed: &Bed, victim: Victim, harmed: &[PathBuf]) -> Self {
        let segment = bed.segment_of(&harmed[0]);
        let last = bed.segments.last().unwrap();
        let (may_lose, all_of_them): (Vec<Sequence>, bool) = match victim {
            Victim::Db => (segment.clone().unwrap().collect(), false),
            Victim::SegmentFolder => (segment.clone().unwrap().collect(), true),
            Victim::SegmentsFolder => (bed.records().collect(), true),
            _ => (Vec::new(), true),
        };
        let is_unsealed = bed.left == Left::Killed
            && (victim == Victim::SegmentsFolder || segment.as_ref() == Some(last));
        Self {
            may_be_silent: if is_unsealed && victim == Victim::Db {
                may_lose.clone()
            } else {
                Vec::new()
            },
            all_of_them,
            may_lose,
            may_be_new: matches!(victim, Victim::LogFolder | Victim::StreamsFolder),
            keeps_positions: !matches!(
                victim,
                Victim::BothStates | Victim::LogFolder | Victim::StreamsFolder
            ),
            // With the state went what told an unused number from a lost one;
            // and how far an unreadable last segment went nobody knows.
            may_over_report: bed.left == Left::Killed
                && (victim == Victim::BothStates || is_unsealed),
        }
    }
}

/// Opens the bed as it is now; must not hang, nor fail.
pub async fn start(bed: &Bed, what: &str) -> (Arc<Store>, Duration) {
    let (data, begun) = (bed.data.clone(), Instant::now());
    let opened = tokio::task::spawn_blocking(move || {
        Store::open(&data, config(), Vec::new(), Metrics::default())
    });
    let opened = tokio::time::timeout(START, opened).await;
    let opened = opened.unwrap_or_else(|_| panic!("{what}: the start hangs"));
    let opened = opened.unwrap_or_else(|panic| panic!("{what}: {panic}"));
    (Arc::new(opened.unwrap_or_else(|error| panic!("{what}: {error}"))), begun.elapsed())
}

/// Damages the bed once and looks at everything that is promised.
pub async fn round(bed: &Bed, victim: Victim, how: Harm, seed: &mut Seed) -> Result {
    bed.restore();
    let harmed = victim.choose(&bed.data, seed);
    let expected = Expected::of(bed, victim, &harmed);
    let said: Vec<String> = harmed.iter().map(|path| harm(path, how, seed)).collect();
    let what = format!("{:?}: {}", bed.left, said.join(", "));

    let (store, took) = start(bed, &what).await;
    let log = default_log(&store);
    let is_new = log.epoch() != bed.epoch;
    assert!(!is_new || expected.may_be_new, "{what}: another epoch");
    let picture = Picture::of(&log, &what).await;
    picture.agrees_with(&log.status(), &what);
    let result = judge(bed, &expected, &picture, is_new, &what);
    check_positions(&log.status(), &expected, &what);
    check_other_stream(&store, victim, &what).await;
    check_quarantine(bed, &harmed, &expected, &what);

    // Numbers go on above whatever may have been given out.
    let next = log.bounds().next;
    assert!(is_new || next >= bed.end(), "{what}: {next} was given out before");
    assert!(is_new || bed.left == Left::Closed || next >= bed.reserved - (1 << 16), "{what}");
    append(&log, &[content(next), content(next + 1)]).await;
    let mut after = picture.clone();
    after.served.add(next..next + 2);
    after.next = next + 2;
    let new = Picture::from(&log, next, &what).await;
    assert_eq!(new.served, Numbers::one(next..next + 2), "{what}: after an append");
    let (status, epoch) = (log.status(), log.epoch());
    drop(log);
    end(store).await;

    let (store, _) = start(bed, &what).await;
    let log = default_log(&store);
    assert_eq!(log.epoch(), epoch, "{what}: the epoch after a clean restart");
    let again = Picture::of(&log, &what).await;
    assert_eq!(again, after, "{what}: after a clean restart");
    again.agrees_with(&log.status(), &what);
    assert_eq!(log.status().holes, status.holes, "{what}: after a clean restart");
    drop(log);
    end(store).await;
    Result { start: took, ..result }
}

/// Holds what is served against what was damaged.
pub fn judge(
    bed: &Bed,
    expected: &Expected,
    picture: &Picture,
    is_new: bool,
    what: &str,
) -> Result {
    if is_new {
        assert_eq!(picture.next, 0, "{what}: a new log is empty");
        return Result::default();
    }
    assert_eq!(picture.deleted.0, [], "{what}: nothing was deleted on purpose");
    let lost = picture.lost.among(bed.records());
    let unexpected = lost.iter().find(|seq| !expected.may_lose.contains(seq));
    assert_eq!(unexpected, None, "{what}: lost, and was not damaged");
    if expected.all_of_them {
        assert_eq!(lost, expected.may_lose, "{what}: what must be lost");
    }
    let silent = picture.skipped.among(bed.records());
    let unheard = silent.iter().find(|seq| !expected.may_be_silent.contains(seq));
    assert_eq!(unheard, None, "{what}: gone without a word");
    let over = picture.lost.count() - lost.len() as u64;
    assert!(over == 0 || expected.may_over_report, "{what}: {:?} are too many", picture.lost);
    assert!(over <= 2 << 16, "{what}: {over} more than a reserved block");
    Result { lost: lost.len() as u64, over, silent: silent.len() as u64, ..Result::default() }
}

fn check_positions(status: &ngsi_ferry::store::LogStatus, expected: &Expected, what: &str) {
    let found: Vec<_> = status.consumers.iter().map(|c| (c.name.as_str(), c.position)).collect();
    let mut before = CONSUMERS.to_vec();
    before.sort_unstable();
    if expected.keeps_positions {
        assert_eq!(found, before, "{what}: positions");
    } else {
        // The damage may have met nothing but the zeros behind a state.
        assert!(found.is_empty() || found == before, "{what}: {found:?}");
    }
}

async fn check_other_stream(store: &Arc<Store>, victim: Victim, what: &str) {
    if victim == Victim::StreamsFolder {
        return;
    }
    let other = store.stream(OTHER).unwrap_or_else(|| panic!("{what}: another stream is gone"));
    let picture = Picture::of(&other, what).await;
    assert_eq!(picture.served.0, [other_records()], "{what}: another stream");
    assert_eq!(picture.lost.0, [], "{what}: another stream");
}

/// A segment that is not in the log any more is in the quarantine.
fn check_quarantine(bed: &Bed, harmed: &[PathBuf], expected: &Expected, what: &str) {
    if expected.may_be_new {
        return;
    }
    let quarantined: Vec<String> = std::fs::read_dir(bed.data.join("quarantine"))
        .map(|entries| {
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    let there = segments(&bed.data);
    for records in &bed.segments {
        let name = format!("{:020}", records.start);
        let is_there = there.iter().any(|path| path.ends_with(&name));
        let is_aside = quarantined.iter().any(|other| other.contains(&name));
        let was_removed =
            harmed.iter().any(|path| path.ends_with(&name) || path.ends_with("segments"));
        // One that reads as empty counts as never written.
        let is_weak = expected.may_be_silent.contains(&records.start);
        assert!(is_there || is_aside || was_removed || is_weak, "{what}: {name} is nowhere");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_damaged_it_starts_loses_only_that_and_says_so() {
    let (rounds, mut seed) = crate::rounds(16);
    let dir = folder();
    let closed = Arc::new(Bed::make(dir.path().join("closed"), Left::Closed).await);
    let killed = Arc::new(Bed::make(dir.path().join("killed"), Left::Killed).await);
    let mut table = Table::default();
    let mut failed = Vec::new();
    for n in 0..rounds {
        // Where the records are every third time, all others in turn.
        let victim = match n % 3 {
            0 => Victim::Db,
            _ => VICTIMS[usize::try_from(seed.below(VICTIMS.len() as u64)).unwrap()],
        };
        let harms = if victim == Victim::Db { &HARMS[..] } else { victim.harms() };
        let how = harms[usize::try_from(seed.below(harms.len() as u64)).unwrap()];
        let bed = Arc::clone(if seed.one_in(2) { &closed } else { &killed });
        let mut own = seed.of(n);
        // A task of its own: the table is worth having after a failure, too.
        let looked = tokio::spawn(async move { round(&bed, victim, how, &mut own).await });
        match looked.await {
            Ok(result) => table.add(victim, how, result),
            Err(panic) => failed.push(panic.to_string()),
        }
    }
    eprintln!("{}", table.render());
    assert!(failed.is_empty(), "{} of {rounds}: {failed:#?}", failed.len());
}
