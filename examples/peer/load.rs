//! Context brokers that post notifications.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::http::{self, Client};
use crate::ledger::{self, Ledger};

/// Longer than Orion waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Not to be all that the program is busy with.
const RETRY: Duration = Duration::from_millis(20);

/// Posts one after the other, on one connection as long as it is kept open.
pub async fn post(to: SocketAddr, path: String, ledger: Ledger, stop: CancellationToken) {
    let mut connection = None;
    while !stop.is_cancelled() {
        let client = match connection.take() {
            Some(client) => Ok(client),
            None => Client::connect(to).await,
        };
        if let Ok(client) = client {
            connection = exchange(client, &path, &ledger).await;
        }
        if connection.is_none() {
            sleep(RETRY).await;
        }
    }
}

/// Posts one; the connection, where another may follow on it.
async fn exchange(mut client: Client, path: &str, ledger: &Ledger) -> Option<Client> {
    let number = ledger.sends();
    let json = [("Content-Type", "application/json")];
    let raw = http::request("POST", path, &json, notification(number).as_bytes());
    let answer = timeout(PATIENCE, client.exchange(&raw)).await.ok()?.ok()?;
    if !(200..300).contains(&answer.status) {
        return None;
    }
    ledger.acknowledged(number);
    (!answer.head.closes()).then_some(client)
}

/// About 600 bytes, as Orion sends them.
fn notification(number: usize) -> String {
    let attributes: Vec<String> = (0..6)
        .map(|at| {
            let value = number.wrapping_mul(31).wrapping_add(at * 7919) % 100_000;
            format!(r#""attribute{at}":{{"type":"Number","value":{value},"metadata":{{}}}}"#)
        })
        .collect();
    format!(
        r#"{{"subscriptionId":"5c2f4e7a9d1b3c5e7f901234","data":[{{"id":"{}","type":"Press",{}}}]}}"#,
        ledger::name(number),
        attributes.join(",")
    )
}
