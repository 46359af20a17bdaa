//! A stand-in for Orion: sends notifications as Orion does (each once, never
//! again), and takes updates of attributes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Scene;
use crate::gateway::Addresses;
use crate::ledger::{Fate, Ledger};

/// Machines in the plant.
pub const PRESSES: u64 = 20;
const CONNECTIONS: u32 = 8;
/// How long Orion waits for an answer to a notification.
const PATIENCE: Duration = Duration::from_secs(5);
/// What an update costs Orion, about.
const UPDATE: Duration = Duration::from_millis(3);

pub struct Orion {
    address: SocketAddr,
    ledger: Arc<Ledger>,
}

impl Orion {
    /// On a port below those that the system gives away, so that nobody else
    /// gets it while Orion is away.
    pub fn new(ledger: Arc<Ledger>) -> Result<Self> {
        let free = (21_026..22_026).find_map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            std::net::TcpListener::bind(address).is_ok().then_some(address)
        });
        Ok(Self { address: free.context("no port from 21026 to 22025 is free")?, ledger })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes writes while it is up. When it goes, its connections go with it.
    pub async fn serve(self, mut scene: watch::Receiver<Scene>) {
        while scene.wait_for(|scene| scene.orion_up).await.is_ok() {
            let Ok(listener) = TcpListener::bind(self.address).await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        let _ = stream.set_nodelay(true);
                        connections.spawn(answer(stream, Arc::clone(&self.ledger)));
                    },
                    _ = scene.wait_for(|scene| !scene.orion_up) => break,
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, ledger: Arc<Ledger>) {
    let service = service_fn(|request| {
        let ledger = Arc::clone(&ledger);
        async move {
            let status = update(request, &ledger).await.unwrap_or(StatusCode::BAD_REQUEST);
            let mut answer = Response::new(Empty::<Bytes>::new());
            *answer.status_mut() = status;
            Ok::<_, hyper::Error>(answer)
        }
    });
    // It ends with Orion, or with the gateway.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// `PATCH /v2/entities/{id}/attrs`; anything else is none of its business.
async fn update(request: Request<Incoming>, ledger: &Ledger) -> Option<StatusCode> {
    if request.method() != Method::PATCH {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let entity = request.uri().path().strip_prefix("/v2/entities/")?.strip_suffix("/attrs")?;
    let entity = entity.to_owned();
    let body = request.into_body().collect().await.ok()?.to_bytes();
    let attributes: Value = serde_json::from_slice(&body).ok()?;
    let number = attributes["verdict"]["value"].as_u64()?;
    sleep(UPDATE).await;
    ledger.applied(&entity, number);
    Some(StatusCode::NO_CONTENT)
}

/// Sends notifications until `stop`, while Orion is up.
pub async fn send(
    rate: u32,
    gateway: watch::Receiver<Option<Addresses>>,
    scene: watch::Receiver<Scene>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
) {
    let every = Duration::from_secs(1) * CONNECTIONS / rate;
    let mut connections = JoinSet::new();
    for at in 0..CONNECTIONS {
        let sender = Sender {
            gateway: gateway.clone(),
            scene: scene.clone(),
            ledger: Arc::clone(&ledger),
            connection: None,
        };
        connections.spawn(sender.run(every, every * at / CONNECTIONS, stop.clone()));
    }
    while connections.join_next().await.is_some() {}
}

struct Sender {
    gateway: watch::Receiver<Option<Addresses>>,
    scene: watch::Receiver<Scene>,
    ledger: Arc<Ledger>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Sender {
    async fn run(mut self, every: Duration, after: Duration, stop: CancellationToken) {
        let mut ticks = interval_at(tokio::time::Instant::now() + after, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.scene.borrow().orion_up {
                let number = self.ledger.send();
                let fate = self.notify(number).await;
                self.ledger.sent(number, fate);
            } else {
                self.connection = None;
            }
        }
    }

    async fn notify(&mut self, number: u64) -> Fate {
        let Some(addresses) = *self.gateway.borrow() else { return Fate::NotTaken };
        let connection = match self.connection.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => match connect(addresses.intake).await {
                Ok(open) => open,
                Err(_) => return Fate::NotTaken,
            },
        };
        let connection = self.connection.insert(connection);
        match timeout(PATIENCE, connection.send_request(notification(number))).await {
            Ok(Ok(answer)) if answer.status() == StatusCode::NO_CONTENT => Fate::Acknowledged,
            _ => {
                self.connection = None;
                Fate::Unanswered
            }
        }
    }
}

async fn connect(gateway: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn notification(number: u64) -> Request<Full<Bytes>> {
    let press = number % PRESSES;
    // Not random, but no two in a row are the same.
    let temperature = 180.0 + f64::from(u32::try_from(number * 37 % 400).unwrap_or(0)) / 10.0;
    let attribute = |value: Value| json!({ "type": "Number", "value": value, "metadata": {} });
    let body = json!({
        "subscriptionId": "6b02ca0a7877078ce701fe9a",
        "data": [{
            "id": format!("urn:ngsi-ld:Press:{press}"),
            "type": "Press",
            "cycle": attribute(json!(number)),
            "temperature": attribute(json!(temperature)),
        }],
    });
    Request::post("/notify")
        .header("Host", "gateway")
        .header("User-Agent", "orion/4.7.0 libcurl/7.88.1")
        .header("Fiware-Service", "plant1")
        .header("Fiware-Servicepath", "/")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("Ngsiv2-AttrsFormat", "normalized")
        .header("Fiware-Correlator", format!("{number:08x}-outage; cbnotif=1"))
        .body(Full::from(body.to_string()))
        .unwrap_or_default()
}
