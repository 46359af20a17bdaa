//! The Spark API: HTTP/1.1 over TLS, JSON lines, zstd. Nothing here needs a
//! client of ours; `curl --compressed` is a consumer.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Identity, Right};
use super::pass_through::PassThrough;
use super::query::Query;
use super::reading::AnswerBounds;
use super::records;
use super::staging::{Done, Staging, StagingError};
use super::{Config, SparkMetrics};
use crate::budget::{Budget, Share};
use crate::health::Pulse;
use crate::record::Sequence;
use crate::serve::{self, Body, Client, Connection, Limits};
use crate::store::{Acknowledgement, Lease, Log, LogStatus, PositionError, Store};
use crate::tls::Acceptor;
use crate::write_back::{Batch, is_token};

/// The API that Spark reads from and writes to.
pub struct Api {
    /// Settings.
    pub config: Config,
    /// The gateway's own id, for `/v1/gateways/{id}/…`.
    pub id: String,
    /// Who may do what.
    pub access: Arc<ArcSwap<Access>>,
    /// Where the streams are.
    pub store: Arc<Store>,
    /// Memory that requests and answers share.
    pub budget: Budget,
    /// Where write-backs are staged.
    pub staging: Arc<Staging>,
    /// Where NGSI writes go.
    pub pass_through: PassThrough,
    /// What is counted.
    pub metrics: SparkMetrics,
}

impl Api {
    /// Serves until `stop`; long-polls end at once then.
    pub async fn run(
        self,
        listener: TcpListener,
        tls: Arc<Acceptor>,
        pulse: Pulse,
        stop: CancellationToken,
    ) {
        let limits = Limits {
            connections: self.config.max_connections,
            handshake: self.config.body_timeout,
            head: self.config.max_wait.max(self.config.body_timeout),
            write: self.config.body_timeout,
        };
        // The drain's rate is one for all connections.
        let bounds = self.config.answer_bounds();
        let (api, stopping) = (Arc::new(self), stop.clone());
        let connect = move |client| {
            api.metrics.connected();
            let (api, bounds) = (Arc::clone(&api), bounds.clone());
            Session { api, bounds, client, stop: stopping.clone() }
        };
        serve::serve(listener, Some(tls), limits, pulse, stop, connect).await;
    }
}

struct Session {
    api: Arc<Api>,
    bounds: AnswerBounds,
    client: Client,
    stop: CancellationToken,
}

impl Connection for Session {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let answer = self.route(request).await;
        self.api.metrics.answered(answer.status());
        answer
    }
}

/// An answer that ends a request early; boxed, for it is the rare case.
struct Refused(Box<Response<Body>>);

impl Refused {
    fn new(answer: Response<Body>) -> Self {
        Self(Box::new(answer))
    }
}

impl Session {
    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(who) = self.api.access.load().identify(&self.client, request.headers()) else {
            return who_are_you();
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // `/gateways/{own id}` in front changes nothing.
        let rest = match self.own_path(&path) {
            Ok(rest) => rest,
            Err(refused) => return *refused.0,
        };
        if rest.starts_with("/v2/") || rest.starts_with("/ngsi-ld/") {
            return match self.grant(&who, Right::WriteBack, None) {
                Ok(()) => self.api.pass_through.answer(&rest, request).await,
                Err(refused) => *refused.0,
            };
        }
        let bare = rest.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = bare.trim_matches('/').split('/').collect();
        let answered = match (request.method(), &parts[..]) {
            (&Method::GET, ["v1", "gateways"]) => self.gateways(&who, request.uri().query()),
            (&Method::GET, ["v1", "streams"]) => self.streams(&who),
            (&Method::GET, ["v1", "streams", stream]) => self.stream(&who, stream),
            (&Method::GET, ["v1", "streams", stream, "records"]) => {
                self.records(&who, stream, &request).await
            }
            (&Method::PUT, ["v1", "streams", stream, "consumers", consumer]) => {
                let (stream, consumer) = ((*stream).to_owned(), (*consumer).to_owned());
                self.acknowledge(&who, &stream, &consumer, request).await
            }
            (&Method::DELETE, ["v1", "streams", stream, "consumers", consumer]) => {
                self.forget(&who, stream, consumer).await
            }
            (&Method::PUT, ["v1", "write-backs", query, batch, attempt]) => {
                let (batch, attempt) = (batch_of(query, batch), (*attempt).to_owned());
                self.stage(&who, batch, attempt, request).await
            }
            (&Method::POST, ["v1", "write-backs", query, batch, "commit"]) => {
                let batch = batch_of(query, batch);
                self.commit(&who, batch, request).await
            }
            (&Method::POST, ["v1", "write-backs", query, batch, "abort"]) => {
                self.abort(&who, batch_of(query, batch)).await
            }
            (_, ["v1", "gateways" | "streams" | "write-backs", ..]) => Err(not_allowed()),
            _ => Err(not_found(&format!("there is nothing at {bare}; see /v1/streams"))),
        };
        answered.unwrap_or_else(|refused| *refused.0)
    }

