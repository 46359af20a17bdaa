//! Large records, and a relay that takes little at a time: nothing waits for
//! ever that both sides permit.

use crate::common::gateway::Setup;
use crate::common::http::{Client, request};
use crate::edge;
use crate::line::Weather;
use crate::oracle::seed::Seed;
use crate::pair::{Pair, count, lines, notify, status, until};
use crate::spark_api::Api;

/// What `intake.max_body` and `spark.max_body` are by themselves.
const MAX_BODY: usize = 8 << 20;

async fn post(pair: &Pair, body: &[u8]) {
    let mut client = Client::connect(pair.edge.intake).await.unwrap();
    let answer = client.exchange(&request("POST", "/notify/press", &[], body)).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Bytes without order, of those that `pick` makes of any.
fn noise(len: usize, pick: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut seed = Seed::new(17);
    let words = std::iter::repeat_with(|| seed.next().to_le_bytes());
    words.flatten().map(pick).take(len).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_notification_there_may_be_gets_to_the_relay_whatever_is_in_it() {
    let pair = Pair::start().await;
    notify(&pair.edge, "press", 0..1).await;
    let keep = Api::of(&pair.edge);
    keep.ask("PUT", "/v1/streams/press/consumers/test", "{\"position\":0}").await;
    // What is no text is kept as base64, and does not compress; a control
    // character is six in JSON.
    post(&pair, &noise(MAX_BODY, |byte| byte)).await;
    post(&pair, &noise(MAX_BODY, |byte| if byte % 32 == 0 { b'a' } else { byte % 32 })).await;
    notify(&pair.edge, "press", 1..3).await;
    pair.is_level("press").await;
    let own = lines(&Api::of(&pair.edge), "/v1/streams/press", None).await;
    assert!(own.len() == 5 && pair.replica("press").await == own, "not the same lines");
    assert_eq!(count(&pair.edge.log(), "does not get to the relay"), 0, "{}", pair.edge.log());
}

#[tokio::test]
async fn a_relay_that_takes_less_at_a_time_gets_all_in_smaller_parts() {
    // It takes 1 MiB and 16 of these; the backlog is five times as long.
    let relay = edge::relay().set("SPARK__MAX_BODY", "4KiB");
    let pair = Pair::of(Setup::new(), relay).await;
    notify(&pair.edge, "press", 0..1).await;
    pair.is_level("press").await;
    pair.line.set(Weather::Stalled);
    let mut client = Client::connect(pair.edge.intake).await.unwrap();
    let body = vec![b'x'; 60_000];
    for _ in 0..100 {
        let answer = client.exchange(&request("POST", "/notify/press", &[], &body)).await.unwrap();
        assert_eq!(answer.status, 204);
    }
    pair.line.set(Weather::Fair);
    pair.line.reset();
    pair.is_level("press").await;
    assert_eq!(pair.replica("press").await.len(), 101);
    assert_eq!(count(&pair.edge.log(), "does not get to the relay"), 0, "{}", pair.edge.log());
}

#[tokio::test]
async fn a_record_that_the_relay_may_not_take_is_told_with_what_to_set_and_lost_by_nobody() {
    let relay = edge::relay().set("SPARK__MAX_BODY", "1KiB");
    let mut pair = Pair::of(Setup::new(), relay).await;
    notify(&pair.edge, "press", 0..1).await;
    pair.is_level("press").await;
    post(&pair, &noise(2 << 20, |byte| byte)).await;
    let problem = async || {
        let told = status(&pair.edge).await["streams"].to_string();
        told.contains("record 1 ") && told.contains("raise spark.max_body to intake.max_body")
    };
    until("it is told", problem).await;
    let setup = pair.relay.kill().await.set("SPARK__MAX_BODY", "8MiB");
    pair.relay = setup.start().await;
    pair.line.lead_to(pair.relay.spark);
    pair.is_level("press").await;
    assert_eq!(pair.replica("press").await.len(), 2);
}
