//! Notifications in: whatever a context broker sends is kept whole and
//! answered with 204 only once it is on stable storage.
//!
//! Orion never resends, and Orion-LD pauses a subscription after three
//! refusals, so nothing is refused that could be kept.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::intake_metrics::{IntakeMetrics, Refused};
use super::repeats::{self, Fate, Identity, Outstanding, Repeats};
use super::route::{Route, stream_of};
use super::strangers::Strangers;
use crate::budget::{Budget, Share};
use crate::health::Pulse;
use crate::record::{Line, Notification};
use crate::serve::{self, Body, BodyError, Client, Connection, Limits};
use crate::store::{AppendError, Appending, Log, Store};
use crate::tls::Acceptor;

/// How long a full store may keep a request waiting: Orion gives up at 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
const _: () = assert!(PATIENCE.as_secs() < 5, "Orion does not wait so long for an answer");
/// How much of a log's tail is read for repeats after an unclean end.
const TAIL_BYTES: usize = 1 << 20;

/// `[intake]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Orion's subscriptions send to.
    pub listen: SocketAddr,
    /// Largest body that is kept; 413 above. Orion sends up to 8 MB.
    #[serde(with = "crate::units::size")]
    pub max_body: u64,
    /// How long a connection may take to send a request's head; an idle one
    /// is closed after it too.
    #[serde(with = "crate::units::duration")]
    pub head_timeout: Duration,
    /// How long a request may take to send its body.
    #[serde(with = "crate::units::duration")]
    pub body_timeout: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Networks that may send; empty means all.
    pub allow: Vec<IpNet>,
    /// A file with a secret that every request must bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// The header that brings the secret, alone or as `Bearer SECRET`.
    pub secret_header: String,
    /// Certificate (PEM) for TLS; plain HTTP without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8061)),
            max_body: 8 << 20,
            head_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_secs(30),
            max_connections: 512,
            allow: Vec::new(),
            secret_file: None,
            secret_header: "authorization".to_owned(),
            cert: None,
            key: None,
        }
    }
}

/// What of the intake changes with the configuration while it runs.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Where to what names no stream.
    pub routes: Vec<Route>,
    /// The secret that every request must bring.
    pub secret: Option<String>,
}

/// The notification endpoint.
pub struct Intake {
    config: Config,
    rules: Arc<ArcSwap<Rules>>,
    store: Arc<Store>,
    budget: Budget,
    repeats: Arc<Repeats>,
    signs_of_life: Arc<Notify>,
    strangers: Strangers,
    metrics: IntakeMetrics,
}

impl Intake {
    /// An intake that appends to `store` and tells `signs_of_life` of each
    /// notification: where one comes from, Orion can be reached.
    #[must_use]
    pub fn new(
        config: Config,
        rules: Arc<ArcSwap<Rules>>,
        store: Arc<Store>,
        budget: Budget,
        signs_of_life: Arc<Notify>,
        metrics: IntakeMetrics,
    ) -> Self {
        let (repeats, strangers) = (Arc::default(), Strangers::default());
        Self { config, rules, store, budget, repeats, signs_of_life, strangers, metrics }
    }

    /// Serves until `stop`, then finishes what was begun.
    pub async fn run(
        self,
        listeners: Vec<TcpListener>,
        tls: Option<Arc<Acceptor>>,
        pulse: Pulse,
        stop: CancellationToken,
    ) {
        self.remember_tails().await;
        let limits = Limits {
            connections: self.config.max_connections,
            handshake: self.config.head_timeout,
            head: self.config.head_timeout,
            write: self.config.head_timeout,
        };
        let intake = Arc::new(self);
        let mut serving = JoinSet::new();
        for listener in listeners {
            let intake = Arc::clone(&intake);
            let connect = move |client: Client| Sender::new(Arc::clone(&intake), client.address);
            let (tls, pulse, stop) = (tls.clone(), pulse.clone(), stop.clone());
            serving.spawn(serve::serve(listener, tls, limits, pulse, stop, connect));
        }
        serving.join_all().await;
    }

