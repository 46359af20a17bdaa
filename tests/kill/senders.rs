//! Context brokers that send notifications, and the ledger of what the gateway
//! promised to keep.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::life::Life;
use super::seed::{self, Seed};
use crate::common::http::Client;
use crate::common::orion::notification::Notification;

/// The streams that are sent to.
pub const STREAMS: [&str; 4] = ["default", "press", "oven", "slow"];

/// How long a sender that was refused waits: not to be all that the gateway
/// is busy with.
const RETRY: Duration = Duration::from_millis(20);

/// One notification sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub sender: u64,
    pub stream: &'static str,
    /// A whole 2xx came back.
    pub acknowledged: bool,
    /// Where it was found.
    pub seq: Option<u64>,
}

/// Everything sent, by id. Ids of one sender rise in the order of sending.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<u64, Sent>>>);

impl Ledger {
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, sender: u64, stream: &'static str) -> u64 {
        let mut sent = self.lock();
        let id = sent.last_key_value().map_or(0, |(id, _)| id + 1);
        sent.insert(id, Sent { sender, stream, acknowledged: false, seq: None });
        id
    }

    fn acknowledged(&self, id: u64) {
        if let Some(sent) = self.lock().get_mut(&id) {
            sent.acknowledged = true;
        }
    }
}

/// Sends one notification after the other on a connection of its own, until
/// the gateway is gone.
pub async fn send(
    to: SocketAddr,
    sender: u64,
    mut chance: Seed,
    contents: Seed,
    ledger: Ledger,
    life: Life,
) {
    loop {
        let connected = life.patiently(Client::connect(to)).await;
        if let Ok(Ok(client)) = connected {
            send_on(client, to, sender, &mut chance, &contents, &ledger, &life).await;
        }
        if !life.tries_again().await {
            return;
        }
    }
}

/// As Orion, it never sends again what it was not answered.
async fn send_on(
    mut client: Client,
    to: SocketAddr,
    sender: u64,
    chance: &mut Seed,
    contents: &Seed,
    ledger: &Ledger,
    life: &Life,
) {
    loop {
        let stream = STREAMS[usize::try_from(chance.below(STREAMS.len() as u64)).unwrap()];
        let id = ledger.begin(sender, stream);
        let path =
            if stream == "default" { "/notify".to_owned() } else { format!("/notify/{stream}") };
        let correlator = format!("{id:08x}-e663-11f1-a40b-02fc00000001; cbnotif=1");
        let body = seed::body(contents, id);
        let notification = Notification::custom("application/octet-stream", body);
        let raw = notification.to_bytes(to, &path, &correlator);
        let Ok(answer) = life.patiently(client.exchange(&raw)).await else { return };
        match answer {
            Ok(answer) if answer.status == 204 => {
                ledger.acknowledged(id);
                life.acknowledged(stream);
            }
            Ok(answer) => {
                life.refused(&format!("{} {}", answer.status, answer.text()));
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => return,
        }
    }
}
