//! State and metrics over HTTP: on loopback for looking, on a Unix socket for
//! the command line, which may also change things.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::certificates::Watch;
use crate::health::{Health, Pulse};
use crate::orion::dead_letters::{self, DeadLetters};
use crate::orion::replay;
use crate::record::Sequence;
use crate::serve::{self, Body, Connection, Limits};
use crate::spark::{self, AnswerBounds, line_socket};
use crate::status::Status;
use crate::store::{Log, Store};
use crate::uplink;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const LIMITS: Limits = Limits {
    connections: 64,
    handshake: Duration::from_secs(10),
    head: Duration::from_mins(1),
    write: Duration::from_mins(1),
};
const PEEK: AnswerBounds = AnswerBounds {
    max_bytes: 1 << 20,
    max_wait: Duration::from_mins(1),
    live_share: 0.0,
    drain: None,
};
const LISTED: usize = 100;

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where `/live`, `/ready`, `/metrics` and `/status` are.
    pub listen: SocketAddr,
    /// Unix socket of the command line; `admin.sock` in the data directory
    /// without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8071)), socket: None }
    }
}

/// Everything there is to look at.
pub struct Admin {
    /// The gateway's name.
    pub id: String,
    /// When it was started.
    pub started: Instant,
    /// What it keeps.
    pub store: Arc<Store>,
    /// What Orion refused.
    pub dead_letters: DeadLetters,
    /// How the replay fares.
    pub replay: replay::Handle,
    /// How the link to the relay does.
    pub uplink: Option<uplink::Handle>,
    /// Memory that requests share.
    pub budget: Budget,
    /// Certificates in use.
    pub certificates: Arc<Watch>,
    /// How line sockets fare.
    pub line_sockets: Vec<line_socket::Handle>,
    /// Who does not get on.
    pub health: Health,
    /// Metrics.
    pub registry: Registry,
    /// Told when the gateway stops.
    pub stop: CancellationToken,
}

impl Admin {
    /// Serves what may be looked at, until the stop.
    pub async fn show(self: Arc<Self>, listener: TcpListener) {
        let stop = self.stop.clone();
        let connect = move |_| Session { admin: Arc::clone(&self), may_change: false };
        serve::serve(listener, None, LIMITS, Pulse::default(), stop, connect).await;
    }

    /// Serves the command line, until the stop.
    pub async fn command(self: Arc<Self>, listener: UnixListener) {
        let stop = self.stop.clone();
        let connect = move || Session { admin: Arc::clone(&self), may_change: true };
        serve::serve_unix(listener, LIMITS, stop, connect).await;
    }

    async fn status(&self) -> Status {
        let mut status = Status::of(&self.store).await;
        status.id.clone_from(&self.id);
        // By the clock as it is now: it may have been set since.
        let now = SystemTime::now();
        status.started = Some(now.checked_sub(self.started.elapsed()).unwrap_or(now));
        status.pid = Some(std::process::id());
        status.replay = Some(self.replay.status());
        status.uplink = self.uplink.as_ref().map(uplink::Handle::status);
        status.write_backs.dead_letters = self.dead_letters.count() as u64;
        status.bytes_in_flight = self.budget.in_flight() as u64;
        status.line_sockets = self.line_sockets.iter().map(line_socket::Handle::status).collect();
        status.problems = self.problems();
        status.certificates = self.certificates.certificates(now);
        status.client_certificates = self.certificates.clients(now);
        status
    }

    /// Why the gateway cannot do its work now; empty where it can. Asks the
    /// disk for nothing: that may be what hangs.
    fn problems(&self) -> Vec<String> {
        let failing = self.store.logs().into_iter().filter(|log| log.is_failing());
        let failing = failing.map(|log| format!("log {} cannot be written", log.name()));
        let standing = self.health.standstills().into_iter().map(|part| part.to_string());
        failing.chain(standing).collect()
    }

