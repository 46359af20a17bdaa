//! The pass-through: NGSI writes as Orion takes them, kept and answered as
//! Orion would. Code that wrote to Orion works with only the address changed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::SparkMetrics;
use super::access::{Access, On, Right};
use crate::budget::Budget;
use crate::health::Pulse;
use crate::ngsi::{self, WriteRequest};
use crate::serve::{self, Body, Client, Connection, Limits};
use crate::store::Log;
use crate::tls::Acceptor;
use crate::write_back;

/// How long a full log may keep a write waiting.
const PATIENCE: Duration = Duration::from_secs(4);
/// Of the connection, or secrets of the way to us: never stored.
const NOT_KEPT: [header::HeaderName; 3] =
    [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION];
const KEYROCK_TOKEN: &str = "x-auth-token";

/// Takes NGSI writes.
#[derive(Clone)]
pub struct PassThrough {
    /// Where they are kept.
    pub log: Arc<Log>,
    /// Memory that requests share.
    pub budget: Budget,
    /// Largest body.
    pub max_body: u64,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// What is counted.
    pub metrics: SparkMetrics,
}

impl PassThrough {
    /// Answers a request for `path` (with its query).
    pub(super) async fn answer(&self, path: &str, request: Request<Incoming>) -> Response<Body> {
        match ngsi::access(request.method(), path) {
            ngsi::Access::Write => {}
            ngsi::Access::Read => return writes_only(),
            ngsi::Access::Unknown => {
                let text = format!("{path} is no path of NGSIv2 or NGSI-LD");
                return serve::refusal(StatusCode::NOT_FOUND, "NotFound", &text);
            }
        }
        let (mut head, body) = request.into_parts();
        let max_body = usize::try_from(self.max_body).unwrap_or(usize::MAX);
        let read = serve::read_body(body, max_body, self.body_timeout, &self.budget).await;
        let (body, share) = match read {
            Ok((body, share)) => (body, Arc::new(share)),
            Err(error) => return error.answer(max_body, self.body_timeout),
        };
        let not_kept = NOT_KEPT.iter().map(header::HeaderName::as_str);
        for name in serve::HOP_BY_HOP.into_iter().chain(not_kept).chain([KEYROCK_TOKEN]) {
            head.headers.remove(name);
        }
        let request = WriteRequest::new(head.method, path.to_owned(), head.headers, body);
        if let Err(refusal) = ngsi::validate(&request) {
            let body = refusal.body(request.api());
            return serve::with_body(refusal.status, "application/json", body);
        }
        match self.log.append_patiently(line(&request), &share, PATIENCE).await {
            Ok(_) => {
                self.metrics.accepted();
                as_orion_would(&request)
            }
            Err(error) => serve::busy(&error.to_string()),
        }
    }

    /// Serves the pass-through alone, until `stop`. Who may write is told by
    /// `access`; without it, whoever can connect.
    pub async fn run(
        self,
        listener: TcpListener,
        tls: Option<Arc<Acceptor>>,
        access: Option<Arc<ArcSwap<Access>>>,
        limits: Limits,
        stop: CancellationToken,
    ) {
        let connect =
            move |client| Writer { pass_through: self.clone(), access: access.clone(), client };
        serve::serve(listener, tls, limits, Pulse::default(), stop, connect).await;
    }
}

fn line(request: &WriteRequest) -> crate::record::Line {
    let headers = request.headers().iter();
    let kept = write_back::Request {
        method: request.method().as_str().to_owned(),
        path: request.path().to_owned(),
        headers: headers
            .map(|(name, value)| {
                (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
            })
            .collect(),
        body: request.body().clone(),
    };
    kept.to_line(SystemTime::now())
}

fn as_orion_would(request: &WriteRequest) -> Response<Body> {
    let accepted = ngsi::accepted_answer(request);
    let mut answer = match accepted.body {
        Some(body) => serve::with_body(accepted.status, "application/json", body),
        None => serve::empty(accepted.status),
    };
    let location = accepted.location.and_then(|location| HeaderValue::try_from(location).ok());
    if let Some(location) = location {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

fn writes_only() -> Response<Body> {
    let text = "the gateway takes writes; read from Orion itself";
    let mut answer = serve::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text);
    let allowed = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let allowed = allowed.map(|method| method.to_string()).join(", ");
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// One connection of the pass-through's own listener.
struct Writer {
    pass_through: PassThrough,
    access: Option<Arc<ArcSwap<Access>>>,
    client: Client,
}

impl Connection for Writer {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if let Some(access) = &self.access {
            let access = access.load();
            let Some(who) = access.identify(&self.client, request.headers()) else {
                return super::api::who_are_you();
            };
            if !access.may(&who, Right::WriteBack, On::default()) {
                return super::api::not_granted(&who, Right::WriteBack);
            }
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        self.pass_through.answer(&path, request).await
    }
}
