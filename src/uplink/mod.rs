//! A gateway's link to its relay: it dials out, hands its streams over, and
//! pulls the write-backs that wait for it there.
//!
//! * `push`: one task for each stream. The relay says where its replica ends;
//!   what is above it goes, as it is stored, and `account` says what each
//!   request accounts for. The consumer `uplink` of the stream follows, so
//!   that nothing is deleted before the relay has it on stable storage.
//! * `pull`: the relay's outbox, by long-poll, into an [`Inbox`].
//! * `line`: whether the relay can be reached, known to all of them.
//! * `client`: one request.
//!
//! What holds at every moment:
//! 1. The relay's word counts: each time the line comes up it is asked where
//!    its replica ends, so the own position may trail.
//! 2. A request accounts for each number of its range: as a record, or in a
//!    hole with its reason. Sent twice it changes nothing.
//! 3. What is in memory is at most one request for each of a few streams, and
//!    counts against the budget.

mod account;
mod client;
mod config;
mod line;
mod metrics;
mod pull;
mod push;
mod repack;
mod request_size;
mod shared;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use client::certificate_name;
pub use config::Config;
pub use metrics::Metrics;
pub use pull::Inbox;
pub use status::{Handle, Status, StreamStatus};

use crate::boxed::boxed;
use crate::budget::Budget;
use crate::store::Store;
use crate::tls;
use pull::Pull;
use push::Push;
use shared::Shared;

/// The consumer of a stream that holds what the relay does not have.
pub const CONSUMER: &str = "uplink";
/// How often it shows that it is still there, while the relay is away.
const SIGN_OF_LIFE: Duration = Duration::from_mins(30);

/// Why the uplink cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used. Fatal.
    #[error("{0}")]
    Config(String),
    /// So is what it says of TLS. Fatal.
    #[error("[uplink]: {0}")]
    Tls(#[from] tls::Error),
}

/// What the uplink works with.
pub struct Parts {
    /// The gateway's name.
    pub id: String,
    /// Its streams.
    pub store: Arc<Store>,
    /// Memory that its requests share with others.
    pub budget: Budget,
    /// What is counted.
    pub metrics: Metrics,
}

/// The uplink, ready to run.
pub struct Uplink<I> {
    shared: Arc<Shared>,
    inbox: Arc<I>,
}

impl<I: Inbox> Uplink<I> {
    /// Makes it, and registers it at every stream that the relay is to get:
    /// nothing is deleted from now on that the relay does not have.
    ///
    /// # Errors
    /// Where the configuration cannot be used.
    pub async fn new(config: Config, parts: Parts, inbox: Arc<I>) -> Result<Self, Error> {
        if let Some(cert) = &config.cert {
            let (id, name) = (&parts.id, certificate_name(cert)?);
            if name.as_ref() != Some(id) {
                let name = name.unwrap_or_else(|| "nobody".to_owned());
                error!(
                    id, certificate = %cert.display(), name,
                    "the certificate is of another name than the gateway's id: the relay will refuse it; \
                     set id to that name, or make a certificate with `ngsi-ferry pki client ID` on the relay"
                );
            }
        }
        let shared = Arc::new(Shared::new(config, parts)?);
        let config = shared.config.load();
        for log in shared.store.streams() {
            if config.sends(log.name()) {
                if let Err(error) = push::register(&log).await {
                    warn!(stream = log.name(), %error, "the uplink could not be registered yet");
                }
            } else {
                warn_of_left_over(&log);
            }
        }
        Ok(Self { shared, inbox })
    }

    /// For status and reload, while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Runs until `stop`. A request in flight is given up then: what came of
    /// it the relay tells at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(boxed(Pull::new(Arc::clone(&self.shared), Arc::clone(&self.inbox)).run()));
        let mut made = self.shared.store.watch_streams();
        let mut known = BTreeSet::new();
        let mut signs = tokio::time::interval(SIGN_OF_LIFE);
        loop {
            made.borrow_and_update();
            let config = self.shared.config.load_full();
            for log in self.shared.store.streams() {
                if config.sends(log.name()) && known.insert(log.name().to_owned()) {
                    if let Err(error) = push::register(&log).await {
                        warn!(stream = log.name(), %error, "the uplink could not be registered yet");
                    }
                    tasks.spawn(boxed(Push::new(Arc::clone(&self.shared), log).run()));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = made.changed() => {}
                _ = signs.tick() => self.show_life(&known).await,
                // None of them ends; a panic ends the gateway.
                _ = tasks.join_next() => return,
            }
        }
    }

    /// However long the relay is away: this consumer is not a forgotten one.
    async fn show_life(&self, streams: &BTreeSet<String>) {
        for log in streams.iter().filter_map(|name| self.shared.store.stream(name)) {
            let at = log.position(CONSUMER).unwrap_or(log.bounds().earliest);
            if let Err(error) = log.acknowledge(CONSUMER, None, at, false).await {
                warn!(stream = log.name(), %error, "the uplink's position could not be written");
            }
        }
    }
}

/// A consumer that nobody moves any more holds records for ever.
pub fn warn_of_left_over(log: &crate::store::Log) {
    if log.position(CONSUMER).is_some() {
        warn!(
            stream = log.name(),
            "an uplink once sent this stream and does so no more; its consumer `uplink` still holds records: \
             remove it with DELETE /v1/streams/{}/consumers/uplink",
            log.name()
        );
    }
}
