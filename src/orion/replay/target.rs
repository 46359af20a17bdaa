//! A target, and whether it takes write-backs just now.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;
use tracing::info;

use super::config::Config;
use super::down::{Cause, Down};
use super::endpoint::Endpoint;
use super::schedule::Ordinal;
use super::status::TargetStatus;
use crate::backoff;
use crate::ngsi::EntityKey;
use crate::pace::Bucket;

/// What goes at once where a rate is set, in seconds of it.
const BURST: f64 = 0.1;
/// Who was sent away together must not come back together: up to half of the
/// pause that Orion asked for is added to it, but of no more than this.
const MOST_TOLD: Duration = Duration::from_mins(1);
/// So many different entities refused as by no context broker, in a row.
const STRANGE: usize = 20;

#[derive(Debug)]
pub(super) struct Target {
    pub endpoint: Arc<Endpoint>,
    pub token: Option<HeaderValue>,
    /// Units that may go now.
    pub ready: BTreeSet<Ordinal>,
    /// Units that may go later.
    delayed: BTreeSet<(Instant, Ordinal)>,
    pub in_flight: usize,
    /// Readings of the token under way; nothing is sent with the old one.
    pub reading_token: usize,
    /// How often a write-back was applied.
    pub successes: u64,
    failures_in_row: usize,
    down: Option<Down>,
    since: Instant,
    last_error: Option<String>,
    /// Orion asked not to be called before.
    hold: Option<Instant>,
    /// Bounds the requests a second, where that is wanted.
    bucket: Option<Bucket>,
    /// Entities refused as by no context broker; `None` once it has answered
    /// as one.
    strange: Option<HashSet<EntityKey>>,
}

