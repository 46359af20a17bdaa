//! Health that comes from progress: whoever has something to do must get on
//! with it. Who has nothing to do is healthy, however long that lasts, and a
//! timer alone proves nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often a loop that waits for others shows that it is still run.
pub const BEAT: Duration = Duration::from_millis(500);
/// A look that comes later than this was held up together with everything
/// else (a stopped process, a starved machine), which is nobody's standstill.
const LONGEST_LOOK: Duration = BEAT.saturating_mul(2);

/// A part of the gateway that has something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Which part, in words for a person.
    pub part: String,
    /// Changes whenever the part gets on.
    pub step: u64,
    /// How long the same step may take.
    pub patience: Duration,
}

/// A part that does not get on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standstill {
    /// Which part.
    pub part: String,
    /// For how long.
    pub lasts: Duration,
    /// How long it may.
    pub patience: Duration,
}

impl Standstill {
    /// Nobody waits for it any longer.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.lasts >= self.patience
    }
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lasts, patience) = (self.lasts.as_secs(), self.patience.as_secs());
        write!(
            f,
            "{}: has work, and has not got on for {lasts} s ({patience} are allowed)",
            self.part
        )
    }
}

/// Tells standstills from what was seen at one look after the other.
#[derive(Default)]
pub struct Judge {
    /// Time that was watched; a time in which nobody could look is left out.
    watched: Duration,
    seen: HashMap<String, Seen>,
}

struct Seen {
    step: u64,
    since: Duration,
}

impl Judge {
    /// Takes in who has something to do, `elapsed` after the last look. Tells
    /// who has not got on for half its patience, or longer.
    pub fn look(&mut self, busy: Vec<Busy>, elapsed: Duration) -> Vec<Standstill> {
        self.watched += elapsed.min(LONGEST_LOOK);
        let mut before = std::mem::take(&mut self.seen);
        let mut standing = Vec::new();
        for Busy { part, step, patience } in busy {
            let known = before.remove(&part).filter(|seen| seen.step == step);
            let since = known.map_or(self.watched, |seen| seen.since);
            let lasts = self.watched.saturating_sub(since);
            if lasts >= patience / 2 {
                standing.push(Standstill { part: part.clone(), lasts, patience });
            }
            self.seen.insert(part, Seen { step, since });
        }
        standing
    }
}

/// The longest wait that was allowed since the start: what began under an
/// earlier configuration keeps its own.
#[derive(Debug, Default)]
pub struct LongestWait(Mutex<Duration>);

impl LongestWait {
    /// The patience with who may also wait for another's answer, now for as
    /// long as `allowed`: half of it is longer than that wait, so that the wait
    /// alone is never a standstill. Asked at each look.
    pub fn added_to(&self, patience: Duration, allowed: Duration) -> Duration {
        let mut longest = lock(&self.0);
        *longest = allowed.max(*longest);
        patience.saturating_add(longest.saturating_mul(2))
    }
}

/// What the last look found; shared by who looks and who tells of it.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Vec<Standstill>>>);

impl Health {
    /// Parts that do not get on.
    #[must_use]
    pub fn standstills(&self) -> Vec<Standstill> {
        lock(&self.0).clone()
    }

    /// Replaces them.
    pub fn set(&self, standstills: Vec<Standstill>) {
        *lock(&self.0) = standstills;
    }
}

/// Shows that a loop is still run, also where nothing happens in it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop came round.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop ended as it should: it is not watched any more.
    pub fn rest(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Its beats; none before the first, and none at rest.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|beats| *beats > 0)
    }

    /// Beats from a task of the runtime's own until `stop`: shows that tasks
    /// are run at all.
    pub async fn of_the_runtime(self, stop: CancellationToken) {
        let mut beats = tokio::time::interval(BEAT);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            self.beat();
        }
        self.rest();
    }
}

/// Work of one kind under way, several at a time; the oldest must get done.
#[derive(Debug, Clone, Default)]
pub struct Jobs(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    open: BTreeSet<u64>,
}

