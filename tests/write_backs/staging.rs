//! Spark's batches: each counts once, whatever Spark repeats, and whole.

use std::time::Duration;

use ::http::Method;
use serde_json::{Value, json};

use super::helpers::{attrs, create, dead_letters, n, replayed, towards, until, values, written};
use crate::common::gateway::{DEADLINE, Gateway};
use crate::common::http;
use crate::common::orion::OrionStandIn;
use crate::common::spark::{Reply, Spark, number, row};

async fn started() -> (OrionStandIn, Gateway, Spark) {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    (orion, gateway, spark)
}

fn increment(id: &str) -> Value {
    row("PATCH", &attrs(id), &n(json!({"$inc": 1})))
}

fn is_gone(reply: &Reply) {
    assert_eq!(reply.status, 410, "{reply:?}");
}

#[tokio::test]
async fn what_is_staged_counts_only_with_its_commit_and_in_the_commits_order() {
    let (orion, gateway, spark) = started().await;
    spark.stage(("q", 0), "second", &[number("urn:a", "n", 3), number("urn:a", "n", 4)]).await;
    spark.stage(("q", 0), "first", &[number("urn:a", "n", 1), number("urn:a", "n", 2)]).await;
    spark.stage(("q", 0), "unnamed", &[number("urn:a", "n", 99)]).await;
    spark.set("urn:b", "n", 1).await;
    written(&orion, "urn:b", 1).await;
    assert!(values(&orion, "urn:a").is_empty());
    assert_eq!(spark.commit(("q", 0), &["first", "second"]).await.done(), "now");
    written(&orion, "urn:a", 4).await;
    replayed(&gateway).await;
    assert_eq!(values(&orion, "urn:a"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_repeat_of_anything_is_answered_as_done_and_changes_nothing() {
    let (orion, gateway, spark) = started().await;
    let rows = [increment("urn:a"), increment("urn:b")];
    assert_eq!(spark.stage(("q", 0), "a1", &rows).await.done(), "now");
    assert_eq!(spark.stage(("q", 0), "a1", &rows).await.done(), "before");
    assert_eq!(spark.commit(("q", 0), &["a1"]).await.done(), "now");
    assert_eq!(spark.commit(("q", 0), &["a1"]).await.done(), "before");
    // A replay may partition otherwise, with other tokens.
    assert_eq!(spark.stage(("q", 0), "b1", &rows[..1]).await.done(), "before");
    assert_eq!(spark.stage(("q", 0), "b2", &rows[1..]).await.done(), "before");
    assert_eq!(spark.commit(("q", 0), &["b1", "b2"]).await.done(), "before");
    let gateway = gateway.kill().await.start().await;
    let spark = Spark::of(&gateway);
    assert_eq!(spark.stage(("q", 0), "c1", &rows).await.done(), "before");
    assert_eq!(spark.commit(("q", 0), &["c1"]).await.done(), "before");
    assert_eq!(spark.abort(("q", 0)).await.done(), "before");
    replayed(&gateway).await;
    let counted = ["urn:a", "urn:b"].map(|id| orion.entity("", id).unwrap()["n"]["value"].clone());
    let dead = dead_letters(&gateway).await.len() as u64;
    // A kill in the middle of an increment makes it ambiguous, never two.
    let sum: u64 = counted.iter().map(|n| n.as_u64().unwrap()).sum();
    assert!(sum <= 2 && sum + dead >= 2, "{counted:?}, {dead} dead");
}

#[tokio::test]
async fn an_attempt_that_a_commit_names_twice_counts_once() {
    let (orion, gateway, spark) = started().await;
    spark.stage(("q", 0), "a", &[increment("urn:a")]).await;
    assert_eq!(spark.commit(("q", 0), &["a", "a"]).await.done(), "now");
    replayed(&gateway).await;
    assert_eq!(super::helpers::now(&orion, "urn:a"), 1);
}

#[tokio::test]
async fn queries_and_batches_are_apart() {
    let (orion, gateway, spark) = started().await;
    for (query, batch) in [("p", 0), ("q", 0), ("p", 1), ("q", 7)] {
        spark.stage((query, batch), "a", &[increment("urn:a")]).await;
        assert_eq!(spark.commit((query, batch), &["a"]).await.done(), "now", "{query} {batch}");
    }
    assert_eq!(spark.commit(("q", 6), &["a"]).await.done(), "before");
    replayed(&gateway).await;
    assert_eq!(super::helpers::now(&orion, "urn:a"), 4);
}

#[tokio::test]
async fn what_was_staged_before_a_kill_can_be_committed_after_it() {
    let (orion, gateway, spark) = started().await;
    spark.stage(("q", 3), "a", &[number("urn:a", "n", 1)]).await;
    spark.stage(("q", 3), "b", &[number("urn:b", "n", 1)]).await;
    let gateway = gateway.kill().await.start().await;
    let spark = Spark::of(&gateway);
    assert_eq!(spark.commit(("q", 3), &["a", "b"]).await.done(), "now");
    written(&orion, "urn:a", 1).await;
    written(&orion, "urn:b", 1).await;
    // And after an orderly end, that it was.
    let gateway = gateway.stop().await.0.start().await;
    assert_eq!(Spark::of(&gateway).commit(("q", 3), &["a", "b"]).await.done(), "before");
    replayed(&gateway).await;
    assert_eq!((values(&orion, "urn:a"), values(&orion, "urn:b")), (vec![1], vec![1]));
}

#[tokio::test]
async fn a_commit_of_what_is_not_staged_is_gone_and_never_done() {
    let (orion, gateway, spark) = started().await;
    is_gone(&spark.commit(("q", 0), &["unknown"]).await);
    spark.stage(("q", 0), "a", &[number("urn:a", "n", 1)]).await;
    let refused = spark.commit(("q", 0), &["a", "unknown"]).await;
    is_gone(&refused);
    assert_eq!(refused.json()["attempts"], json!(["unknown"]));
    spark.set("urn:b", "n", 1).await;
    replayed(&gateway).await;
    assert!(values(&orion, "urn:a").is_empty(), "all or nothing");
    assert_eq!(spark.commit(("q", 0), &["a"]).await.done(), "now");
}

#[tokio::test]
async fn a_commit_that_names_an_expired_attempt_is_gone_until_it_is_staged_anew() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).set("SPARK__STAGE_EXPIRY", "1s").start().await;
    let spark = Spark::of(&gateway);
    spark.stage(("q", 0), "a", &[number("urn:a", "n", 1)]).await;
    until("it expires", async || gateway.log().contains("staged attempts expired")).await;
    is_gone(&spark.commit(("q", 0), &["a"]).await);
    // Nor does a restart bring it back.
    let gateway = gateway.kill().await.set("SPARK__STAGE_EXPIRY", "24h").start().await;
    let spark = Spark::of(&gateway);
    is_gone(&spark.commit(("q", 0), &["a"]).await);
    assert_eq!(spark.stage(("q", 0), "a", &[number("urn:a", "n", 2)]).await.done(), "now");
    assert_eq!(spark.commit(("q", 0), &["a"]).await.done(), "now");
    written(&orion, "urn:a", 1).await;
    assert_eq!(values(&orion, "urn:a"), [2]);
}

#[tokio::test]
async fn an_abort_drops_what_is_staged_over_restarts_too() {
    let (orion, gateway, spark) = started().await;
    spark.stage(("q", 0), "a", &[number("urn:a", "n", 1)]).await;
    assert_eq!(spark.abort(("q", 0)).await.done(), "now");
    assert_eq!(spark.abort(("q", 0)).await.done(), "before");
    is_gone(&spark.commit(("q", 0), &["a"]).await);
    let gateway = gateway.kill().await.start().await;
    let spark = Spark::of(&gateway);
    is_gone(&spark.commit(("q", 0), &["a"]).await);
    spark.stage(("q", 0), "b", &[number("urn:a", "n", 2)]).await;
    assert_eq!(spark.commit(("q", 0), &["b"]).await.done(), "now");
    written(&orion, "urn:a", 1).await;
    assert_eq!(values(&orion, "urn:a"), [2]);
}

#[tokio::test]
async fn a_row_that_is_no_write_is_refused_while_somebody_is_there_to_hear_it() {
    let (orion, _gateway, spark) = started().await;
    let many: serde_json::Map<_, _> = (0..101).map(|n| (format!("x-{n}"), "1".into())).collect();
    for (row, told) in [
        (
            json!({"method": "PATCH", "path": "/v2/entities/a/attrs", "headers": many}),
            "101 headers",
        ),
        (json!({"method": "GET", "path": "/v2/entities"}), "no write"),
        (json!({"method": "DELETE", "path": "/admin"}), "no write"),
        (json!({"path": "/v2/entities"}), "row 2"),
        (json!({"method": "PATCH", "path": "/v2/entities/a/attrs", "other": 1}), "row 2"),
    ] {
        let reply = spark.stage(("q", 0), "a", &[increment("urn:a"), row]).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.body.contains(told) && reply.body.contains("row 2"), "{reply:?}");
    }
    is_gone(&spark.commit(("q", 0), &["a"]).await);
    for path in ["/v1/write-backs/q/x/a", "/v1/write-backs/q/-1/a", "/v1/write-backs/q/0/commit"] {
        let reply = spark.request(Method::PUT, path, &[], Vec::new()).await.unwrap();
        assert!([400, 405].contains(&reply.status), "{path}: {reply:?}");
    }
    assert_eq!(orion.requests().len(), 2, "the two creations of the test");
}