impl Target {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        token: Option<HeaderValue>,
        max_rate: Option<f64>,
    ) -> Self {
        Self {
            endpoint,
            token,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: 0,
            reading_token: 0,
            successes: 0,
            failures_in_row: 0,
            down: None,
            since: Instant::now(),
            last_error: None,
            hold: None,
            bucket: bucket(max_rate),
            strange: Some(HashSet::new()),
        }
    }

    /// Changes how many requests a second it takes.
    pub(super) fn set_rate(&mut self, max_rate: Option<f64>) {
        self.bucket = bucket(max_rate);
    }

    pub(super) fn name(&self) -> &str {
        self.endpoint.name()
    }

    pub(super) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// The next unit to be sent; `tries` tells how often one was sent.
    pub(super) fn take(
        &mut self,
        now: Instant,
        parallel: usize,
        tries: impl Fn(Ordinal) -> u32,
    ) -> Option<Ordinal> {
        while let Some((at, unit)) = self.delayed.first().copied()
            && (at <= now || self.down.is_some())
        {
            self.delayed.pop_first();
            self.ready.insert(unit);
        }
        self.hold = self.hold.filter(|hold| *hold > now);
        if self.hold.is_some() || self.reading_token > 0 || self.paced_until(now).is_some() {
            return None;
        }
        let unit = if let Some(down) = &mut self.down {
            if down.probe.is_some() || down.next_try > now {
                return None;
            }
            // Not always the same: it may be the one that is at fault.
            let unit = self.ready.iter().copied().min_by_key(|unit| (tries(*unit), *unit))?;
            down.probe = Some(unit);
            self.ready.remove(&unit);
            unit
        } else if self.in_flight >= parallel {
            return None;
        } else {
            self.ready.pop_first()?
        };
        if let Some(bucket) = &mut self.bucket {
            bucket.take(1.0);
        }
        Some(unit)
    }

    /// When the rate allows a request again; `None` where it does now.
    fn paced_until(&mut self, now: Instant) -> Option<Instant> {
        self.bucket.as_mut()?.wait(1.0, now)
    }

    /// When [`Target::take`] may answer otherwise, though nothing happens.
    pub(super) fn wakes_at(&mut self) -> Option<Instant> {
        if self.reading_token > 0 || (self.ready.is_empty() && self.delayed.is_empty()) {
            return None;
        }
        let paced = self.paced_until(Instant::now());
        let own = match &self.down {
            Some(down) if down.probe.is_some() => return None,
            Some(down) => Some(down.next_try),
            // What is ready and not held goes as soon as there is a free place.
            None if self.ready.is_empty() => self.delayed.first().map(|(at, _)| *at),
            None => self.hold.or(paced).or(self.delayed.first().map(|(at, _)| *at)),
        };
        own.map(|own| own.max(self.hold.unwrap_or(own)).max(paced.unwrap_or(own)))
    }

    /// Puts a failed unit back: until `at`, or, while the target is down,
    /// until that is up.
    pub(super) fn put_back(&mut self, unit: Ordinal, at: Instant) {
        if self.is_up() {
            self.delayed.insert((at, unit));
        } else {
            self.ready.insert(unit);
        }
    }

    /// An attempt ended, however.
    pub(super) fn ended(&mut self, unit: Ordinal) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(down) = &mut self.down
            && down.probe == Some(unit)
        {
            down.tried();
        }
    }

    /// An attempt was applied.
    pub(super) fn succeeded(&mut self, waiting: u64) {
        self.successes += 1;
        self.strange = None;
        self.answered(waiting);
    }

    /// It gave an answer that says that it works.
    pub(super) fn answered(&mut self, waiting: u64) {
        self.failures_in_row = 0;
        if let Some(down) = self.down.take() {
            let after =
                humantime::format_duration(Duration::from_secs(down.began.elapsed().as_secs()));
            info!(target = self.name(), url = self.endpoint.url, %after, waiting, "Orion takes write-backs again");
            self.since = Instant::now();
        }
    }

    /// An attempt failed; `broken` where there was not even a connection.
    pub(super) fn failed(&mut self, error: &str, broken: bool, config: &Config) {
        self.failures_in_row += 1;
        self.last_error = Some(error.to_owned());
        if broken || self.down.is_some() || self.failures_in_row >= config.parallel {
            // Waiting for a token ends only when Orion takes it.
            let cause = self.down.as_ref().map_or(Cause::Unreachable, |down| down.cause);
            self.go_down(cause, config);
        }
    }

    /// A person is needed.
    pub(super) fn pause(&mut self, cause: Cause, error: String, config: &Config) {
        self.last_error = Some(error);
        self.go_down(cause, config);
    }

    fn go_down(&mut self, cause: Cause, config: &Config) {
        let known = self.down.as_ref().map(|down| down.cause);
        if let Some(down) = &mut self.down {
            down.goes_on(cause, config);
        } else {
            self.since = Instant::now();
            self.down = Some(Down::new(cause, config));
        }
        if known != Some(cause) {
            let error = self.last_error.as_deref().unwrap_or_default();
            cause.tell(self.name(), &self.endpoint.url, error);
        }
    }

    /// Orion asked for a pause, perhaps of many at once.
    pub(super) fn hold(&mut self, pause: Duration) {
        let least = Instant::now() + pause;
        // One draw is enough: of many answers the latest would always win.
        if self.hold.is_none_or(|hold| hold < least) {
            self.hold = Some(least + backoff::within(pause.min(MOST_TOLD) / 2));
        }
    }

    /// A refusal as by no context broker; answers whether the target is to be
    /// paused instead of believed.
    pub(super) fn is_strange(&mut self, entities: &[EntityKey]) -> bool {
        if self.down.as_ref().is_some_and(|down| down.cause == Cause::Misdirected) {
            return true;
        }
        let Some(strange) = &mut self.strange else { return false };
        strange.extend(entities.first().cloned());
        strange.len() >= STRANGE
    }

    /// It answers as a context broker does.
    pub(super) fn is_a_broker(&mut self) {
        self.strange = None;
    }

    /// Whether a sign of life would be news.
    pub(super) fn listens(&self) -> bool {
        self.down.as_ref().is_some_and(Down::listens)
    }

    /// Orion has shown that it lives: it is tried soon.
    pub(super) fn sign_of_life(&mut self) {
        if let Some(down) = &mut self.down {
            down.sign_of_life();
        }
    }

    /// Tries at once: a new token or a new configuration has come.
    pub(super) fn try_now(&mut self) {
        if let Some(down) = &mut self.down {
            down.next_try = Instant::now();
        }
    }

    pub(super) fn status(&self) -> TargetStatus {
        let now = SystemTime::now();
        let next_try = self.down.as_ref().map(|down| {
            let at = self.hold.map_or(down.next_try, |hold| hold.max(down.next_try));
            now + at.saturating_duration_since(Instant::now())
        });
        TargetStatus {
            name: self.name().to_owned(),
            url: self.endpoint.url.clone(),
            up: self.is_up(),
            // By the clock as it is now: it may have been set since.
            since: now.checked_sub(self.since.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
            last_error: self.last_error.clone(),
            next_try,
        }
    }
}

fn bucket(max_rate: Option<f64>) -> Option<Bucket> {
    max_rate.map(|rate| Bucket::new(rate, (rate * BURST).max(1.0), Instant::now()))
}
