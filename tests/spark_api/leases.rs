//! Leases: a consumer belongs to one reader at a time.

use super::support::{Answer, Api, fill};
use crate::common::gateway::{Gateway, Setup};

const JOB: &str = "/v1/streams/default/consumers/job";

/// Moves the consumer as the holder of a lease.
async fn claim(api: &Api, position: u64, lease: &str, takes_over: &[&str]) -> Answer {
    let body = serde_json::json!({
        "position": position, "lease": lease, "takes_over": takes_over,
    });
    api.ask("PUT", JOB, &body.to_string()).await
}

fn is_leased(answer: &Answer) -> bool {
    answer.status == 409 && answer.json()["error"] == "Leased"
}

#[tokio::test]
async fn a_second_reader_of_a_consumer_is_refused_and_moves_nothing() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 10).await;
    assert_eq!(claim(&api, 2, "first", &[]).await.status, 200);
    let second = claim(&api, 5, "second", &["unknown"]).await;
    assert!(is_leased(&second), "{second:?}");
    let left = second.json()["expires_in"].as_u64().unwrap();
    assert!((1..=60).contains(&left), "{left}");
    assert!(is_leased(&api.acknowledge("job", 5).await), "nor anybody without a lease");
    assert_eq!(api.stream("default").await["consumers"][0]["position"], 2);
    assert_eq!(claim(&api, 3, "first", &[]).await.status, 200, "it still belongs to the first");
}

#[tokio::test]
async fn who_started_anew_takes_over_and_its_former_self_is_held_off() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 10).await;
    assert_eq!(claim(&api, 2, "run-1", &[]).await.status, 200);
    assert_eq!(claim(&api, 2, "run-2", &["run-0", "run-1"]).await.status, 200);
    assert!(is_leased(&claim(&api, 4, "run-1", &["run-0"]).await));
}

#[tokio::test]
async fn a_lease_outlives_the_gateway_and_ends_by_silence_alone() {
    let gateway = Gateway::start().await;
    fill(&gateway, 10).await;
    assert_eq!(claim(&Api::of(&gateway), 2, "first", &[]).await.status, 200);
    let gateway = gateway.kill().await.start().await;
    assert!(is_leased(&claim(&Api::of(&gateway), 2, "second", &[]).await));
    let setup = gateway.kill().await.set("STORE__LEASE_EXPIRY", "0s");
    let gateway = setup.start().await;
    let api = Api::of(&gateway);
    assert_eq!(claim(&api, 2, "second", &[]).await.status, 200);
    assert_eq!(api.acknowledge("job", 3).await.status, 200, "silent, so anybody's");
}

#[tokio::test]
async fn a_lease_is_a_name_like_others() {
    let gateway = Setup::new().start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 1).await;
    for (lease, earlier) in [("", "a"), ("a b", "a"), ("a", "")] {
        assert_eq!(claim(&api, 0, lease, &[earlier]).await.status, 400, "{lease} {earlier}");
    }
}

#[tokio::test]
async fn a_gateway_lists_itself_as_a_relay_would_with_the_streams_that_one_asks_for() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 3).await;
    for query in ["", "?stream=default"] {
        let list = api.ask("GET", &format!("/v1/gateways{query}"), "").await.json();
        let listed = &list["gateways"][0];
        let id = api.ask("GET", "/v1/streams", "").await.json()["gateway"].clone();
        assert_eq!((&listed["gateway"], list["gateways"].as_array().unwrap().len()), (&id, 1));
        assert_eq!(listed["streams"][0], api.stream("default").await);
    }
    let none = api.ask("GET", "/v1/gateways?stream=oven", "").await.json();
    assert_eq!(none, serde_json::json!({ "gateways": [] }));
    assert_eq!(api.ask("GET", "/v1/gateways?streams=x", "").await.status, 400);
}
