//! A target, and whether it takes write-backs just now.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::backoff;
use super::config::Config;
use super::endpoint::Endpoint;
use super::schedule::Ordinal;
use super::status::TargetStatus;
use crate::ngsi::EntityKey;

/// A sign of life ends a wait, but not sooner than this after the last try:
/// notifications may come a thousand a second from an Orion that we cannot
/// reach.
const AFTER_SIGN: Duration = Duration::from_millis(250);
/// So many different entities refused as by no context broker, in a row.
const STRANGE: usize = 20;

/// Why a target takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It cannot be reached, or only fails.
    Unreachable,
    /// It wants another token.
    Unauthorized,
    /// What answers there does not seem to be a context broker.
    Misdirected,
}

#[derive(Debug)]
struct Down {
    cause: Cause,
    began: Instant,
    failures: u32,
    last_try: Instant,
    next_try: Instant,
    probe: Option<Ordinal>,
}

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
    since: SystemTime,
    last_error: Option<String>,
    /// Orion asked not to be called before.
    hold: Option<Instant>,
    /// Entities refused as by no context broker; `None` once it has answered
    /// as one.
    strange: Option<HashSet<EntityKey>>,
}

impl Target {
    pub(super) fn new(endpoint: Arc<Endpoint>, token: Option<HeaderValue>) -> Self {
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
            since: SystemTime::now(),
            last_error: None,
            hold: None,
            strange: Some(HashSet::new()),
        }
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
        if self.hold.is_some() || self.reading_token > 0 {
            return None;
        }
        if let Some(down) = &mut self.down {
            if down.probe.is_some() || down.next_try > now {
                return None;
            }
            // Not always the same: it may be the one that is at fault.
            let unit = self.ready.iter().copied().min_by_key(|unit| (tries(*unit), *unit))?;
            down.probe = Some(unit);
            self.ready.remove(&unit);
            return Some(unit);
        }
        if self.in_flight >= parallel { None } else { self.ready.pop_first() }
    }

    /// When [`Target::take`] may answer otherwise, though nothing happens.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        if self.reading_token > 0 || (self.ready.is_empty() && self.delayed.is_empty()) {
            return None;
        }
        let own = match &self.down {
            Some(down) if down.probe.is_some() => return None,
            Some(down) => Some(down.next_try),
            // What is ready and not held goes as soon as there is a free place.
            None if self.ready.is_empty() => self.delayed.first().map(|(at, _)| *at),
            None => self.hold.or(self.delayed.first().map(|(at, _)| *at)),
        };
        own.map(|own| self.hold.map_or(own, |hold| hold.max(own)))
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
            down.probe = None;
            down.failures = down.failures.saturating_add(1);
            down.last_try = Instant::now();
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
            self.since = SystemTime::now();
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
        let now = Instant::now();
        let known = self.down.as_ref().map(|down| down.cause);
        let wait = |failures| backoff::wait(failures, config.backoff_min, config.backoff_max);
        if let Some(down) = &mut self.down {
            down.cause = cause;
            // Stragglers from before say nothing new.
            if down.next_try <= down.last_try {
                down.next_try = now + wait(down.failures);
            }
        } else {
            self.since = SystemTime::now();
            let next_try = now + wait(0);
            self.down =
                Some(Down { cause, began: now, failures: 0, last_try: now, next_try, probe: None });
        }
        if known == Some(cause) {
            return;
        }
        let (target, url) = (self.name(), &self.endpoint.url);
        let error = self.last_error.as_deref().unwrap_or_default();
        match cause {
            Cause::Unreachable => {
                warn!(
                    target,
                    url, error, "Orion takes no write-backs; they are kept until it does"
                );
            }
            Cause::Unauthorized => {
                error!(
                    target,
                    url,
                    error,
                    "Orion refuses the gateway's token; write-backs wait for a new one in orion.token_file"
                );
            }
            Cause::Misdirected => {
                error!(
                    target,
                    url,
                    error,
                    "whatever answers does not seem to be a context broker, is orion.url right? Write-backs wait"
                );
            }
        }
    }

    /// Orion asked for a pause.
    pub(super) fn hold(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        self.hold = Some(self.hold.map_or(until, |hold| hold.max(until)));
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
        self.down.as_ref().is_some_and(|down| {
            down.cause == Cause::Unreachable
                && down.probe.is_none()
                && down.next_try > down.last_try + AFTER_SIGN
        })
    }

    /// Orion has shown that it lives.
    pub(super) fn sign_of_life(&mut self) {
        if let Some(down) = &mut self.down
            && down.cause == Cause::Unreachable
        {
            down.next_try = down.next_try.min(down.last_try + AFTER_SIGN);
        }
    }

    /// Tries at once: a new token or a new configuration has come.
    pub(super) fn try_now(&mut self) {
        if let Some(down) = &mut self.down {
            down.next_try = Instant::now();
        }
    }

    pub(super) fn status(&self) -> TargetStatus {
        let next_try = self.down.as_ref().map(|down| {
            let at = self.hold.map_or(down.next_try, |hold| hold.max(down.next_try));
            SystemTime::now() + at.saturating_duration_since(Instant::now())
        });
        TargetStatus {
            name: self.name().to_owned(),
            url: self.endpoint.url.clone(),
            up: self.is_up(),
            since: self.since,
            last_error: self.last_error.clone(),
            next_try,
        }
    }
}
