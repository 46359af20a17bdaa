//! The Spark API: HTTP/1.1 over TLS, JSON lines, zstd. Nothing here needs a
//! client of ours; `curl --compressed` is a consumer.
//!
//! On a relay the same paths exist for each of its gateways, and its gateways
//! are clients too: they hand their records over and pull their write-backs.

mod owner;
mod refusals;
mod streams;
mod uplink;
mod write_backs;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Identity, On, Right};
use super::outboxes::Outboxes;
use super::pass_through::PassThrough;
use super::reading::AnswerBounds;
use super::staging::Staging;
use super::{Config, SparkMetrics};
use crate::budget::{Budget, Share};
use crate::health::Pulse;
use crate::serve::{self, Body, Client, Connection, Limits};
use crate::store::Store;
use crate::tls::Acceptor;
use owner::Owner;
use refusals::{Refused, not_allowed, not_found};
pub(super) use refusals::{not_granted, who_are_you};
use write_backs::batch_of;

/// Bodies of gateways that are unpacked at a time: each takes a processor, and
/// memory beside what the budget counts.
const UNPACKED_AT_ONCE: usize = 2;

/// The API that Spark reads from and writes to.
pub struct Api {
    /// Settings.
    pub config: Config,
    /// Connections at a time.
    pub connections: usize,
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
    /// Where those for other gateways are.
    pub outboxes: Arc<Outboxes>,
    /// Where NGSI writes go.
    pub pass_through: PassThrough,
    /// What is counted.
    pub metrics: SparkMetrics,
    /// zstd's level of what gateways hand over.
    pub compression_level: i32,
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
            connections: self.connections,
            handshake: self.config.body_timeout,
            head: self.config.max_wait.max(self.config.body_timeout),
            write: self.config.body_timeout,
        };
        // The drain's rate is one for all connections.
        let bounds = self.config.answer_bounds();
        let (api, stopping) = (Arc::new(self), stop.clone());
        let unpacking = Arc::new(Semaphore::new(UNPACKED_AT_ONCE));
        let connect = move |client| {
            api.metrics.connected();
            let (api, bounds) = (Arc::clone(&api), bounds.clone());
            let (stop, unpacking) = (stopping.clone(), Arc::clone(&unpacking));
            Session { api, bounds, client, unpacking, stop }
        };
        serve::serve(listener, Some(tls), limits, pulse, stop, connect).await;
    }
}

struct Session {
    api: Arc<Api>,
    bounds: AnswerBounds,
    client: Client,
    unpacking: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Connection for Session {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let answer = self.route(request).await.unwrap_or_else(|refused| *refused.0);
        self.api.metrics.answered(answer.status());
        answer
    }
}

impl Session {
    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let Some(who) = self.api.access.load().identify(&self.client, request.headers()) else {
            return Ok(who_are_you());
        };
        let who = &who;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (owner, rest) = self.owner_of(who, &path)?;
        if rest.starts_with("/v2/") || rest.starts_with("/ngsi-ld/") {
            return self.pass_through(who, &owner, &rest, request).await;
        }
        let bare = rest.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = bare.trim_matches('/').split('/').collect();
        match (request.method(), &parts[..]) {
            (&Method::GET, ["v1", "gateways"]) => self.gateways(who, request.uri().query()),
            (&Method::GET, ["v1", "streams"]) => self.streams(who, &owner),
            (&Method::GET, ["v1", "streams", stream]) => {
                self.stream(who, &owner, stream, request.uri().query())
            }
            (&Method::GET, ["v1", "streams", stream, "records"]) => {
                self.records(who, &owner, stream, &request).await
            }
            (&Method::POST, ["v1", "streams", stream, "records"]) => {
                let stream = (*stream).to_owned();
                self.replicate(who, &owner, &stream, request).await
            }
            (&Method::PUT, ["v1", "streams", stream, "consumers", consumer]) => {
                let (stream, consumer) = ((*stream).to_owned(), (*consumer).to_owned());
                self.acknowledge(who, &owner, &stream, &consumer, request).await
            }
            (&Method::DELETE, ["v1", "streams", stream, "consumers", consumer]) => {
                self.forget(who, &owner, stream, consumer).await
            }
            (&Method::GET, ["v1", "write-backs"]) => self.outbox_state(who, &owner).await,
            (&Method::GET, ["v1", "write-backs", "records"]) => {
                self.pull(who, &owner, &request).await
            }
            (&Method::PUT, ["v1", "write-backs", "consumers", consumer]) => {
                let consumer = (*consumer).to_owned();
                self.pulled(who, &owner, &consumer, request).await
            }
            (&Method::PUT, ["v1", "write-backs", query, batch, attempt]) => {
                let (batch, attempt) = (batch_of(query, batch), (*attempt).to_owned());
                self.stage(who, &owner, batch, attempt, request).await
            }
            (&Method::POST, ["v1", "write-backs", query, batch, "commit"]) => {
                let batch = batch_of(query, batch);
                self.commit(who, &owner, batch, request).await
            }
            (&Method::POST, ["v1", "write-backs", query, batch, "abort"]) => {
                self.abort(who, &owner, batch_of(query, batch)).await
            }
            (_, ["v1", "gateways" | "streams" | "write-backs", ..]) => Err(not_allowed()),
            _ => Err(not_found(&format!("there is nothing at {bare}; see /v1/streams"))),
        }
    }

    /// Whether a request would be taken as that client's now too.
    fn is_still(&self, who: &Identity, headers: &HeaderMap) -> bool {
        self.api.access.load().identify(&self.client, headers).as_ref() == Some(who)
    }

    fn grant(
        &self,
        who: &Identity,
        right: Right,
        owner: &Owner,
        stream: Option<&str>,
    ) -> Result<(), Refused> {
        let on = On { gateway: Some(self.name_of(owner)), stream };
        if self.api.access.load().may(who, right, on) {
            return Ok(());
        }
        Err(Refused::new(not_granted(who, right)))
    }

    async fn body(&self, request: Request<Incoming>) -> Result<(Bytes, Share), Refused> {
        self.body_upto(request, self.api.config.max_body).await
    }

    async fn body_upto(
        &self,
        request: Request<Incoming>,
        max_body: u64,
    ) -> Result<(Bytes, Share), Refused> {
        let config = &self.api.config;
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX);
        let (deadline, budget) = (config.body_timeout, &self.api.budget);
        let body = serve::read_body(request.into_body(), max_body, deadline, budget).await;
        body.map_err(|error| Refused::new(error.answer(max_body, deadline)))
    }
}