    /// After an unclean end the last answers may not have been delivered.
    async fn remember_tails(&self) {
        for log in self.store.streams() {
            let mut stored = Vec::new();
            // The last ones matter most: where they are large, fewer.
            for count in repeats::TAILS {
                let (from, end) = (log.last(count), log.bounds().next);
                let Ok(batch) = log.read(from..end, TAIL_BYTES).await else { continue };
                if batch.next >= end {
                    stored = batch.records().unwrap_or_default();
                    break;
                }
            }
            let recent = |notification: &Notification| {
                notification.received.elapsed().is_ok_and(|age| age < 2 * repeats::WINDOW)
            };
            let stored = stored.into_iter().map(|record| record.notification);
            self.repeats.remember_stored(stored.filter(recent));
        }
    }

    fn refuse(&self, why: Refused, answer: Response<Body>) -> Response<Body> {
        self.metrics.refused(why);
        answer
    }

    fn is_allowed(&self, address: Option<SocketAddr>) -> bool {
        let Some(address) = address.map(|address| address.ip().to_canonical()) else { return true };
        self.config.allow.is_empty() || self.config.allow.iter().any(|net| net.contains(&address))
    }

    /// What may be said against a request before its body is read.
    fn objection(
        &self,
        request: &Request<Incoming>,
        from: Option<SocketAddr>,
    ) -> Option<Response<Body>> {
        if !self.is_allowed(from) {
            let address = from.map_or(IpAddr::from([0; 4]), |from| from.ip().to_canonical());
            let text = format!("{address} is in none of the networks of intake.allow");
            self.strangers.refused(from, &text);
            let answer = serve::refusal(StatusCode::FORBIDDEN, "Forbidden", &text);
            return Some(self.refuse(Refused::Network, answer));
        }
        if let Some(secret) = &self.rules.load().secret
            && !serve::holds_secret(request.headers(), &self.config.secret_header, secret)
        {
            let text =
                format!("the subscription must send the secret in {}", self.config.secret_header);
            self.strangers.refused(from, &text);
            let answer = serve::refusal(StatusCode::UNAUTHORIZED, "Unauthorized", &text);
            return Some(self.refuse(Refused::Secret, answer));
        }
        if serve::content_length(request).is_some_and(|length| length > self.config.max_body) {
            return Some(self.refuse_body(BodyError::TooLarge));
        }
        None
    }

    fn refuse_body(&self, error: BodyError) -> Response<Body> {
        let why = match error {
            BodyError::TooLarge => Refused::TooLarge,
            BodyError::TooSlow | BodyError::Broken => Refused::Body,
        };
        self.refuse(why, error.answer(self.max_body(), self.config.body_timeout))
    }

    fn max_body(&self) -> usize {
        usize::try_from(self.config.max_body).unwrap_or(usize::MAX)
    }

    /// Everything of a request that is kept.
    fn identity(&self, request: http::request::Parts, body: Bytes) -> Identity {
        let mut headers = request.headers;
        for name in serve::HOP_BY_HOP {
            headers.remove(name);
        }
        if self.rules.load().secret.is_some() {
            headers.remove(&self.config.secret_header);
        }
        let root = || PathAndQuery::from_static("/");
        let path = request.uri.into_parts().path_and_query.unwrap_or_else(root);
        Identity::new(request.method, path, headers, body)
    }
}

/// One connection that notifications come on.
pub(super) struct Sender {
    intake: Arc<Intake>,
    address: Option<SocketAddr>,
    /// The last request, until the next one shows that its answer arrived.
    undelivered: Mutex<Option<(Identity, Outstanding, Instant)>>,
}