/// One piece of work; dropped where it is done.
#[derive(Debug)]
pub struct Job {
    number: u64,
    jobs: Jobs,
}

impl Jobs {
    /// Notes a piece of work until the [`Job`] is dropped.
    #[must_use]
    pub fn begin(&self) -> Job {
        let mut under_way = lock(&self.0);
        under_way.begun += 1;
        let number = under_way.begun;
        under_way.open.insert(number);
        Job { number, jobs: self.clone() }
    }

    /// The oldest that is not done; none where all are.
    #[must_use]
    pub fn step(&self) -> Option<u64> {
        lock(&self.0).open.first().copied()
    }
}

impl Job {
    /// It has got on: what follows counts as another piece.
    pub fn gets_on(&mut self) {
        *self = self.jobs.begin();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        lock(&self.jobs.0).open.remove(&self.number);
    }
}

/// When something last happened, by a clock that never jumps.
#[derive(Debug, Default)]
pub struct Stamp(AtomicU64);

impl Stamp {
    /// It happens now.
    pub fn set(&self) {
        // 0 is for never.
        self.0.store(milliseconds().max(1), Ordering::Relaxed);
    }

    /// How long ago it was; none where it never happened.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let at = Some(self.0.load(Ordering::Relaxed)).filter(|at| *at > 0)?;
        Some(Duration::from_millis(milliseconds().saturating_sub(at)))
    }
}

/// Since somebody first asked.
fn milliseconds() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A lock whose holder panicked protects values that are changed whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn busy(step: u64) -> Vec<Busy> {
        vec![Busy { part: "the log".to_owned(), step, patience: 10 * SECOND }]
    }

    /// Looks once a second at `steps`; how long the standstill was at each.
    fn lasts(steps: impl IntoIterator<Item = Option<u64>>) -> Vec<u64> {
        let mut judge = Judge::default();
        let mut look = |step: Option<u64>| judge.look(step.map_or(Vec::new(), busy), SECOND);
        steps.into_iter().map(|s| look(s).first().map_or(0, |s| s.lasts.as_secs())).collect()
    }

    #[test]
    fn who_gets_on_is_healthy_and_so_is_who_has_nothing_to_do() {
        assert_eq!(lasts((0..100).map(Some)), [0; 100]);
        assert_eq!(lasts([None; 100]), [0; 100]);
        // Each step takes a while, but no longer than it may.
        assert_eq!(lasts((0..100).map(|at| Some(at / 5))), [0; 100]);
    }

    #[test]
    fn who_does_not_get_on_is_told_of_at_half_its_patience_and_final_after_all_of_it() {
        assert_eq!(lasts([Some(7); 12]), [0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 10, 11]);
        let of = |lasts| Standstill { part: String::new(), lasts, patience: 10 * SECOND };
        assert_eq!([9, 10].map(|n| of(n * SECOND).is_final()), [false, true]);
    }

    #[test]
    fn a_standstill_is_over_with_the_next_step() {
        let steps = [[Some(1); 8].as_slice(), &[Some(2); 3], &[None], &[Some(2); 3]].concat();
        assert_eq!(lasts(steps)[6..], [6, 7, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_time_in_which_nobody_could_look_counts_for_nobody() {
        let mut judge = Judge::default();
        judge.look(busy(1), SECOND);
        // As after SIGSTOP and SIGCONT, or a machine that stood still.
        let standing = judge.look(busy(1), Duration::from_hours(1));
        assert_eq!(standing, []);
    }

    #[test]
    fn the_oldest_job_counts_however_many_younger_ones_are_done() {
        let jobs = Jobs::default();
        assert_eq!(jobs.step(), None);
        let first = jobs.begin();
        let oldest = jobs.step();
        drop((jobs.begin(), jobs.begin()));
        assert_eq!(jobs.step(), oldest);
        let later = jobs.begin();
        drop(first);
        assert_ne!(jobs.step(), oldest);
        drop(later);
        assert_eq!(jobs.step(), None);
    }
}
