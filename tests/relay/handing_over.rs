//! Records from a gateway: each once, in order, byte for byte, whatever is
//! repeated, missing or somebody else's.

use serde_json::Value;

use crate::common::gateway::Setup;
use crate::common::http;
use crate::edge::{Edge, client, frames, hole, line, lines, read_all, relay};
use crate::spark_api::Api;

const PRESS: &str = "/v1/gateways/edge1/streams/press";

#[tokio::test]
async fn what_a_gateway_hands_over_comes_out_byte_for_byte_under_its_numbers() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    assert_eq!(edge.hand_over_all("press", "e1", 0..40).await, 40);
    // Not packed, and one record a frame.
    let plain = edge.hand_over("press", "e1", 40..43, &[], lines("e1", 40..43)).await;
    assert_eq!(plain.json()["next"], 43, "{plain:?}");
    let singly = edge.hand_over("press", "e1", 43..60, &[], frames("e1", 43..60, 1)).await;
    assert_eq!(
        (singly.json()["next"].clone(), singly.json()["epoch"].clone()),
        (60.into(), "e1".into())
    );

    let api = Api::of(&relay);
    assert_eq!(read_all(&api, PRESS, "e1", 0).await, ((0..60).collect(), vec![]));
    let state = api.get(PRESS).await.json();
    assert_eq!((state["name"].as_str(), state["epoch"].as_str()), (Some("press"), Some("e1")));
    assert_eq!((state["earliest"].clone(), state["next"].clone()), (0.into(), 60.into()));
    let listed = api.get("/v1/gateways?stream=press").await.json();
    assert_eq!(listed["gateways"][0]["gateway"], "edge1");
    assert_eq!(listed["gateways"][0]["streams"][0]["next"], 60);
    assert_eq!(
        listed["gateways"].as_array().unwrap().len(),
        1,
        "the relay's own are not used: {listed}"
    );

    // Its reader acknowledges as everywhere.
    let put = |position: u64| {
        let body = format!("{{\"epoch\":\"e1\",\"position\":{position}}}");
        let api = &api;
        async move { api.ask("PUT", &format!("{PRESS}/consumers/job"), &body).await }
    };
    assert_eq!(put(60).await.json()["position"], 60);
    assert_eq!(put(61).await.json()["error"], "BeyondEnd");
    let elsewhere = api.get(&format!("{PRESS}/records?from=0&epoch=e9")).await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.json()["epoch"].clone()), (409, "e1".into()));
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_an_overlap_is_trimmed() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    assert_eq!(edge.hand_over_all("press", "e1", 0..20).await, 20);
    for (from, until, next) in [(0, 20, 20), (5, 12, 20), (13, 31, 31), (0, 40, 40), (40, 40, 40)] {
        assert_eq!(edge.hand_over_all("press", "e1", from..until).await, next, "{from}..{until}");
    }
    let api = Api::of(&relay);
    assert_eq!(read_all(&api, PRESS, "e1", 0).await, ((0..40).collect(), vec![]));
    assert_eq!(api.get(PRESS).await.json()["records"], 40);
    // None was written twice.
    let metrics = http::once(relay.admin, &http::bare_request("GET", "/metrics")).await.text();
    let written = "ngsi_ferry_store_appended_records_total{log=\"edge1/press\"} 40\n";
    assert!(metrics.contains(written), "{metrics}");
}