    /// The path without this gateway's own prefix.
    fn own_path<'a>(&self, path: &'a str) -> Result<Cow<'a, str>, Refused> {
        let (version, rest) =
            match (path.strip_prefix("/v1/gateways/"), path.strip_prefix("/gateways/")) {
                (Some(rest), _) => ("/v1", rest),
                (None, Some(rest)) => ("", rest),
                (None, None) => return Ok(Cow::Borrowed(path)),
            };
        let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if id != self.api.id {
            return Err(not_found(&format!("this is gateway {}, not {id}", self.api.id)));
        }
        Ok(Cow::Owned(format!("{version}/{rest}")))
    }

    fn grant(&self, who: &Identity, right: Right, stream: Option<&str>) -> Result<(), Refused> {
        if self.api.access.load().may(who, right, stream) {
            return Ok(());
        }
        Err(Refused::new(not_granted(who, right)))
    }

    fn log(&self, who: &Identity, right: Right, stream: &str) -> Result<Arc<Log>, Refused> {
        self.grant(who, right, Some(stream))?;
        let missing = || not_found(&format!("there is no stream {stream}"));
        self.api.store.stream(stream).ok_or_else(missing)
    }

    /// Who is here, with what: a reader of a whole fleet asks once.
    fn gateways(&self, who: &Identity, query: Option<&str>) -> Result<Response<Body>, Refused> {
        let query = Query::parse(query, &["stream"]).map_err(|e| bad_request(&e))?;
        let streams = self.readable(who, query.text("stream"))?;
        let own = json!({ "gateway": self.api.id, "streams": streams });
        let gateways = if streams.is_empty() { vec![] } else { vec![own] };
        Ok(serve::json(StatusCode::OK, &json!({ "gateways": gateways })))
    }

    fn streams(&self, who: &Identity) -> Result<Response<Body>, Refused> {
        let body = json!({ "gateway": self.api.id, "streams": self.readable(who, None)? });
        Ok(serve::json(StatusCode::OK, &body))
    }

    /// The states of the streams that a client may read, or of one of them.
    fn readable(&self, who: &Identity, only: Option<&str>) -> Result<Vec<LogStatus>, Refused> {
        self.grant(who, Right::Read, None)?;
        let access = self.api.access.load();
        let logs = self.api.store.streams();
        let wanted = logs.iter().filter(|log| only.is_none_or(|only| log.name() == only));
        let readable = wanted.filter(|log| access.may(who, Right::Read, Some(log.name())));
        Ok(readable.map(|log| log.status()).collect())
    }

    fn stream(&self, who: &Identity, stream: &str) -> Result<Response<Body>, Refused> {
        Ok(serve::json(StatusCode::OK, &self.log(who, Right::Read, stream)?.status()))
    }

    async fn records(
        &self,
        who: &Identity,
        stream: &str,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let log = self.log(who, Right::Read, stream)?;
        let bounds = &self.bounds;
        let (query, headers) = (request.uri().query(), request.headers());
        let answered = records::answer(&log, query, headers, bounds, &self.api.budget, &self.stop);
        let (answer, records, bytes) = answered.await;
        self.api.metrics.sent(stream, records, bytes);
        Ok(answer)
    }

    async fn acknowledge(
        &self,
        who: &Identity,
        stream: &str,
        consumer: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Position {
            epoch: Option<String>,
            position: Sequence,
            lease: Option<String>,
            #[serde(default)]
            takes_over: Vec<String>,
        }
        let log = self.log(who, Right::Acknowledge, stream)?;
        if !is_token(consumer) {
            return Err(bad_request("a consumer's name is 1 to 128 of A-Z a-z 0-9 . _ : -"));
        }
        let query = Query::parse(request.uri().query(), &["rewind"]);
        let rewind = query.and_then(|query| query.flag("rewind")).map_err(|e| bad_request(&e))?;
        let (body, _share) = self.body(request).await?;
        let asked: Position = serde_json::from_slice(&body).map_err(|error| {
            bad_request(&format!("the body is {{\"epoch\":…,\"position\":N}}: {error}"))
        })?;
        let Position { epoch, position, lease, takes_over } = asked;
        if lease.iter().chain(&takes_over).any(|token| !is_token(token)) {
            return Err(bad_request("a lease is 1 to 128 of A-Z a-z 0-9 . _ : -"));
        }
        let lease = lease.map(|token| Lease { token, takes_over });
        let asked = Acknowledgement { position, epoch, rewind, lease };
        match log.acknowledge_as(consumer, asked).await {
            Ok(position) => {
                let body = json!({ "epoch": log.epoch(), "position": position });
                Ok(serve::json(StatusCode::OK, &body))
            }
            Err(error) => Err(position_refused(&log, &error)),
        }
    }

    async fn forget(
        &self,
        who: &Identity,
        stream: &str,
        consumer: &str,
    ) -> Result<Response<Body>, Refused> {
        let log = self.log(who, Right::Acknowledge, stream)?;
        match log.forget(consumer).await {
            Ok(true) => Ok(serve::empty(StatusCode::NO_CONTENT)),
            Ok(false) => Err(not_found(&format!("{stream} has no consumer {consumer}"))),
            Err(error) => Err(position_refused(&log, &error)),
        }
    }

    async fn stage(
        &self,
        who: &Identity,
        batch: Option<Batch>,
        attempt: String,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::WriteBack, None)?;
        let batch = batch.ok_or_else(bad_batch)?;
        if !is_token(&attempt) || matches!(attempt.as_str(), "commit" | "abort") {
            return Err(bad_batch());
        }
        let (rows, share) = self.body(request).await?;
        let staged = self.api.staging.stage(batch, attempt, rows, share).await;
        staged.map(|done| self::done("staged", done)).map_err(|error| staging_refused(&error))
    }

    async fn commit(
        &self,
        who: &Identity,
        batch: Option<Batch>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Commit {
            attempts: Vec<String>,
        }
        self.grant(who, Right::WriteBack, None)?;
        let batch = batch.ok_or_else(bad_batch)?;
        let (body, _share) = self.body(request).await?;
        let Commit { attempts } = serde_json::from_slice(&body)
            .map_err(|error| bad_request(&format!("the body is {{\"attempts\":[…]}}: {error}")))?;
        let committed = self.api.staging.commit(batch, attempts).await;
        committed.map(|done| self::done("committed", done)).map_err(|error| staging_refused(&error))
    }

    async fn abort(&self, who: &Identity, batch: Option<Batch>) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::WriteBack, None)?;
        let aborted = self.api.staging.abort(batch.ok_or_else(bad_batch)?).await;
        aborted.map(|done| self::done("aborted", done)).map_err(|error| staging_refused(&error))
    }

    async fn body(&self, request: Request<Incoming>) -> Result<(Bytes, Share), Refused> {
        let config = &self.api.config;
        let max_body = usize::try_from(config.max_body).unwrap_or(usize::MAX);
        let (deadline, budget) = (config.body_timeout, &self.api.budget);
        let body = serve::read_body(request.into_body(), max_body, deadline, budget).await;
        body.map_err(|error| Refused::new(error.answer(max_body, deadline)))
    }
}

