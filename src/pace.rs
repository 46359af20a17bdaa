//! A bound on how much goes out a second: a token bucket. What may go is
//! saved up while nothing goes, to a bound, and who takes more than there is
//! leaves a debt that is waited for. It never sleeps by itself: it tells when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Less is a rounding error, and not worth a wait.
const NOTHING: f64 = 1e-6;
/// Later than any wait: a rate of almost nothing must not overflow a clock.
const FAR: f64 = 365.0 * 24.0 * 3600.0;

/// A token bucket. The clock is the caller's.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one: `rate` a second, and at most `burst` at once.
    #[must_use]
    pub fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Self { rate, burst, level: burst, filled: now }
    }

    /// What may go now; negative while a debt is worked off.
    pub fn level(&mut self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        self.level = (self.level + passed.as_secs_f64() * self.rate).min(self.burst);
        self.level
    }

    /// Takes so much, whether it is there or not.
    pub fn take(&mut self, amount: f64) {
        self.level -= amount;
    }

    /// When `amount` may go, or as much as there can ever be at once; `None`
    /// where it may go now.
    pub fn wait(&mut self, amount: f64, now: Instant) -> Option<Instant> {
        let missing = amount.min(self.burst) - self.level(now);
        let seconds = (missing / self.rate).min(FAR);
        (missing > NOTHING).then(|| now + Duration::from_secs_f64(seconds))
    }
}

/// A bucket of bytes that many tasks take from.
#[derive(Debug)]
pub struct Pace {
    bucket: Mutex<Bucket>,
}

/// Bytes that may go; what was not used is given back when dropped.
#[derive(Debug)]
pub struct Grant<'a> {
    pace: &'a Pace,
    bytes: usize,
    used: usize,
}

impl Pace {
    /// So many bytes a second, and at most those of one second at once.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        // No rate comes near the 2^53 where f64 loses a byte.
        #[allow(clippy::cast_precision_loss)]
        let rate = bytes_per_second.max(1) as f64;
        Self { bucket: Mutex::new(Bucket::new(rate, rate, Instant::now())) }
    }

    /// Takes up to `wanted` bytes once there are `least` of them.
    ///
    /// # Errors
    /// When to ask again, where there are less. Others may be quicker then.
    pub fn take(&self, wanted: usize, least: usize) -> Result<Grant<'_>, Instant> {
        let mut bucket = self.bucket();
        let now = Instant::now();
        if let Some(at) = bucket.wait(as_f64(least.min(wanted)), now) {
            return Err(at);
        }
        let bytes = wanted.min(as_bytes(bucket.level(now)));
        bucket.take(as_f64(bytes));
        Ok(Grant { pace: self, bytes, used: 0 })
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grant<'_> {
    /// How many bytes may go.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many go; more than were granted are a debt.
    pub fn spend(mut self, bytes: usize) {
        self.used = bytes;
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.pace.bucket().take(as_f64(self.used) - as_f64(self.bytes));
    }
}

#[allow(clippy::cast_precision_loss)] // bytes of one answer
fn as_f64(bytes: usize) -> f64 {
    bytes as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is meant to
fn as_bytes(level: f64) -> usize {
    level.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_goes_than_the_rate_and_one_burst() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(10.0, 3.0, begun);
        let (mut now, mut gone) = (begun, 0u32);
        while now < begun + Duration::from_mins(1) {
            if let Some(at) = bucket.wait(1.0, now) {
                assert!(at > now, "a wait that is none");
                now = at;
            } else {
                bucket.take(1.0);
                gone += 1;
            }
        }
        assert!((600..=603).contains(&gone), "{gone}");
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(10.0, 3.0, begun);
        let much_later = begun + Duration::from_hours(10);
        assert!((bucket.level(much_later) - 3.0).abs() < NOTHING);
        // More than there can ever be at once is not waited for in vain.
        assert_eq!(bucket.wait(100.0, much_later), None);
    }

    #[test]
    fn a_debt_is_waited_for() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(10.0, 10.0, begun);
        bucket.take(30.0);
        let at = bucket.wait(1.0, begun).unwrap();
        let waited = (at - begun).as_secs_f64();
        assert!((waited - 2.1).abs() < 0.001, "{waited}");
        let mut still = Bucket::new(f64::MIN_POSITIVE, 1.0, begun);
        still.take(1.0);
        assert!(still.wait(1.0, begun).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_granted_and_not_used_is_given_back() {
        let pace = Pace::new(1000);
        let grant = pace.take(800, 100).unwrap();
        assert_eq!(grant.bytes(), 800);
        grant.spend(300);
        assert_eq!(pace.take(5000, 100).unwrap().bytes(), 700);
        // That one was dropped unused. A debt delays the next.
        pace.take(700, 100).unwrap().spend(1700);
        let at = pace.take(1, 1).unwrap_err();
        assert!((at - Instant::now()).as_secs_f64() > 0.99);
        tokio::time::sleep_until(at).await;
        assert!(pace.take(1, 1).is_ok());
    }
}