#[tokio::test]
async fn a_gap_is_refused_and_nothing_of_it_stored() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let gap = |answer: crate::spark_api::Answer| {
        assert_eq!(answer.status, 409, "{answer:?}");
        let told = answer.json();
        assert_eq!(told["error"], "Gap");
        told["next"].as_u64().unwrap()
    };
    let far = edge.hand_over("press", "e1", 10..20, &[], frames("e1", 10..20, 4)).await;
    assert_eq!(gap(far), 0);
    let none = edge.api.get(&edge.path("streams/press?epoch=e1")).await;
    assert_eq!(none.status, 404, "nothing was made for it");
    edge.hand_over_all("press", "e1", 0..5).await;
    let far = edge.hand_over("press", "e1", 6..20, &[], frames("e1", 6..20, 4)).await;
    assert_eq!(gap(far), 5);
    // The gateway asks where its replica ends, though it may read nothing.
    let state = edge.api.get(&edge.path("streams/press?epoch=e1")).await;
    assert_eq!(state.json()["next"], 5, "{state:?}");
    assert_eq!(edge.api.get(&edge.path("streams/press/records?from=0")).await.status, 403);
    assert_eq!(read_all(&Api::of(&relay), PRESS, "e1", 0).await, ((0..5).collect(), vec![]));
}

#[tokio::test]
async fn holes_are_skipped_or_told_with_their_reason() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    let holes = [
        hole(0, 100, "acknowledged"),
        hole(110, 200, "unused"),
        hole(210, 230, "lost"),
        hole(230, 240, "evicted"),
        hole(250, 65_536, "unused"),
    ];
    let mut body = Vec::new();
    for range in [100..110, 200..210, 240..250] {
        body.extend(frames("e1", range, 4));
    }
    let stored = edge.hand_over("press", "e1", 0..65_536, &holes, body.clone()).await;
    assert_eq!(
        (stored.status.as_u16(), stored.json()["next"].clone()),
        (200, 65_536.into()),
        "{stored:?}"
    );
    let again = edge.hand_over("press", "e1", 0..65_536, &holes, body).await;
    assert_eq!(again.json()["next"], 65_536);
    edge.hand_over_all("press", "e1", 65_536..65_540).await;

    let numbers: Vec<u64> =
        (100..110).chain(200..210).chain(240..250).chain(65_536..65_540).collect();
    let told = |gone: &[Value]| -> Vec<(String, u64)> {
        let one = |gone: &Value| {
            (gone["reason"].as_str().unwrap().to_owned(), gone["earliest"].as_u64().unwrap())
        };
        gone.iter().map(one).collect()
    };
    let expected =
        [("acknowledged".to_owned(), 100), ("lost".to_owned(), 230), ("evicted".to_owned(), 240)];
    let api = Api::of(&relay);
    let (came, gone) = read_all(&api, PRESS, "e1", 0).await;
    assert_eq!((came, told(&gone)), (numbers.clone(), expected.to_vec()));
    assert_eq!(api.get(PRESS).await.json()["lost"], 20);
    // The same after a kill.
    let relay = relay.kill().await.start().await;
    let (came, gone) = read_all(&Api::of(&relay), PRESS, "e1", 0).await;
    assert_eq!((came, told(&gone)), (numbers, expected.to_vec()));
    let edge = Edge::of(&relay, "edge1").await;
    assert_eq!(edge.hand_over_all("press", "e1", 65_540..65_541).await, 65_541);
}

#[tokio::test]
async fn what_does_not_account_for_its_range_is_refused_whole() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over_all("press", "e1", 0..5).await;
    let two = |a: u64, b: u64| [line("e1", a), line("e1", b)].concat();
    let cases: [(std::ops::Range<u64>, Vec<Value>, Vec<u8>); 12] = [
        (5..8, vec![], lines("e1", 5..7)),
        (5..7, vec![], lines("e1", 5..8)),
        (5..8, vec![], two(5, 7)),
        (5..7, vec![], two(6, 5)),
        (5..7, vec![], two(5, 5)),
        (5..8, vec![hole(6, 8, "unused")], lines("e1", 5..8)),
        (5..8, vec![hole(6, 9, "unused")], lines("e1", 5..6)),
        (5..9, vec![hole(6, 8, "unused"), hole(7, 9, "lost")], lines("e1", 5..6)),
        (5..9, vec![hole(7, 6, "lost")], lines("e1", 5..9)),
        (5..6, vec![], b"{\"seq\":5}\n".to_vec()),
        (5..6, vec![], line("e1", 5)[..50].to_vec()),
        (5..6, vec![], [&frames("e1", 5..6, 1)[..], b"\x28\xb5\x2f\xfd"].concat()),
    ];
    for (range, holes, body) in cases {
        let answer = edge.hand_over("press", "e1", range.clone(), &holes, body).await;
        assert_eq!(answer.status, 400, "{range:?} {holes:?}: {answer:?}");
    }
    let backwards =
        edge.hand_over("press", "e1", std::ops::Range { start: 6, end: 5 }, &[], vec![]).await;
    assert_eq!(backwards.status, 400);
    assert_eq!(read_all(&Api::of(&relay), PRESS, "e1", 0).await, ((0..5).collect(), vec![]));
}

