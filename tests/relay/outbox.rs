//! Write-backs for a gateway wait on its relay until it has pulled them.

use serde_json::{Value, json};

use crate::common::gateway::Gateway;
use crate::edge::{Edge, relay};
use crate::spark_api::{Answer, Api};

struct Outbox {
    edge: Edge,
    epoch: String,
}

impl Outbox {
    async fn of(relay: &Gateway) -> Self {
        let edge = Edge::of(relay, "edge1").await;
        let state = edge.api.get(&edge.path("write-backs")).await;
        assert_eq!(state.status, 200, "{state:?}");
        let epoch = state.json()["epoch"].as_str().unwrap().to_owned();
        Self { edge, epoch }
    }

    async fn pull(&self, from: u64) -> Answer {
        let epoch = &self.epoch;
        let path = self.edge.path(&format!("write-backs/records?epoch={epoch}&from={from}"));
        self.edge.api.get(&path).await
    }

    async fn pulled(&self, position: u64) -> Answer {
        let body = json!({"epoch": self.epoch, "position": position}).to_string();
        self.edge.api.ask("PUT", &self.edge.path("write-backs/consumers/uplink"), &body).await
    }
}

/// Method and path of each entry.
fn entries(answer: &Answer) -> Vec<String> {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|entry| {
            format!("{} {}", entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap())
        })
        .collect()
}

async fn stage(api: &Api, batch: u64, attempt: &str) -> Value {
    let row =
        json!({"method": "PATCH", "path": "/v2/entities/a/attrs", "body": {"n": {"value": 1}}});
    let path = format!("/v1/gateways/edge1/write-backs/q/{batch}/{attempt}");
    let staged = api.ask("PUT", &path, &row.to_string()).await;
    assert_eq!(staged.status, 200, "{staged:?}");
    staged.json()["done"].clone()
}

async fn commit(api: &Api, batch: u64, attempts: &[&str]) -> Answer {
    let path = format!("/v1/gateways/edge1/write-backs/q/{batch}/commit");
    api.ask("POST", &path, &json!({"attempts": attempts}).to_string()).await
}

#[tokio::test]
async fn what_is_staged_and_committed_on_the_relay_is_pulled_in_order() {
    let relay = relay().start().await;
    let api = Api::of(&relay);
    let early = api.ask("PUT", "/v1/gateways/edge1/write-backs/q/1/a", "").await;
    assert_eq!(early.status, 404, "a gateway that nobody knows: {early:?}");
    let outbox = Outbox::of(&relay).await;
    assert_eq!(stage(&api, 1, "a").await, "now");
    assert_eq!(stage(&api, 1, "a").await, "before");
    assert_eq!(stage(&api, 1, "b").await, "now");
    assert_eq!(commit(&api, 1, &["a", "c"]).await.status, 410);
    assert_eq!(commit(&api, 1, &["a"]).await.json()["done"], "now");
    assert_eq!(commit(&api, 1, &["a"]).await.json()["done"], "before");
    let write =
        api.ask("PATCH", "/gateways/edge1/v2/entities/b/attrs", "{\"n\":{\"value\":2}}").await;
    assert_eq!(write.status, 204, "{write:?}");
    stage(&api, 2, "d").await;
    let aborted = api.ask("POST", "/v1/gateways/edge1/write-backs/q/2/abort", "").await;
    assert_eq!(aborted.json()["done"], "now");

    let expected = [
        "PUT /write-backs/q/1/a",
        "PUT /write-backs/q/1/b",
        "POST /write-backs/q/1/commit",
        "PATCH /v2/entities/b/attrs",
        "PUT /write-backs/q/2/d",
        "POST /write-backs/q/2/abort",
    ];
    let pulled = outbox.pull(0).await;
    assert_eq!(entries(&pulled), expected, "{pulled:?}");
    assert_eq!(pulled.epoch(), outbox.epoch);
    // Nothing of the relay's own Orion is concerned.
    assert_eq!(relay.status().await["write_backs"]["waiting"], 0);

    // After a kill the ledger knows what was committed, and the rest is there.
    let relay = relay.kill().await.start().await;
    let (api, outbox) = (Api::of(&relay), Outbox::of(&relay).await);
    assert_eq!(commit(&api, 1, &["a"]).await.json()["done"], "before");
    assert_eq!(entries(&outbox.pull(0).await), expected);
    let next = outbox.pull(0).await.next();
    assert_eq!(outbox.pulled(next).await.json()["position"], next);
    assert!(entries(&outbox.pull(next).await).is_empty());
}

#[tokio::test]
async fn a_pull_waits_for_the_next_write_back() {
    let relay = relay().start().await;
    let outbox = Outbox::of(&relay).await;
    let api = Api::of(&relay);
    let path = outbox.edge.path("write-backs/records?from=0&wait=30");
    let (pulled, ()) = tokio::join!(outbox.edge.api.get(&path), async {
        stage(&api, 1, "a").await;
    });
    assert_eq!(entries(&pulled), ["PUT /write-backs/q/1/a"]);
    let other = outbox.edge.path("write-backs/records?from=0&epoch=e9");
    assert_eq!(outbox.edge.api.get(&other).await.status, 409);
}

#[tokio::test]
async fn an_attempt_that_expires_on_the_relay_is_aborted_for_the_gateway_too() {
    let relay = relay().set("SPARK__STAGE_EXPIRY", "1s").start().await;
    let (api, outbox) = (Api::of(&relay), Outbox::of(&relay).await);
    stage(&api, 1, "a").await;
    let path = outbox.edge.path("write-backs/records?from=1&wait=30");
    let aborted = outbox.edge.api.get(&path).await;
    assert_eq!(entries(&aborted), ["POST /write-backs/q/1/abort"]);
    assert_eq!(commit(&api, 1, &["a"]).await.status, 410);
}
