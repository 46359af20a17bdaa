//! What these tests share.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http;
use crate::common::orion::OrionStandIn;

/// A gateway for that Orion, with short waits.
pub fn towards(orion: &OrionStandIn) -> Setup {
    Setup::new()
        .set("ORION__URL", &orion.url())
        .set("ORION__BACKOFF_MIN", "10ms")
        .set("ORION__BACKOFF_MAX", "50ms")
}

/// Puts an entity with `n` = 0 into Orion, past the gateway.
pub async fn create(orion: &OrionStandIn, id: &str) {
    let number = json!({"type": "Number", "value": 0});
    let entity = json!({"id": id, "type": "T", "n": number});
    let raw = http::json_request("POST", "/v2/entities", &entity);
    assert_eq!(http::once(orion.addr(), &raw).await.status, 201);
}

pub fn attrs(id: &str) -> String {
    format!("/v2/entities/{id}/attrs")
}

/// A value of `n`, or an operator on it.
pub fn n(value: impl Into<Value>) -> Value {
    json!({"n": {"type": "Number", "value": value.into()}})
}

/// The values of `n` that were written, in order; past the creation.
pub fn values(orion: &OrionStandIn, id: &str) -> Vec<u64> {
    let history = orion.history("", id).into_iter().filter(|applied| applied.operation != "create");
    history.map(|applied| applied.sent["n"]["value"].as_u64().unwrap()).collect()
}

/// `n` as it is now.
pub fn now(orion: &OrionStandIn, id: &str) -> Value {
    orion.entity("", id).unwrap()["n"]["value"].clone()
}

/// Waits until that many values of `n` were written.
pub async fn written(orion: &OrionStandIn, id: &str, count: usize) {
    orion.wait_for(|state| state.entities.history("", id).len() > count).await;
}

/// Looks again until it holds: for what nobody tells of.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(DEADLINE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(looked.await.is_ok(), "waited in vain: {what}");
}

/// Waits until nothing is left to be replayed.
pub async fn replayed(gateway: &Gateway) {
    until("the write-backs are replayed", async || {
        let replay = &gateway.status().await["replay"];
        replay["waiting"] == 0 && replay["in_flight"] == 0
    })
    .await;
}

/// The dead letters, once everything is replayed.
pub async fn dead_letters(gateway: &Gateway) -> Vec<Value> {
    replayed(gateway).await;
    let (ended, listed) = command(gateway, &["dead-letters", "list", "--json"]).await;
    assert!(ended, "{listed}");
    listed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Runs another command of the program; whether it succeeded, and what it
/// printed.
pub async fn command(gateway: &Gateway, arguments: &[&str]) -> (bool, String) {
    let output = gateway.setup().command(arguments).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