#[tokio::test]
async fn nobody_writes_anothers_replica_or_pulls_its_write_backs() {
    let relay = relay().start().await;
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over_all("press", "e1", 0..5).await;
    let mine = edge.api.get(&edge.path("write-backs")).await;
    assert_eq!(mine.status, 200, "{mine:?}");
    let other = Edge { name: "edge1".to_owned(), api: client(&relay, "edge2").await };
    let answer = other.hand_over("press", "e1", 5..6, &[], lines("e1", 5..6)).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let told = answer.json()["description"].as_str().unwrap().to_owned();
    assert!(told.contains("edge2") && told.contains("edge1"), "{told}");
    for path in ["write-backs", "write-backs/records?from=0"] {
        assert_eq!(other.api.get(&other.path(path)).await.status, 403, "{path}");
    }
    let pulled = other.path("write-backs/consumers/uplink");
    assert_eq!(other.api.ask("PUT", &pulled, "{\"position\":0}").await.status, 403);
    // Nor the relay's own streams, by whatever name.
    let id = relay.status().await["id"].as_str().unwrap().to_owned();
    let own = Edge { name: id, api: client(&relay, "edge2").await };
    assert_eq!(own.hand_over("default", "e1", 0..0, &[], vec![]).await.status, 403);
    assert_eq!(read_all(&Api::of(&relay), PRESS, "e1", 0).await, ((0..5).collect(), vec![]));
}

#[tokio::test]
async fn without_the_right_nothing_is_handed_over_and_grants_may_name_gateways() {
    let relay = Setup::new()
        .set("CLIENT__0__NAME", "edge1")
        .set("CLIENT__0__ALLOW", "[\"uplink\"]")
        .set("CLIENT__0__STREAMS", "[\"press\"]")
        .set("CLIENT__1__NAME", "edge3")
        .set("CLIENT__1__ALLOW", "[\"uplink\"]")
        .set("CLIENT__2__NAME", "client")
        .set("CLIENT__2__ALLOW", "[\"read\"]")
        .set("CLIENT__2__GATEWAYS", "[\"edge3\"]")
        .start()
        .await;
    let edge = Edge::of(&relay, "edge1").await;
    edge.hand_over_all("press", "e1", 0..5).await;
    let oven = edge.hand_over("oven", "e1", 0..1, &[], lines("e1", 0..1)).await;
    assert_eq!(oven.status, 403, "{oven:?}");
    let unknown = Edge::of(&relay, "edge2").await;
    let refused = unknown.hand_over("press", "e1", 0..1, &[], lines("e1", 0..1)).await;
    assert_eq!(refused.status, 404, "{refused:?}");
    Edge::of(&relay, "edge3").await.hand_over_all("press", "e3", 0..5).await;
    let api = Api::of(&relay);
    assert_eq!(api.get("/v1/gateways/edge1/streams/press").await.status, 403);
    assert_eq!(api.get("/v1/gateways/edge3/streams/press").await.status, 200);
    let listed = api.get("/v1/gateways").await.json();
    assert_eq!(listed["gateways"].as_array().unwrap().len(), 1, "{listed}");
}
