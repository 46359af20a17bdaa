//! A gateway that was wiped, and a replica that was.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::edge::{Edge, frames, read_all, relay};
use crate::oracle::life::until;
use crate::spark_api::{Answer, Api};

const PRESS: &str = "/v1/gateways/edge1/streams/press";

async fn acknowledge(api: &Api, epoch: &str, position: u64) -> Answer {
    let body = format!("{{\"epoch\":\"{epoch}\",\"position\":{position}}}");
    api.ask("PUT", &format!("{PRESS}/consumers/job"), &body).await
}

fn position(state: &Value) -> Option<u64> {
    let consumers = state["consumers"].as_array().unwrap();
    let job = consumers.iter().find(|consumer| consumer["name"] == "job")?;
    job["position"].as_u64()
}

#[tokio::test]
async fn the_replica_of_a_wiped_gateway_stays_until_it_is_acknowledged() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let api = Api::of(&relay);
    edge.hand_over_all("press", "e1", 0..20).await;
    assert_eq!(acknowledge(&api, "e1", 5).await.status, 200);
    edge.hand_over_all("press", "e2", 0..10).await;
    assert!(relay.log().contains("begun this stream anew"), "{}", relay.log());

    let state = api.get(PRESS).await.json();
    assert_eq!((state["epoch"].as_str(), state["next"].as_u64()), (Some("e2"), Some(10)));
    assert_eq!(position(&state), Some(0), "its consumer holds the new one too: {state}");
    let earlier = &state["earlier"][0];
    assert_eq!((earlier["epoch"].as_str(), earlier["next"].as_u64()), (Some("e1"), Some(20)));
    assert_eq!(position(earlier), Some(5));
    // Both are read, over a kill.
    let relay = relay.kill().await.start().await;
    let (api, edge) = (Api::of(&relay), Edge::of(&relay, "edge1").await);
    assert_eq!(read_all(&api, PRESS, "e1", 5).await, ((5..20).collect(), vec![]));
    assert_eq!(read_all(&api, PRESS, "e2", 0).await, ((0..10).collect(), vec![]));
    assert_eq!(edge.hand_over_all("press", "e2", 10..12).await, 12);
    // A consumer that begins with the earlier one holds the newer too.
    let late = format!("{PRESS}/consumers/late");
    let answer = api.ask("PUT", &late, "{\"epoch\":\"e1\",\"position\":20}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let listed = api.get(PRESS).await.json();
    assert!(
        listed["consumers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["name"] == "late" && c["position"] == 0)
    );

    assert_eq!(acknowledge(&api, "e1", 20).await.json()["epoch"], "e1");
    until("the earlier replica is removed", async || {
        !api.get(PRESS).await.json()["removed"].is_null()
    })
    .await;
    let state = api.get(PRESS).await.json();
    assert!(state["earlier"].is_null(), "{state}");
    let removed = &state["removed"][0];
    assert_eq!((removed["epoch"].as_str(), removed["next"].as_u64()), (Some("e1"), Some(20)));
    assert_eq!(removed["evicted"]["records"], 0);
    let gone = api.get(&format!("{PRESS}/records?from=20&epoch=e1")).await;
    assert_eq!((gone.status.as_u16(), gone.json()["error"].clone()), (409, "EpochDiffers".into()));
    let folder = relay.setup().data_dir().join("replicas/edge1/press");
    let folders = async || std::fs::read_dir(&folder).unwrap().count() == 1;
    until("its folder is removed", folders).await;
    assert_eq!(read_all(&api, PRESS, "e2", 0).await.0, (0..12).collect::<Vec<_>>());

    // Where it ended is told whatever became of those that came after it.
    let ends = async || {
        let state = api.get(PRESS).await.json();
        let removed = state["removed"].as_array().cloned().unwrap_or_default();
        let of = |one: &Value| (one["epoch"].as_str().unwrap().to_owned(), one["next"].as_u64());
        removed.iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let end_of = |epoch: &str, next: u64| (epoch.to_owned(), Some(next));
    edge.hand_over_all("press", "e3", 0..3).await;
    assert_eq!(ends().await, BTreeMap::from([end_of("e1", 20)]));
    for consumer in ["job", "late"] {
        let path = format!("{PRESS}/consumers/{consumer}");
        let answer = api.ask("PUT", &path, "{\"epoch\":\"e2\",\"position\":12}").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let both = BTreeMap::from([end_of("e1", 20), end_of("e2", 12)]);
    until("the second replica is removed", async || ends().await == both).await;
}

#[tokio::test]
async fn a_consumer_that_is_removed_holds_no_replica_any_more() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let api = Api::of(&relay);
    edge.hand_over_all("press", "e1", 0..20).await;
    acknowledge(&api, "e1", 5).await;
    edge.hand_over_all("press", "e2", 0..10).await;
    let consumer = format!("{PRESS}/consumers/job");
    assert_eq!(api.ask("DELETE", &consumer, "").await.status, 204);
    assert_eq!(api.ask("DELETE", &consumer, "").await.status, 404);
    let state = api.get(PRESS).await.json();
    assert_eq!((position(&state), position(&state["earlier"][0])), (None, None));
}

#[tokio::test]
async fn a_wiped_replica_begins_anew_and_takes_what_its_gateway_still_has() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over_all("press", "e1", 0..30).await;
    let (setup, _) = relay.stop().await;
    std::fs::remove_dir_all(setup.data_dir().join("replicas/edge1")).unwrap();
    let relay = setup.start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let ahead = edge.hand_over("press", "e1", 30..35, &[], frames("e1", 30..35, 2)).await;
    assert_eq!((ahead.status.as_u16(), ahead.json()["next"].clone()), (409, 0.into()), "{ahead:?}");
    // The gateway has the last ten of them.
    let holes = [crate::edge::hole(0, 20, "acknowledged")];
    let stored = edge.hand_over("press", "e1", 0..35, &holes, frames("e1", 20..35, 4)).await;
    assert_eq!(stored.json()["next"], 35, "{stored:?}");
    let (came, gone) = read_all(&Api::of(&relay), PRESS, "e1", 0).await;
    assert_eq!(came, (20..35).collect::<Vec<_>>());
    assert_eq!((gone.len(), gone[0]["earliest"].clone()), (1, 20.into()));
}

#[tokio::test]
async fn a_replica_whose_last_segment_is_damaged_is_filled_again_from_there() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let api = Api::of(&relay);
    edge.hand_over_all("press", "e1", 0..10).await;
    // A hole ends the segment.
    let holes = [crate::edge::hole(10, 12, "unused")];
    edge.hand_over("press", "e1", 10..20, &holes, frames("e1", 12..20, 4)).await;
    acknowledge(&api, "e1", 5).await;
    let setup = relay.kill().await;
    let press = setup.data_dir().join("replicas/edge1/press/000001-e1/segments");
    std::fs::write(press.join("00000000000000000012/db"), vec![0xa5; 300_000]).unwrap();
    let relay = setup.start().await;
    let (edge, api) = (Edge::of(&relay, "edge1").await, Api::of(&relay));
    let ahead = edge.hand_over("press", "e1", 20..21, &[], frames("e1", 20..21, 2)).await;
    assert_eq!(
        (ahead.status.as_u16(), ahead.json()["next"].clone()),
        (409, 12.into()),
        "{ahead:?}"
    );
    assert_eq!(edge.hand_over_all("press", "e1", 12..21).await, 21);
    let expected: Vec<u64> = (0..10).chain(12..21).collect();
    assert_eq!(read_all(&api, PRESS, "e1", 0).await, (expected, vec![]));
}
