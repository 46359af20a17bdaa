//! What the replay says of itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Error;
use super::config::Config;
use super::endpoint::Endpoint;
use crate::health::{Busy, Jobs, LongestWait};
use crate::record::Sequence;
use crate::store::Log;
use crate::write_back::APPLIED;

/// What the replay is doing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Write-backs in memory without a durable outcome, and entries of the
    /// log that were not read yet (a commit is one, whatever it holds).
    pub waiting: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// When the oldest waiting write-back came.
    #[serde(default, with = "crate::timestamp::option", skip_serializing_if = "Option::is_none")]
    pub oldest_waiting: Option<SystemTime>,
    /// The default target first.
    pub targets: Vec<TargetStatus>,
}

/// How a target does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its tenant; `default` for the first.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Whether it takes write-backs.
    pub up: bool,
    /// Since when it is up, or not.
    #[serde(with = "crate::timestamp")]
    pub since: SystemTime,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is tried again, where it is not up.
    #[serde(default, with = "crate::timestamp::option", skip_serializing_if = "Option::is_none")]
    pub next_try: Option<SystemTime>,
}

/// What the engine tells, without the entries that it has not read.
#[derive(Default)]
struct Published {
    status: Status,
    read: Sequence,
}

/// The configuration that is to be in use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub config: Config,
    /// Grows each time: the same configuration may name files that changed.
    pub edition: u64,
}

/// For those who ask how the replay does, or change its configuration, while
/// it runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    published: Arc<Mutex<Published>>,
    write_backs: Arc<Log>,
    pub(super) config: watch::Sender<Wanted>,
    /// Requests to Orion.
    pub(super) attempts: Jobs,
    longest_timeout: Arc<LongestWait>,
}

impl Handle {
    pub(super) fn new(config: Config, write_backs: Arc<Log>) -> Self {
        let read = write_backs.position(APPLIED).unwrap_or(write_backs.bounds().earliest);
        let published = Published { status: Status::default(), read };
        let published = Arc::new(Mutex::new(published));
        Self {
            published,
            write_backs,
            config: watch::Sender::new(Wanted { config, edition: 0 }),
            attempts: Jobs::default(),
            longest_timeout: Arc::default(),
        }
    }

    /// `status` counts what is in memory; all entries below `read` are read.
    pub(super) fn publish(&self, status: Status, read: Sequence) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        *published = Published { status, read };
    }

    /// What the replay is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let next = self.write_backs.bounds().next;
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = published.status.clone();
        status.waiting += next.saturating_sub(published.read);
        status
    }

    /// What has work: a request to Orion must end within its timeout, and
    /// then be taken in within `patience`.
    pub fn busy(&self, patience: Duration, busy: &mut Vec<Busy>) {
        let timeout = self.config.borrow().config.timeout;
        let patience = self.longest_timeout.added_to(patience, timeout);
        if let Some(step) = self.attempts.step() {
            busy.push(Busy { part: "the replay to Orion".to_owned(), step, patience });
        }
    }

    /// Takes over a changed configuration, and changed files that it names, for
    /// requests from now on: address, headers, tokens, authorities, timeouts, `parallel` and the like. `window`, and which
    /// tenants have a target, need a restart.
    ///
    /// # Errors
    /// Where the configuration cannot be used; the old one then stays.
    pub fn reload(&self, config: Config) -> Result<(), Error> {
        Endpoint::all(&config)?;
        self.config.send_modify(|wanted| {
            *wanted = Wanted { config, edition: wanted.edition + 1 };
        });
        Ok(())
    }
}
