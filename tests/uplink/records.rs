//! Streams on their way to the relay.

use std::time::{Duration, Instant};

use crate::common::gateway::Setup;
use crate::line::Weather;
use crate::pair::{EDGE, Pair, count, lines, next_of, notify, status, until, wipe};
use crate::spark_api::Api;

/// A second reader keeps the gateway's records, so that they can be compared.
async fn keep(pair: &Pair, stream: &str) {
    let path = format!("/v1/streams/{stream}/consumers/test");
    let kept = Api::of(&pair.edge).ask("PUT", &path, "{\"position\":0}").await;
    assert_eq!(kept.status, 200, "{kept:?}");
}

/// Waits until the gateway has counted so many records as sent; never more.
async fn sent(pair: &Pair, records: u64) {
    let counted = async || status(&pair.edge).await["sent_records"] == records;
    until("the records that the relay took are counted", counted).await;
}

/// Waits until the gateway has noted that the relay has everything below.
async fn relay_had(pair: &Pair, position: u64) {
    let noted = async || {
        let state = Api::of(&pair.edge).get("/v1/streams/press").await.json();
        let consumers = state["consumers"].as_array().unwrap();
        consumers.iter().any(|one| one["name"] == "uplink" && one["position"] == position)
    };
    until("the uplink's position is where the relay is", noted).await;
}

#[tokio::test]
async fn what_a_gateway_stores_is_at_its_relay_byte_for_byte() {
    let pair = Pair::start().await;
    notify(&pair.edge, "press", 0..1).await;
    keep(&pair, "press").await;
    notify(&pair.edge, "press", 1..60).await;
    notify(&pair.edge, "oven", 60..70).await;
    for stream in ["press", "oven"] {
        pair.is_level(stream).await;
        let own = lines(&Api::of(&pair.edge), &format!("/v1/streams/{stream}"), None).await;
        assert!(pair.replica(stream).await == own, "not the same lines in {stream}");
    }
    sent(&pair, 70).await;
    assert_eq!(status(&pair.edge).await["up"], true);
    // The position follows, and with it retention.
    relay_had(&pair, 60).await;
}

#[tokio::test]
async fn an_uplink_goes_on_where_the_relay_is_after_a_kill_of_either() {
    let mut pair = Pair::start().await;
    notify(&pair.edge, "press", 0..40).await;
    pair.is_level("press").await;
    pair.edge = pair.edge.kill().await.start().await;
    notify(&pair.edge, "press", 40..60).await;
    pair.is_level("press").await;
    // Nothing of before went over the line once more.
    sent(&pair, 20).await;
    pair.relay = pair.relay.kill().await.start().await;
    pair.line.lead_to(pair.relay.spark);
    notify(&pair.edge, "press", 60..80).await;
    pair.is_level("press").await;
    sent(&pair, 40).await;
    assert_eq!(pair.replica("press").await.len(), 80);
}

#[tokio::test]
async fn records_wait_for_a_relay_that_is_away_and_for_a_line_that_swallows() {
    let setup = Setup::new().set("UPLINK__TIMEOUT", "1s");
    let pair = Pair::with(setup).await;
    notify(&pair.edge, "press", 0..5).await;
    pair.is_level("press").await;
    pair.line.set(Weather::Stalled);
    notify(&pair.edge, "press", 5..10).await;
    until("the outage is told", async || pair.edge.log().contains("cannot be reached")).await;
    assert_eq!(status(&pair.edge).await["up"], false);
    let ready = reqwest::get(format!("http://{}/ready", pair.edge.admin)).await.unwrap();
    assert_eq!(ready.status(), 200, "an absent relay is no illness");
    pair.line.set(Weather::Fair);
    pair.line.reset();
    pair.is_level("press").await;
    until("its end is told", async || pair.edge.log().contains("the relay is back after")).await;
    let log = pair.edge.log();
    assert_eq!(count(&log, "cannot be reached"), 1, "one line for each event\n{log}");
    assert_eq!(pair.replica("press").await.len(), 10);
}

