//! What a relay shows of its gateways: status, peek, metrics.

use serde_json::Value;

use crate::common::gateway::Gateway;
use crate::common::http;
use crate::edge::{Edge, hole, line, lines, relay};
use crate::oracle::life::until;
use crate::spark_api::Api;

async fn run(relay: &Gateway, arguments: &[&str]) -> String {
    let ran = relay.setup().command(arguments).output().await.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn status_peek_and_metrics_show_what_is_kept_of_each_gateway() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let holes = [hole(10, 12, "lost")];
    edge.hand_over("press", "e1", 0..12, &holes, lines("e1", 0..10)).await;
    let api = Api::of(&relay);
    let job = "/v1/gateways/edge1/streams/press/consumers/job";
    api.ask("PUT", job, "{\"epoch\":\"e1\",\"position\":4}").await;
    let _made = edge.api.get(&edge.path("write-backs")).await;
    api.ask("PATCH", "/gateways/edge1/v2/entities/b/attrs", "{\"n\":{\"value\":2}}").await;

    let status: Value = serde_json::from_str(&run(&relay, &["status", "--json"]).await).unwrap();
    let one = &status["gateways"][0];
    assert_eq!(
        (one["gateway"].as_str(), one["write_backs_waiting"].as_u64()),
        (Some("edge1"), Some(1))
    );
    assert!(one["heard_seconds"].as_u64().is_some_and(|age| age < 60), "{one}");
    let replica = &one["replicas"][0];
    assert_eq!((replica["name"].as_str(), replica["records"].as_u64()), (Some("press"), Some(10)));
    assert_eq!(status["damaged"][0]["log"], "edge1/press");

    edge.hand_over("press", "e2", 0..3, &[], lines("e2", 0..3)).await;
    let text = run(&relay, &["status"]).await;
    assert!(text.contains("GATEWAY") && text.contains("(earlier) press"), "{text}");
    assert!(
        text.contains("6 records of its earlier epoch e1 wait for job")
            || text.contains("10 records of its earlier epoch e1 wait for job"),
        "{text}"
    );
    assert!(text.contains("edge1/press: records 10 to 11 are lost"), "{text}");
    let log = relay.log();
    assert!(log.contains("records were lost at their gateway"), "{log}");

    let peeked = run(&relay, &["peek", "edge1/press", "-n", "2"]).await;
    let expected = [line("e2", 0), line("e2", 1)].concat();
    assert_eq!(peeked.as_bytes(), expected);
    let missing = relay.setup().command(["peek", "edge1/oven"]).output().await.unwrap();
    assert!(!missing.status.success());

    let metrics = http::once(relay.admin, &http::bare_request("GET", "/metrics")).await.text();
    for expected in [
        "ngsi_ferry_relay_gateways 1",
        "ngsi_ferry_relay_records{gateway=\"edge1\",stream=\"press\"} 13",
        "ngsi_ferry_relay_lag_records{gateway=\"edge1\",stream=\"press\"} 9",
        "ngsi_ferry_store_appended_records_total{log=\"edge1/press\"} 13",
        "ngsi_ferry_spark_replicated_records_total 13",
    ] {
        assert!(metrics.contains(expected), "{expected} in {metrics}");
    }
    assert!(!metrics.contains("commit_seconds_count{log=\"edge1/press\"}"), "{metrics}");
    // The same of a store that nobody runs.
    let (setup, _) = relay.stop().await;
    let peeked = setup.command(["peek", "edge1/press", "-n", "2"]).output().await.unwrap();
    assert_eq!(peeked.stdout, expected);
}

#[tokio::test]
async fn how_long_a_gateway_was_not_heard_of_is_told_and_unknown_after_a_start() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over("press", "e1", 0..3, &[], lines("e1", 0..3)).await;
    let heard =
        async |relay: &Gateway| relay.status().await["gateways"][0]["heard_seconds"].clone();
    let metrics = async |relay: &Gateway| {
        http::once(relay.admin, &http::bare_request("GET", "/metrics")).await.text()
    };
    let gauge = "ngsi_ferry_relay_heard_seconds{gateway=\"edge1\"}";
    assert!(heard(&relay).await.as_u64().is_some_and(|age| age < 60));
    let ages = async || heard(&relay).await.as_u64().is_some_and(|age| age >= 2);
    until("its silence is told", ages).await;
    assert!(metrics(&relay).await.contains(gauge));
    let listed = Api::of(&relay).get("/v1/gateways").await.json();
    let listed = listed["gateways"].as_array().unwrap().clone();
    let one = listed.iter().find(|one| one["gateway"] == "edge1").unwrap();
    assert!(one["heard_seconds"].as_u64().is_some_and(|age| age >= 2), "{one}");

    let relay = relay.kill().await.start().await;
    assert!(heard(&relay).await.is_null(), "nobody knows how long it was silent before");
    assert!(!metrics(&relay).await.contains(gauge));
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over("press", "e1", 3..4, &[], lines("e1", 3..4)).await;
    assert!(heard(&relay).await.as_u64().is_some_and(|age| age < 60));
}