/// The segment is locked, as by a program that looks at it: for 2 s it is waited
/// for, and then reading has failed.
#[tokio::test]
async fn a_commit_waits_for_what_could_not_be_read_at_the_start() {
    let (orion, gateway, spark) = started().await;
    spark.stage(("q", 0), "a", &[number("urn:a", "n", 7)]).await;
    let (setup, _) = gateway.stop().await;
    let segments = std::fs::read_dir(setup.data_dir().join("write-backs/segments")).unwrap();
    let lock = |path: std::path::PathBuf| {
        let file = std::fs::File::options().write(true).open(path.join("db")).unwrap();
        file.lock().unwrap();
        file
    };
    let held: Vec<_> = segments.map(|segment| lock(segment.unwrap().path())).collect();
    assert!(!held.is_empty());
    let gateway = setup.start().await;
    let told = async {
        while !gateway.log().contains("commits wait until they can") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.unwrap();
    drop(held);
    assert_eq!(Spark::of(&gateway).commit(("q", 0), &["a"]).await.done(), "now");
    written(&orion, "urn:a", 1).await;
    assert_eq!(values(&orion, "urn:a"), [7]);
}

/// The line is cut right behind the commit, and Spark commits again: whatever
/// the gateway did with the first, the batch counts once.
#[tokio::test]
async fn a_commit_whose_client_goes_away_counts_once() {
    let (orion, gateway, spark) = started().await;
    let pki = gateway.setup().data_dir().join("pki");
    let identity = (pki.join("client.pem"), pki.join("client.key"));
    let config =
        ngsi_ferry::tls::client_config(Some(&pki.join("ca.pem")), Some((&identity.0, &identity.1)));
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.unwrap()));
    let batches = 40;
    for batch in 0..batches {
        let tokens = [format!("a{batch}"), format!("b{batch}")];
        spark.stage(("q", batch), &tokens[0], &[increment("urn:a")]).await;
        let stream = tokio::net::TcpStream::connect(gateway.spark).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut cut = http::Client::over(connector.connect(name, stream).await.unwrap());
        let body = json!({"attempts": [tokens[0]]}).to_string();
        let path = format!("/v1/write-backs/q/{batch}/commit");
        cut.send(&http::request("POST", &path, &[], body.as_bytes())).await.unwrap();
        drop(cut);
        // Spark stages anew and commits that.
        spark.stage(("q", batch), &tokens[1], &[increment("urn:a")]).await;
        assert_eq!(spark.commit(("q", batch), &[&tokens[1]]).await.status, 200);
    }
    replayed(&gateway).await;
    assert!(dead_letters(&gateway).await.is_empty());
    assert_eq!(super::helpers::now(&orion, "urn:a"), batches);
}
