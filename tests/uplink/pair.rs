//! A gateway, its relay, and the line between them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::Client;
use crate::common::orion::notification::Notification;
use crate::edge;
use crate::line::Line;
use crate::oracle::seed::{self, Seed};
use crate::spark_api::Api;

pub const EDGE: &str = "edge1";

pub struct Pair {
    pub relay: Gateway,
    pub edge: Gateway,
    pub line: Line,
}

impl Pair {
    pub async fn start() -> Self {
        Self::with(Setup::new()).await
    }

    /// A gateway of that setup.
    pub async fn with(edge: Setup) -> Self {
        Self::of(edge, edge::relay()).await
    }

    pub async fn of(edge: Setup, relay: Setup) -> Self {
        let relay = relay.start().await;
        let line = Line::to(relay.spark).await;
        let edge = uplink(edge, &relay, line.addr(), EDGE).await.start().await;
        Self { relay, edge, line }
    }

    /// Waits until the relay has all records of a stream.
    pub async fn is_level(&self, stream: &str) {
        let next = next_of(&self.edge, stream).await;
        let api = Api::of(&self.relay);
        let path = format!("/v1/gateways/{EDGE}/streams/{stream}");
        let level = async || {
            let answer = api.get(&path).await;
            answer.status == 200 && answer.json()["next"].as_u64() >= Some(next)
        };
        until("the relay has everything", level).await;
    }

    /// The lines of the replica.
    pub async fn replica(&self, stream: &str) -> Vec<Vec<u8>> {
        let path = format!("/v1/gateways/{EDGE}/streams/{stream}");
        lines(&Api::of(&self.relay), &path, None).await
    }
}

/// Where a stream ends.
pub async fn next_of(gateway: &Gateway, stream: &str) -> u64 {
    let state = Api::of(gateway).get(&format!("/v1/streams/{stream}")).await;
    assert_eq!(state.status, 200, "{state:?}");
    state.json()["next"].as_u64().unwrap()
}

/// A gateway's settings with an uplink to a relay, over whatever listens at
/// `at`. Certificates lie beside the data: they survive what happens to it.
pub async fn uplink(edge: Setup, relay: &Gateway, at: SocketAddr, name: &str) -> Setup {
    edge::client(relay, name).await;
    let pki = relay.setup().data_dir().join("pki");
    let copy = |from: &str, to: &str| {
        let to = edge.folder().join(to);
        std::fs::copy(pki.join(from), &to).unwrap();
        to.to_str().unwrap().to_owned()
    };
    let ca = copy("ca.pem", "relay-ca.pem");
    let cert = copy(&format!("{name}.pem"), "uplink.pem");
    let key = copy(&format!("{name}.key"), "uplink.key");
    edge.set("ID", name)
        .set("UPLINK__URL", &format!("https://{at}"))
        .set("UPLINK__CA", &ca)
        .set("UPLINK__CERT", &cert)
        .set("UPLINK__KEY", &key)
}

/// Polls what nobody tells of.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, polling).await.is_ok(), "in vain: {what}");
}

/// Sends notifications with the bodies of these ids, and is told of each that
/// it is stored.
pub async fn notify(edge: &Gateway, stream: &str, ids: std::ops::Range<u64>) {
    let mut client = Client::connect(edge.intake).await.unwrap();
    for id in ids {
        let body = seed::body(&Seed::new(7), id);
        let notification = Notification::custom("application/octet-stream", body);
        let path = format!("/notify/{stream}");
        let raw = notification.to_bytes(edge.intake, &path, &format!("{id:08x}-corr"));
        let answer = client.exchange(&raw).await.unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

/// All lines at a path, from the earliest on.
pub async fn lines(api: &Api, path: &str, epoch: Option<&str>) -> Vec<Vec<u8>> {
    let epoch = epoch.map(|epoch| format!("&epoch={epoch}")).unwrap_or_default();
    let (mut from, mut lines) = (0, Vec::new());
    loop {
        let answer = api.get(&format!("{path}/records?from={from}{epoch}")).await;
        if answer.status == 410 {
            from = answer.json()["earliest"].as_u64().unwrap();
            continue;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.body.is_empty() {
            return lines;
        }
        let came = answer.body.split_inclusive(|byte| *byte == b'\n');
        lines.extend(came.map(<[u8]>::to_vec));
        from = answer.next();
    }
}

/// What the gateway says of its uplink.
pub async fn status(edge: &Gateway) -> Value {
    edge.status().await["uplink"].clone()
}

/// How often a text stands in a log.
pub fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// A data directory, gone: what was wiped.
pub fn wipe(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
}
