//! Consumers: registered, moved, rewound, removed, and kept.

use super::support::{Api, fill};
use crate::common::gateway::Gateway;

const JOB: &str = "/v1/streams/default/consumers/job";

#[tokio::test]
async fn a_position_moves_forward_and_back_only_on_demand() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 10).await;
    let epoch = api.stream("default").await["epoch"].clone();
    for (path, asked, expected) in [
        (JOB.to_owned(), 4, 4),
        (JOB.to_owned(), 7, 7),
        (JOB.to_owned(), 2, 7),
        (format!("{JOB}?rewind=false"), 2, 7),
        (format!("{JOB}?rewind=true"), 2, 2),
        (JOB.to_owned(), 10, 10),
    ] {
        let body = serde_json::json!({ "epoch": epoch, "position": asked }).to_string();
        let answer = api.ask("PUT", &path, &body).await;
        assert_eq!(answer.status, 200, "{path} {asked}");
        let answer = answer.json();
        assert_eq!((&answer["position"], &answer["epoch"]), (&expected.into(), &epoch));
        assert_eq!(api.stream("default").await["consumers"][0]["position"], expected);
    }
}

#[tokio::test]
async fn a_position_of_another_log_or_beyond_the_end_is_409_and_changes_nothing() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 3).await;
    let beyond = api.acknowledge("job", 4).await;
    assert_eq!((beyond.status.as_u16(), &beyond.json()["next"]), (409, &3.into()));
    let other = api.ask("PUT", JOB, "{\"epoch\":\"another\",\"position\":1}").await;
    assert_eq!((other.status.as_u16(), &other.json()["error"]), (409, &"EpochDiffers".into()));
    assert_eq!(api.stream("default").await["consumers"], serde_json::json!([]));
}

#[tokio::test]
async fn what_is_no_position_or_no_name_is_400() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    for body in ["", "7", "{}", "{\"position\":-1}", "{\"position\":1,\"more\":2}"] {
        let answer = api.ask("PUT", JOB, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["description"].to_string().contains("position"), "{body}");
    }
    let long = format!("/v1/streams/default/consumers/{}", "a".repeat(129));
    for path in [&long, "/v1/streams/default/consumers/a%20b", &format!("{JOB}?rewind=maybe")] {
        assert_eq!(api.ask("PUT", path, "{\"position\":0}").await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn a_removed_consumer_is_gone_and_may_come_back() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 3).await;
    api.acknowledge("job", 3).await;
    assert_eq!(api.ask("DELETE", JOB, "").await.status, 204);
    assert_eq!(api.ask("DELETE", JOB, "").await.status, 404);
    assert_eq!(api.stream("default").await["consumers"], serde_json::json!([]));
    assert_eq!(api.acknowledge("job", 1).await.json()["position"], 1);
}

#[tokio::test]
async fn an_acknowledgement_that_was_answered_survives_kill_9() {
    let gateway = Gateway::start().await;
    fill(&gateway, 5).await;
    let api = Api::of(&gateway);
    api.acknowledge("job", 4).await;
    api.acknowledge("other", 2).await;
    let gateway = gateway.kill().await.start().await;
    let consumers = Api::of(&gateway).stream("default").await["consumers"].clone();
    let positions: Vec<_> = consumers.as_array().unwrap().iter().map(|c| &c["position"]).collect();
    assert_eq!(positions, [4, 2]);
}
