//! How old things are. What happened in this run is measured by the monotonic
//! clock; only what is older needs the wall clock, which may be unset, wrong,
//! or jump by days.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use super::lock;
use crate::record::trusted_ms;

/// The clock of one log, from its opening on.
pub(super) struct Clock {
    opened: Instant,
    /// The first time that could be trusted, in ms since 1970, and when it was.
    first: OnceLock<(u64, Instant)>,
    /// When each consumer last said something, in this run.
    heard: Mutex<HashMap<String, Instant>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        let clock =
            Self { opened: Instant::now(), first: OnceLock::new(), heard: Mutex::default() };
        clock.now_ms();
        clock
    }

    /// Now, in ms since 1970: by the wall clock, but never further on than
    /// the monotonic one says since it could first be trusted. 0 where it
    /// cannot be: then nothing has an age.
    pub(super) fn now_ms(&self) -> u64 {
        self.bounded(trusted_ms(SystemTime::now()), Instant::now())
    }

    fn bounded(&self, wall_ms: u64, now: Instant) -> u64 {
        if wall_ms == 0 {
            return 0;
        }
        let (first_ms, at) = *self.first.get_or_init(|| (wall_ms, now));
        wall_ms.min(first_ms.saturating_add(ms(now.saturating_duration_since(at))))
    }

    /// The age of what is stamped with that time, in ms, or was written then
    /// in this run. `None` where nobody knows.
    pub(super) fn age_ms(&self, stamped_ms: u64, written: Option<Instant>) -> Option<u64> {
        if let Some(written) = written {
            return Some(ms(written.elapsed()));
        }
        let now_ms = self.now_ms();
        (stamped_ms > 0 && now_ms > 0).then(|| now_ms.saturating_sub(stamped_ms))
    }

    /// How long ago the log was opened, in ms.
    pub(super) fn open_for_ms(&self) -> u64 {
        ms(self.opened.elapsed())
    }

    /// A consumer says something.
    pub(super) fn hear(&self, consumer: &str) {
        lock(&self.heard).insert(consumer.to_owned(), Instant::now());
    }

    /// A consumer is no more.
    pub(super) fn forget(&self, consumer: &str) {
        lock(&self.heard).remove(consumer);
    }

    /// When a consumer last said something in this run, where it did.
    pub(super) fn heard(&self, consumer: &str) -> Option<Instant> {
        lock(&self.heard).get(consumer).copied()
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const NOVEMBER_2026_MS: u64 = 1_795_000_000_000;

    #[test]
    fn a_jump_forth_makes_nothing_older_and_one_back_nothing_younger_for_ever() {
        let at = Instant::now();
        let clock = Clock { opened: at, first: OnceLock::new(), heard: Mutex::default() };
        let later = at + Duration::from_secs(1);
        assert_eq!(clock.bounded(0, at), 0, "not set yet");
        assert_eq!(clock.bounded(NOVEMBER_2026_MS, at), NOVEMBER_2026_MS);
        assert_eq!(clock.bounded(NOVEMBER_2026_MS + DAY_MS, later), NOVEMBER_2026_MS + 1000);
        assert_eq!(clock.bounded(NOVEMBER_2026_MS - DAY_MS, later), NOVEMBER_2026_MS - DAY_MS);
        assert_eq!(clock.bounded(NOVEMBER_2026_MS + 1000, later), NOVEMBER_2026_MS + 1000);
    }
}
