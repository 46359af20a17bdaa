//! A target that takes nothing: why, since when, and when it is tried again.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::config::Config;
use super::schedule::Ordinal;
use crate::backoff;

/// A sign of life ends a wait, but not sooner than this after the last try:
/// notifications may come a thousand a second from an Orion that we cannot
/// reach.
const AFTER_SIGN: Duration = Duration::from_millis(250);
/// And at a random moment within this: an Orion that is back may show it to a
/// whole fleet at once.
const SIGN_SPREAD: Duration = Duration::from_secs(2);

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
pub(super) struct Down {
    pub cause: Cause,
    pub began: Instant,
    failures: u32,
    last_try: Instant,
    pub next_try: Instant,
    /// The next try is sooner already because of a sign of life. Drawn anew
    /// with each of a thousand signs, the soonest moment would always win.
    is_woken: bool,
    pub probe: Option<Ordinal>,
}

impl Down {
    pub(super) fn new(cause: Cause, config: &Config) -> Self {
        let now = Instant::now();
        let next_try = now + backoff::wait(0, config.backoff_min, config.backoff_max);
        Self {
            cause,
            began: now,
            failures: 0,
            last_try: now,
            next_try,
            is_woken: false,
            probe: None,
        }
    }

    /// It is still down, for this cause.
    pub(super) fn goes_on(&mut self, cause: Cause, config: &Config) {
        self.cause = cause;
        // Stragglers from before say nothing new.
        if self.next_try <= self.last_try {
            let wait = backoff::wait(self.failures, config.backoff_min, config.backoff_max);
            self.next_try = Instant::now() + wait;
        }
    }

    /// The try ended.
    pub(super) fn tried(&mut self) {
        self.probe = None;
        self.failures = self.failures.saturating_add(1);
        self.last_try = Instant::now();
        self.is_woken = false;
    }

    /// Whether a sign of life would be news.
    pub(super) fn listens(&self) -> bool {
        self.cause == Cause::Unreachable
            && self.probe.is_none()
            && !self.is_woken
            && self.next_try > self.last_try + AFTER_SIGN
    }

    /// Orion has shown that it lives.
    pub(super) fn sign_of_life(&mut self) {
        if self.listens() {
            let earliest = Instant::now().max(self.last_try + AFTER_SIGN);
            self.next_try = self.next_try.min(earliest + backoff::within(SIGN_SPREAD));
            self.is_woken = true;
        }
    }
}

impl Cause {
    /// Tells the operator; once, when it begins.
    pub(super) fn tell(self, target: &str, url: &str, error: &str) {
        match self {
            Self::Unreachable => {
                warn!(
                    target,
                    url, error, "Orion takes no write-backs; they are kept until it does"
                );
            }
            Self::Unauthorized => {
                error!(
                    target,
                    url,
                    error,
                    "Orion refuses the gateway's token; write-backs wait for a new one in orion.token_file"
                );
            }
            Self::Misdirected => {
                error!(
                    target,
                    url,
                    error,
                    "whatever answers does not seem to be a context broker, is orion.url right? Write-backs wait"
                );
            }
        }
    }
}