impl Connection for Sender {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let intake = &self.intake;
        let begun = Instant::now();
        self.put_undelivered(None);
        if let Some(objection) = intake.objection(&request, self.address) {
            // Who waits for leave to send the body has not sent it.
            if !serve::expects_continue(request.headers()) {
                serve::discard(request.into_body(), intake.config.body_timeout).await;
            }
            return objection;
        }
        let (head, body) = request.into_parts();
        let (max_body, deadline) = (intake.max_body(), intake.config.body_timeout);
        let (body, share) = match serve::read_body(body, max_body, deadline, &intake.budget).await {
            Ok((body, share)) => (body, Arc::new(share)),
            Err(error) => return intake.refuse_body(error),
        };
        let rules = intake.rules.load();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let stream = stream_of(path, &rules.routes, &head.headers, &body);
        let log = match intake.store.stream_for(stream).await {
            Ok(log) => log,
            Err(error) => return intake.refuse_append(&error),
        };
        drop(rules);
        let identity = intake.identity(head, body);
        let outstanding = intake.repeats.begin(&identity).await;
        if intake.repeats.any()
            && let Some(fate) = intake.repeats.take(&identity)
            && Self::was_stored(fate).await
        {
            intake.metrics.repeated();
            self.put_undelivered(Some((identity, outstanding)));
            return serve::empty(StatusCode::NO_CONTENT);
        }
        self.store(&log, (identity, outstanding), &share, begun).await
    }

    fn closed(&self, orderly: bool) {
        let undelivered = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((identity, outstanding, answered)) = undelivered {
            if !orderly {
                self.intake.repeats.remember(identity, Fate::Stored, answered);
            }
            // Only now: who waits for this looks for the other.
            drop(outstanding);
        }
    }
}

impl Sender {
    pub(super) fn new(intake: Arc<Intake>, address: Option<SocketAddr>) -> Self {
        Self { intake, address, undelivered: Mutex::default() }
    }

    async fn was_stored(fate: Fate) -> bool {
        match fate {
            Fate::Stored => true,
            Fate::Appending(appending) => appending.await.is_ok(),
        }
    }

    async fn store(
        &self,
        log: &Log,
        (identity, outstanding): (Identity, Outstanding),
        share: &Arc<Share>,
        begun: Instant,
    ) -> Response<Body> {
        let intake = &self.intake;
        let headers: Vec<_> = identity
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let line = Line::encode(
            SystemTime::now(),
            identity.method.as_str(),
            identity.path.as_str(),
            &headers,
            &identity.body,
        );
        let bytes = identity.body.len();
        let mut waiting = Waiting {
            repeats: &intake.repeats,
            identity: Some((identity, outstanding)),
            appending: None,
        };
        let stored = waiting.append(log, line, share, begun + PATIENCE).await;
        // From here on the answer's delivery is the connection's affair.
        let identity = waiting.identity.take();
        if let Err(error) = stored {
            return intake.refuse_append(&error);
        }
        self.put_undelivered(identity);
        intake.signs_of_life.notify_one();
        intake.metrics.stored(bytes, begun.elapsed());
        serve::empty(StatusCode::NO_CONTENT)
    }

    fn put_undelivered(&self, last: Option<(Identity, Outstanding)>) {
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) =
            last.map(|(identity, outstanding)| (identity.shortened(), outstanding, Instant::now()));
    }
}

impl Intake {
    fn refuse_append(&self, error: &AppendError) -> Response<Body> {
        // A refused notification is lost: Orion does not send it again.
        warn!(%error, "a notification was refused");
        let why = match error {
            AppendError::Full => Refused::Full,
            AppendError::Disk(_) => Refused::Disk,
            AppendError::Closed => Refused::Stopping,
        };
        self.refuse(why, serve::busy(&error.to_string()))
    }
}

/// A request that waits for its commit. Where its connection ends meanwhile,
/// this is dropped, and its repeat is to find out what became of it.
struct Waiting<'a> {
    repeats: &'a Repeats,
    identity: Option<(Identity, Outstanding)>,
    appending: Option<Appending>,
}

impl Waiting<'_> {
    async fn append(
        &mut self,
        log: &Log,
        line: Line,
        share: &Arc<Share>,
        deadline: Instant,
    ) -> Result<(), AppendError> {
        loop {
            let room = log.room();
            let appending = self.appending.insert(log.submit_with(line.clone(), share).await?);
            let appended = appending.await;
            self.appending = None;
            match appended {
                Err(AppendError::Full) => {
                    tokio::time::timeout_at(deadline.into(), room)
                        .await
                        .map_err(|_| AppendError::Full)?;
                }
                appended => return appended.map(drop),
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some((identity, outstanding)) = self.identity.take() else { return };
        if let Some(appending) = self.appending.take() {
            self.repeats.remember(identity, Fate::Appending(appending), Instant::now());
        }
        drop(outstanding);
    }
}
