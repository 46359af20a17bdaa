//! A stop in the middle of everything.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::notification::Notification;
use crate::common::orion::{Fault, Gate, OrionStandIn};
use crate::common::spark::Spark;
use crate::stops_within;

/// Sends notifications of that sender until the gateway is gone; the numbers
/// of those that were acknowledged.
async fn send(gateway: &Gateway, sender: u64, acknowledged: watch::Sender<u64>) -> Vec<u64> {
    let to = gateway.intake;
    let mut kept = Vec::new();
    let Ok(mut client) = Client::connect(to).await else { return kept };
    for number in sender * 1_000_000.. {
        let raw = Notification::reading(number).to_bytes(to, "/notify", &number.to_string());
        match client.exchange(&raw).await {
            Ok(answer) if answer.status == 204 => {
                kept.push(number);
                acknowledged.send_modify(|count| *count += 1);
            }
            // 503 once the log is closed; Orion would have lost it, and knows.
            Ok(answer) => assert_eq!(answer.status, 503),
            Err(_) => break,
        }
    }
    kept
}

fn number_of(record: &Value) -> u64 {
    let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
    body["data"][0]["reading"]["value"].as_u64().unwrap()
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing_and_leaves_no_hole() {
    let mut setup = Some(Setup::new().set("STORE__SEGMENT_BYTES", "1MiB"));
    let (mut kept, mut before) = (Vec::new(), 0);
    for _ in 0..3 {
        let gateway = std::sync::Arc::new(setup.take().unwrap().start().await);
        let acknowledged = watch::Sender::new(0);
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            before += 1;
            let (sender, gateway, told) = (before, gateway.clone(), acknowledged.clone());
            senders.spawn(async move { send(&gateway, sender, told).await });
        }
        acknowledged.subscribe().wait_for(|count| *count >= 300).await.unwrap();
        gateway.signal("TERM");
        kept.extend(senders.join_all().await.concat());
        let gateway = std::sync::Arc::into_inner(gateway).unwrap();
        let (stopped, ended) = gateway.ends().await;
        assert!(ended.success(), "{ended:?}\n{}", stopped.log());
        setup = Some(stopped);
    }
    let gateway = setup.take().unwrap().start().await;
    let records = gateway.records("default", 0).await;
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "no hole");
    let mut stored: Vec<u64> = records.iter().map(number_of).collect();
    stored.sort_unstable();
    let twice = stored.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
    for number in kept {
        assert!(stored.binary_search(&number).is_ok(), "{number} was acknowledged, and is lost");
    }
    let status = gateway.status().await;
    assert_eq!(status["streams"][0]["holes"], serde_json::json!([]), "{status}");
}

#[tokio::test]
async fn a_stop_waits_for_what_orion_is_about_to_answer_and_begins_nothing() {
    let orion = OrionStandIn::start().await;
    let entity = serde_json::json!({"id": "urn:a", "type": "T", "n": {"value": 0}});
    http::once(orion.addr(), &http::json_request("POST", "/v2/entities", &entity)).await;
    let gate = Gate::closed();
    let held = Fault::held_by(&gate).times(1);
    orion.inject(&held);
    let gateway = Setup::new().set("ORION__URL", &orion.url()).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=3 {
        spark.set("urn:a", "n", value).await;
    }
    orion.wait_for(|_| held.hits() == 1).await;
    gateway.signal("TERM");
    while Client::connect(gateway.intake).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.open();
    let (setup, ended) = gateway.ends().await;
    assert!(ended.success(), "{ended:?}\n{}", setup.log());
    let values = || -> Vec<u64> {
        let history = orion.history("", "urn:a").into_iter().skip(1);
        history.map(|applied| applied.sent["n"]["value"].as_u64().unwrap()).collect()
    };
    assert_eq!(values(), [1]);
    let gateway = setup.start().await;
    orion.wait_for(|state| state.entities.history("", "urn:a").len() == 4).await;
    // What was answered during the stop was noted: it is not sent again.
    assert_eq!(values(), [1, 2, 3]);
    stops_within(gateway, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_orion_that_does_not_answer_holds_up_a_stop_until_the_deadline_only() {
    let orion = OrionStandIn::start().await;
    let entity = serde_json::json!({"id": "urn:a", "type": "T", "n": {"value": 0}});
    http::once(orion.addr(), &http::json_request("POST", "/v2/entities", &entity)).await;
    let held = Fault::held_by(&Gate::closed()).times(1);
    orion.inject(&held);
    let setup = Setup::new().set("ORION__URL", &orion.url()).set("DRAIN_TIMEOUT", "1s");
    let gateway = setup.set("ORION__TIMEOUT", "50s").start().await;
    Spark::of(&gateway).set("urn:a", "n", 1).await;
    orion.wait_for(|_| held.hits() == 1).await;
    let setup = stops_within(gateway, Duration::from_secs(6)).await;
    let _gateway = setup.start().await;
    orion.wait_for(|state| state.entities.history("", "urn:a").len() == 2).await;
}