fn batch_of(query: &str, batch: &str) -> Option<Batch> {
    let batch = batch.parse().ok()?;
    is_token(query).then(|| Batch { query: query.to_owned(), batch })
}

fn done(what: &str, done: Done) -> Response<Body> {
    serve::json(StatusCode::OK, &json!({ what: true, "done": done }))
}

fn bad_request(description: &str) -> Refused {
    Refused::new(serve::refusal(StatusCode::BAD_REQUEST, "BadRequest", description))
}

fn bad_batch() -> Refused {
    bad_request(
        "the path is /v1/write-backs/{query}/{batch}/{attempt}: batch a whole number, \
         query and attempt 1 to 128 of A-Z a-z 0-9 . _ : -, attempt neither commit nor abort",
    )
}

fn not_found(description: &str) -> Refused {
    Refused::new(serve::refusal(StatusCode::NOT_FOUND, "NotFound", description))
}

fn not_allowed() -> Refused {
    let text =
        "this path does not take that method; see the table of requests in the documentation";
    Refused::new(serve::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text))
}

fn position_refused(log: &Log, error: &PositionError) -> Refused {
    Refused::new(match error {
        PositionError::Beyond { next } => records::beyond(&log.epoch(), *next),
        PositionError::Epoch { epoch } => records::other_epoch(log, epoch),
        PositionError::Leased { expires_in } => serve::json(
            StatusCode::CONFLICT,
            &json!({
                "error": "Leased", "description": error.to_string(),
                "expires_in": expires_in.as_secs() + 1,
            }),
        ),
        PositionError::Disk(_) => serve::busy(&error.to_string()),
    })
}

fn staging_refused(error: &StagingError) -> Refused {
    match error {
        StagingError::Row(_) | StagingError::NoWrite { .. } => bad_request(&error.to_string()),
        StagingError::NotStaged(attempts) => {
            let body = json!({
                "error": "Gone", "description": error.to_string(), "attempts": attempts,
            });
            Refused::new(serve::json(StatusCode::GONE, &body))
        }
        StagingError::Append(_) | StagingError::Mark(_) | StagingError::NotReady => {
            Refused::new(serve::busy(&error.to_string()))
        }
    }
}

/// 401: neither a certificate's name nor a token, or a denied one.
pub(super) fn who_are_you() -> Response<Body> {
    let text =
        "bring a client certificate of this gateway's authority with a DNS name, or a bearer token";
    let mut answer = serve::refusal(StatusCode::UNAUTHORIZED, "Unauthorized", text);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// 403: known, but not granted that.
pub(super) fn not_granted(who: &Identity, right: Right) -> Response<Body> {
    let right = serde_json::to_value(right).unwrap_or_default();
    let text =
        format!("{} is not granted {right} here; see [[client]] in the configuration", who.0);
    serve::refusal(StatusCode::FORBIDDEN, "Forbidden", &text)
}
