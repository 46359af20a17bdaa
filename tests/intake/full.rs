//! A full store that may not evict.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{noise, until_in_flight};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Answer};

async fn post(gateway: &Gateway, seed: u64) -> Answer {
    let raw = http::request("POST", "/notify", &[], &noise(100_000, seed));
    http::once(gateway.intake, &raw).await
}

async fn full(max_bytes: &str) -> Gateway {
    let setup = Setup::new().set("STORE__MAX_BYTES", max_bytes).set("STORE__WHEN_FULL", "reject");
    let gateway = setup.start().await;
    for seed in 1.. {
        let stream = &gateway.status().await["streams"][0];
        if stream["bytes"].as_u64() >= stream["max_bytes"].as_u64() {
            break;
        }
        assert_eq!(post(&gateway, seed).await.status, 204);
    }
    gateway
}

async fn acknowledge_all(gateway: &Gateway) {
    let url = gateway.spark_url("/v1/streams/default/consumers/job");
    let next = &gateway.status().await["streams"][0]["next"];
    let body = json!({ "position": next }).to_string();
    let answer = gateway.spark_client().put(url).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_full_store_answers_503_with_retry_after_once_waiting_was_in_vain() {
    let gateway = full("2MiB").await;
    let began = Instant::now();
    let answer = post(&gateway, 99).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("5"));
    // Long enough for a consumer to come. That Orion, which gives up after 5 s,
    // still hears it, is asserted where the time is set.
    let waited = began.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(30)).contains(&waited), "{waited:?}");
}

/// Both where segments are sealed already and where all is still in the one
/// that is being written.
#[tokio::test]
async fn a_waiting_notification_is_taken_as_soon_as_a_consumer_acknowledges() {
    for max_bytes in ["2MiB", "512KiB"] {
        let gateway = full(max_bytes).await;
        let acknowledging = async {
            until_in_flight(&gateway).await;
            acknowledge_all(&gateway).await;
        };
        let (answer, ()) = tokio::join!(post(&gateway, 99), acknowledging);
        assert_eq!(answer.status, 204, "{max_bytes}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_full_store_that_may_evict_takes_all_and_counts_what_went() {
    let setup = Setup::new().set("STORE__MAX_BYTES", "2MiB");
    let gateway = setup.start().await;
    for seed in 1..=60 {
        assert_eq!(post(&gateway, seed).await.status, 204);
    }
    let stream = &gateway.status().await["streams"][0];
    assert!(stream["evicted"]["records"].as_u64().unwrap() > 0, "{stream}");
    assert!(stream["bytes"].as_u64().unwrap() < 4 << 20, "{stream}");
    assert_eq!(
        stream["next"].as_u64().unwrap() - stream["earliest"].as_u64().unwrap(),
        stream["records"].as_u64().unwrap()
    );
}