    async fn metrics(&self) -> Response<Body> {
        let mut text = String::new();
        // Sets gauges too.
        let status = self.status().await;
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        let end = text.trim_end().len().saturating_sub("# EOF".len());
        text.truncate(end);
        status.write_metrics(&mut text);
        text.push_str("# EOF\n");
        serve::with_body(StatusCode::OK, OPENMETRICS, text.into())
    }
}

struct Session {
    admin: Arc<Admin>,
    may_change: bool,
}

impl Connection for Session {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let admin = &self.admin;
        match (request.method(), &parts[..]) {
            (&Method::GET, ["live"]) => text("live\n"),
            (&Method::GET, ["ready"]) => {
                let problems = admin.problems();
                if problems.is_empty() {
                    return text("ready\n");
                }
                serve::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "problems": problems }))
            }
            (&Method::GET, ["metrics"]) => admin.metrics().await,
            (&Method::GET, ["status"]) => serve::json(StatusCode::OK, &admin.status().await),
            _ if self.may_change => self.command(&parts, &request).await,
            _ => not_found("there are /live, /ready, /metrics and /status"),
        }
    }
}

impl Session {
    async fn records(
        &self,
        log: Option<Arc<Log>>,
        name: &str,
        request: &Request<Incoming>,
    ) -> Response<Body> {
        let Some(log) = log else { return not_found(&format!("there is no stream {name}")) };
        let (query, headers) = (request.uri().query(), request.headers());
        let (budget, stop) = (&self.admin.budget, &self.admin.stop);
        spark::answer_records(&log, query, headers, &PEEK, budget, stop).await.0
    }

    async fn command(&self, parts: &[&str], request: &Request<Incoming>) -> Response<Body> {
        let (admin, query) = (&self.admin, request.uri().query().unwrap_or_default());
        match (request.method(), parts) {
            (&Method::GET, ["streams", stream, "records"]) => {
                self.records(admin.store.stream(stream), stream, request).await
            }
            (&Method::GET, ["gateways", gateway, "streams", stream, "records"]) => {
                let remote = admin.store.remote(gateway);
                let replica = remote.and_then(|remote| remote.replica(stream, None));
                self.records(replica, &format!("{gateway}/{stream}"), request).await
            }
            (&Method::POST, ["certificates", "look"]) => {
                serve::json(StatusCode::OK, &admin.certificates.look_and_settle().await)
            }
            (&Method::GET, ["dead-letters"]) => {
                let from = query.strip_prefix("from=").and_then(|from| from.parse().ok());
                answer(admin.dead_letters.list(from.unwrap_or(0), LISTED).await)
            }
            (&Method::GET, ["dead-letters", id]) => match id.parse() {
                Ok(id) => answer(admin.dead_letters.show(id).await),
                Err(_) => not_an_id(id),
            },
            (&Method::POST, ["dead-letters", id, "retry"]) => match id.parse::<Sequence>() {
                Ok(id) => answer(admin.dead_letters.retry(id, query == "force").await),
                Err(_) => not_an_id(id),
            },
            (&Method::DELETE, ["dead-letters", id]) => match id.parse() {
                Ok(id) => answer(admin.dead_letters.drop(id).await),
                Err(_) => not_an_id(id),
            },
            _ => not_found("the command line and the gateway are of different versions"),
        }
    }
}

fn answer<T: Serialize>(result: Result<T, dead_letters::Error>) -> Response<Body> {
    match result {
        Ok(value) => serve::json(StatusCode::OK, &value),
        Err(error) => serve::refusal(StatusCode::CONFLICT, "Refused", &error.to_string()),
    }
}

fn text(text: &'static str) -> Response<Body> {
    serve::with_body(StatusCode::OK, "text/plain", text.into())
}

fn not_found(description: &str) -> Response<Body> {
    serve::refusal(StatusCode::NOT_FOUND, "NotFound", description)
}

fn not_an_id(id: &str) -> Response<Body> {
    let text = format!("{id} is not the number of a dead letter");
    serve::refusal(StatusCode::BAD_REQUEST, "BadRequest", &text)
}