#[tokio::test]
async fn a_wiped_relay_gets_what_is_still_here_and_is_told_of() {
    let mut pair = Pair::start().await;
    notify(&pair.edge, "press", 0..1).await;
    keep(&pair, "press").await;
    notify(&pair.edge, "press", 1..30).await;
    pair.is_level("press").await;
    relay_had(&pair, 30).await;
    let setup = pair.relay.kill().await;
    for folder in ["replicas", "outboxes"] {
        wipe(&setup.data_dir().join(folder));
    }
    pair.relay = setup.start().await;
    pair.line.lead_to(pair.relay.spark);
    pair.is_level("press").await;
    assert_eq!(pair.replica("press").await.len(), 30);
    assert_eq!(count(&pair.edge.log(), "all are still here, and are sent again"), 1);
}

#[tokio::test]
async fn a_wiped_gateway_begins_another_replica_beside_the_old_one() {
    let mut pair = Pair::start().await;
    notify(&pair.edge, "press", 0..30).await;
    pair.is_level("press").await;
    let old = pair.replica("press").await;
    let state = Api::of(&pair.edge).get("/v1/streams/press").await.json();
    let epoch = state["epoch"].as_str().unwrap().to_owned();
    let setup = pair.edge.kill().await;
    wipe(&setup.data_dir());
    pair.edge = setup.start().await;
    notify(&pair.edge, "press", 30..50).await;
    let path = format!("/v1/gateways/{EDGE}/streams/press");
    let api = Api::of(&pair.relay);
    let both = async || {
        let state = api.get(&path).await.json();
        state["epoch"] != epoch && state["next"] == 20
    };
    until("the new replica is level", both).await;
    assert_eq!(pair.replica("press").await.len(), 20);
    assert!(lines(&api, &path, Some(&epoch)).await == old, "the old replica changed");
}

#[tokio::test]
async fn what_was_gone_before_the_relay_had_it_is_a_hole_with_its_reason() {
    let setup = Setup::new()
        .set("STORE__MAX_BYTES", "4MiB")
        .set("STORE__SEGMENT_BYTES", "1MiB")
        .set("STORE__WHEN_FULL", "drop-oldest");
    let pair = Pair::with(setup).await;
    notify(&pair.edge, "press", 0..1).await;
    pair.is_level("press").await;
    pair.line.set(Weather::Stalled);
    let evicted = async || {
        let state = Api::of(&pair.edge).get("/v1/streams/press").await.json();
        state["evicted"]["records"].as_u64() > Some(0)
    };
    let mut id = 1;
    while !evicted().await {
        notify(&pair.edge, "press", id..id + 200).await;
        id += 200;
    }
    pair.line.set(Weather::Fair);
    pair.line.reset();
    pair.is_level("press").await;
    let path = format!("/v1/gateways/{EDGE}/streams/press");
    let state = Api::of(&pair.relay).get(&path).await.json();
    assert!(state["holes"].to_string().contains("evicted"), "{state}");
    let next = next_of(&pair.edge, "press").await;
    let (here, there) = (state["next"].as_u64().unwrap(), pair.replica("press").await.len());
    assert!(here == next && there as u64 >= next / 2 && (there as u64) < next, "{state}");
}

#[tokio::test]
async fn an_uplink_keeps_to_its_rate() {
    let rate = 40_000;
    let pair = Pair::with(Setup::new().set("UPLINK__RATE", &rate.to_string())).await;
    let begun = Instant::now();
    notify(&pair.edge, "press", 0..60).await;
    pair.is_level("press").await;
    let sent = status(&pair.edge).await["sent_bytes"].as_u64().unwrap();
    let allowed = rate * (begun.elapsed().as_secs() + 1) + rate + 128 * 1024;
    assert!(sent > 3 * rate, "{sent} bytes are too few to tell");
    assert!(sent <= allowed, "{sent} bytes in {:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
