//! The HTTP/1.1 server that intake, Spark API, pass-through and admin share:
//! accepting, deadlines, limits, and an orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::health::{BEAT, Pulse};
use crate::tls::Acceptor;
use patient::{Broken, Patient};

mod body;
mod patient;

pub use body::{BodyError, discard, expects_continue, read_body};

/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// How long to wait before accepting again when the system refuses to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after a stop what was sent before it may take to be here.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// A body that is whole, or streamed.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What holds for each connection of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may take to send a request's head; an idle one
    /// is closed after it too.
    pub head: Duration,
    /// How long the other end may take nothing of an answer.
    pub write: Duration,
}

/// Who is at the other end.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The name in its certificate.
    pub name: Option<String>,
}

/// What answers the requests of one connection. Made anew for each.
pub trait Connection: Send + Sync + 'static {
    /// Answers a request.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// The connection is over; `orderly` where every answer went out and the
    /// other end closed it, or we did between two requests.
    fn closed(&self, _orderly: bool) {}
}

/// Accepts connections until `stop`, then lets each finish its request.
/// `pulse` shows that it is still ready to accept one.
pub async fn serve<C: Connection>(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: Limits,
    pulse: Pulse,
    stop: CancellationToken,
    connect: impl Fn(Client) -> C + Send + Sync + 'static,
) {
    let connect = Arc::new(connect);
    let room = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    let mut beats = tokio::time::interval(BEAT);
    loop {
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            _ = beats.tick() => {
                pulse.beat();
                continue;
            }
            Some(accepted) = accept(&listener, &room) => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: some connection ends soon.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it, small answers wait for the other end's acknowledgement.
        let _ = stream.set_nodelay(true);
        let (tls, connect, stop) = (tls.clone(), Arc::clone(&connect), stop.clone());
        tasks.spawn(async move {
            let mut client = Client { address: Some(address), name: None };
            match tls {
                None => drive(stream, limits, stop.cancelled(), connect(client)).await,
                Some(acceptor) => {
                    // A client that is silent until then was promised nothing.
                    let accepting = acceptor.accept(stream, limits.handshake);
                    match stop.run_until_cancelled(accepting).await {
                        None => {}
                        Some(Ok((stream, peer))) => {
                            client.name = peer.name;
                            let connection = connect(client);
                            drive(stream, limits, either(stop, peer.trust), connection).await;
                        }
                        Some(Err(error)) => {
                            warn!(peer = %address, %error, "a TLS connection was refused");
                        }
                    }
                }
            }
            drop(permit);
        });
    }
    pulse.rest();
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// The next connection, once there may be one more.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, std::io::Result<(TcpStream, SocketAddr)>)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    Some((permit, listener.accept().await))
}

/// As [`serve`], on a Unix socket.
pub async fn serve_unix<C: Connection>(
    listener: UnixListener,
    limits: Limits,
    stop: CancellationToken,
    connect: impl Fn() -> C,
) {
    let tasks = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let stop = stop.clone().cancelled_owned();
                tasks.spawn(drive(stream, limits, stop, connect()));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Waits until the gateway stops, or whoever is connected is to connect anew.
async fn either(stop: CancellationToken, trust: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = trust.cancelled() => {}
    }
}

/// Serves one connection to its end; after `until`, to that of the request
/// that is under way.
pub(crate) async fn drive<S, C>(
    stream: S,
    limits: Limits,
    until: impl Future<Output = ()>,
    connection: C,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Connection,
{
    let connection = Arc::new(connection);
    let broken = Broken::default();
    let service = service_fn(|request| {
        let answer = Arc::clone(&connection).answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let driven = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        // Orion-LD looks for `Content-Length:` case-sensitively.
        .title_case_headers(true)
        .serve_connection(
            TokioIo::new(Patient::new(stream, limits.write, broken.clone())),
            service,
        );
    let mut driven = std::pin::pin!(driven);
    let ended = tokio::select! {
        ended = driven.as_mut() => ended,
        () = until => {
            // What is on its way already is taken: hyper would close a
            // connection that it has read nothing of yet.
            if let Ok(ended) = tokio::time::timeout(ON_ITS_WAY, driven.as_mut()).await {
                ended
            } else {
                driven.as_mut().graceful_shutdown();
                driven.await
            }
        }
    };
    if let Err(error) = &ended {
        debug!(%error, "a connection ended early");
    }
    // Between two requests, silence is no sign of a lost answer.
    let silent = ended.as_ref().is_err_and(hyper::Error::is_timeout);
    connection.closed((ended.is_ok() || silent) && !broken.is_so());
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with JSON.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Our own answers always serialise.
    let body = serde_json::to_vec(value).unwrap_or_default();
    with_body(status, "application/json", body.into())
}

/// An answer with a body that is whole.
#[must_use]
pub fn with_body(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// A refusal, in the form in which Orion refuses too.
#[must_use]
pub fn refusal(status: StatusCode, error: &str, description: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "error": error, "description": description }))
}

/// A refusal that is over soon.
#[must_use]
pub fn busy(description: &str) -> Response<Body> {
    let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", description);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

/// What a request says of its body's length; `None` where it is chunked.
#[must_use]
pub fn content_length(request: &Request<Incoming>) -> Option<u64> {
    hyper::body::Body::size_hint(request.body()).exact()
}

/// Whether a header holds a secret: alone, or as `Bearer SECRET`. Takes the
/// same time whatever is in it.
#[must_use]
pub fn holds_secret(headers: &HeaderMap, name: &str, secret: &str) -> bool {
    let Some(value) = headers.get(name).map(HeaderValue::as_bytes) else { return false };
    let given = value.strip_prefix(b"Bearer ").unwrap_or(value);
    given.ct_eq(secret.as_bytes()).into()
}

/// Headers of one connection only (RFC 9110, 7.6.1), or settled before a
/// request is kept.
pub const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
