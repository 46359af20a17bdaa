//! Streams as lines over plain TCP or TLS, for Spark's `socketTextStream` and
//! whatever else reads a socket: one that sends nothing, cannot ask for a
//! place to begin, and says of what it got only what its kernel acknowledges.
//!
//! So it is at least once: what a client's kernel has not acknowledged when
//! the connection ends is sent again, and before that a window of what it has
//! acknowledged, which the client may have lost. `ledger` holds who has what,
//! `client` reads and writes, `connection` counts the bytes on the wire,
//! `unacknowledged` asks the kernel, `socket` moves the consumer's position,
//! `form` makes the lines.

mod client;
mod config;
mod connection;
mod form;
mod guard;
mod ledger;
mod metrics;
mod socket;
mod unacknowledged;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::{Clients, Config, Form, Window};
pub use metrics::Metrics;
pub use socket::Status;

use super::Access;
use crate::budget::Budget;
use crate::store::{AppendError, PositionError, Store};
use crate::tls::Acceptor;
use crate::write_back::is_token;
use connection::Wire;
use guard::Guard;
use socket::Socket;

/// How long to wait before accepting again when the system refuses to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A line socket, ready to run.
pub struct LineSocket {
    socket: Arc<Socket>,
    guard: Guard,
}

/// Shows how a line socket fares.
#[derive(Clone)]
pub struct Handle(Arc<Socket>);

/// Why a line socket cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its stream cannot be made.
    #[error("the stream of line socket {consumer} cannot be made: {source}")]
    Stream {
        /// Its consumer.
        consumer: String,
        /// Why.
        source: AppendError,
    },
    /// There are `store.max_streams` without its own.
    #[error("there is no room for the stream {0} of a line socket; raise store.max_streams")]
    TooManyStreams(String),
    /// Its consumer cannot be registered.
    #[error("the consumer {consumer} of a line socket cannot be registered: {source}")]
    Consumer {
        /// Which.
        consumer: String,
        /// Why.
        source: PositionError,
    },
}

/// Whether a consumer may have that name.
#[must_use]
pub fn is_consumer_name(name: &str) -> bool {
    is_token(name)
}

impl Handle {
    /// How it fares.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }
}

impl LineSocket {
    /// Registers its consumer, so that records are kept for it from now on.
    /// `gateway` is the name of this one, for the grants that name any.
    ///
    /// # Errors
    /// Where its stream or consumer cannot be made.
    pub async fn new(
        config: Config,
        gateway: String,
        store: &Arc<Store>,
        budget: Budget,
        access: Arc<ArcSwap<Access>>,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let Config { stream, consumer, .. } = &config;
        let log = store.stream_for(stream).await.map_err(|source| {
            let consumer = consumer.clone();
            Error::Stream { consumer, source }
        })?;
        if log.name() != stream {
            return Err(Error::TooManyStreams(stream.clone()));
        }
        let position = if let Some(position) = log.position(consumer) {
            position
        } else {
            let earliest = log.bounds().earliest;
            let registered = log.acknowledge(consumer, None, earliest, false).await;
            registered.map_err(|source| {
                let consumer = consumer.clone();
                Error::Consumer { consumer, source }
            })?
        };
        let metrics = metrics.of(stream, consumer);
        let guard = Guard { access, gateway, stream: stream.clone() };
        let socket = Arc::new(Socket::new(config, log, budget, position, metrics));
        Ok(Self { socket, guard })
    }

    /// To look at it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.socket))
    }

    /// Serves clients until `stop`; those that are sent something then get
    /// the lines that were begun.
    pub async fn run(
        self,
        listener: TcpListener,
        tls: Option<Arc<Acceptor>>,
        stop: CancellationToken,
    ) {
        let Self { socket, guard } = self;
        let guard = Arc::new(guard);
        let clients = TaskTracker::new();
        let position = clients.spawn(Arc::clone(&socket).keep_position(stop.clone()));
        let room = Arc::new(Semaphore::new(socket.config.max_clients));
        loop {
            let accepted = stop.run_until_cancelled(async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            });
            let Some((permit, accepted)) = accepted.await else { break };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (socket, guard) = (Arc::clone(&socket), Arc::clone(&guard));
            let (tls, stop) = (tls.clone(), stop.clone());
            clients.spawn(async move {
                let peer = address.to_string();
                info!(listen = %socket.config.listen, peer, "a line socket's client has come");
                if let Err(error) = greet(&socket, stream, tls, &guard, &peer, &stop).await {
                    warn!(listen = %socket.config.listen, peer, error, "a line socket's client was refused");
                }
                drop(permit);
            });
        }
        drop(listener);
        let _ = position.await;
        clients.close();
        clients.wait().await;
    }
}

/// Learns who a client is, and serves it as long as it may be served.
async fn greet(
    socket: &Arc<Socket>,
    stream: TcpStream,
    tls: Option<Arc<Acceptor>>,
    guard: &Guard,
    peer: &str,
    stop: &CancellationToken,
) -> Result<(), String> {
    let patience = socket.config.patience;
    let (stream, wire) = Wire::of(stream, patience).map_err(|error| error.to_string())?;
    let Some(acceptor) = tls else {
        client::serve(socket, stream, &wire, peer, std::future::pending(), stop).await;
        return Ok(());
    };
    let accepting = acceptor.accept(stream, patience);
    let Some(accepted) = stop.run_until_cancelled(accepting).await else { return Ok(()) };
    let (stream, known) = accepted.map_err(|error| error.to_string())?;
    if socket.config.client_ca.is_none() {
        client::serve(socket, stream, &wire, peer, std::future::pending(), stop).await;
        return Ok(());
    }
    let name = known.name.as_deref();
    guard.lets_in(name)?;
    let expelled = async {
        tokio::select! {
            why = guard.refuses(name) => why,
            () = known.trust.cancelled() => {
                "the authority that it was let in by is trusted no more".to_owned()
            }
        }
    };
    client::serve(socket, stream, &wire, peer, expelled, stop).await;
    Ok(())
}
