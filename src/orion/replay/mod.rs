//! Write-backs out: from the log to Orion, in order for each entity, until
//! each has an outcome.
//!
//! * `feed` reads the log and cuts it into units, each one request;
//! * `schedule` tells which unit may go; `target` whether Orion can take it,
//!   `down` when it is tried again;
//! * `send` sends it; [`outcome`](super::outcome) says what the answer means;
//! * `journal` keeps each outcome durably before the entity's next write goes;
//! * `engine` is the one task that owns all state and lets them work together.
//!
//! What holds at every moment:
//! 1. A unit is sent only after every earlier one of its entities is durable
//!    as done. A unit that must not be sent twice without knowing is noted
//!    durably before it is sent.
//! 2. The position of the consumer `replay` never passes an unfinished unit.
//!    What finished above it stands in the outcomes log, so a restart takes
//!    nothing back.
//! 3. A dead letter is durable before its unit counts as done.
//! 4. Units in memory are at most `window` and 4 MiB, and one entry of the
//!    log; reading stops 64 windows ahead of the oldest unfinished unit.
//!
//! The log is read strictly in its order, through that window: what comes
//! while a backlog waits goes behind it, also where it is for another entity.
//! So no backlog starves, and nothing overtakes one. Within the window
//! entities do not wait for each other, but units of one entity whose first
//! fails can fill it: until that one is applied or a dead letter.

mod config;
mod down;
mod endpoint;
mod engine;
mod feed;
mod intake;
mod journal;
mod metrics;
mod positions;
mod reload;
mod schedule;
mod send;
mod settle;
mod staged;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod unit;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use config::{Coalesce, Config, TargetConfig};
pub use metrics::Metrics;
pub use status::{Handle, Status, TargetStatus};

use super::dead_letters::DeadLetters;
use crate::store::{Log, PositionError, ReadError, Store};
use crate::tls;
use endpoint::Endpoint;
use engine::Engine;

/// Why the replay cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used. Fatal.
    #[error("{0}")]
    Config(String),
    /// So is what it says of TLS. Fatal.
    #[error("orion.ca: {0}")]
    Tls(#[from] tls::Error),
    /// The store cannot be read at start. Fatal.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A position cannot be kept at start. Fatal.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The store was closed while the replay ran. Fatal.
    #[error("the store was closed while write-backs were replayed")]
    Closed,
    /// A task ended by a panic: a bug. Fatal.
    #[error("a task of the replay ended unexpectedly: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The logs that the replay reads and writes.
#[derive(Clone)]
pub struct Logs {
    /// What is to be written to Orion.
    pub write_backs: Arc<Log>,
    /// What became of it.
    pub outcomes: Arc<Log>,
}

impl From<&Store> for Logs {
    fn from(store: &Store) -> Self {
        Self {
            write_backs: Arc::clone(store.write_backs()),
            outcomes: Arc::clone(store.outcomes()),
        }
    }
}

/// The replay, ready to run.
pub struct Replay {
    config: Config,
    endpoints: Vec<Arc<Endpoint>>,
    logs: Logs,
    dead_letters: DeadLetters,
    metrics: Metrics,
    signs_of_life: Arc<Notify>,
    handle: Handle,
}

impl Replay {
    /// Makes it. `signs_of_life` is told of everything that Orion sends: a
    /// wait for an Orion that was down then ends.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Tls`].
    pub fn new(
        config: Config,
        logs: Logs,
        dead_letters: DeadLetters,
        metrics: Metrics,
        signs_of_life: Arc<Notify>,
    ) -> Result<Self, Error> {
        let endpoints = Endpoint::all(&config)?.into_iter().map(Arc::new).collect();
        let handle = Handle::new(config.clone(), Arc::clone(&logs.write_backs));
        Ok(Self { config, endpoints, logs, dead_letters, metrics, signs_of_life, handle })
    }

    /// For status and reload, while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Replays until `stop`; then takes nothing new, lets what is in flight
    /// end, at most its timeout, and notes its outcome.
    ///
    /// # Errors
    /// Each is fatal. An Orion that cannot be reached or refuses is none.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        Engine::start(self).await?.run(stop).await
    }
}
