//! An Orion that asks for time, and updates that pile up meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;

use super::helpers::{
    attrs, command, create, dead_letters, n, replayed, towards, until, values, written,
};
use crate::common::orion::{Fault, Gate, OrionStandIn};
use crate::common::spark::Spark;

#[tokio::test]
async fn orion_is_left_alone_for_as_long_as_it_asks() {
    for status in [429, 503] {
        let orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        create(&orion, "urn:b").await;
        orion.inject(&Fault::answer(status).retry_after(1).times(1));
        let gateway = towards(&orion).set("ORION__PARALLEL", "1").start().await;
        let spark = Spark::of(&gateway);
        spark.set("urn:a", "n", 1).await;
        spark.set("urn:b", "n", 1).await;
        written(&orion, "urn:a", 1).await;
        written(&orion, "urn:b", 1).await;
        let sent: Vec<Instant> = orion.requests().iter().skip(2).map(|r| r.at).collect();
        assert_eq!(sent.len(), 3, "{status}");
        let pause = sent[1].duration_since(sent[0]);
        assert!(pause >= Duration::from_secs(1), "{status}: {pause:?}");
    }
}

#[tokio::test]
async fn an_orion_that_does_not_answer_in_time_is_asked_again() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gate = Gate::closed();
    orion.inject(&Fault::held_by(&gate).times(1));
    let gateway = towards(&orion).set("ORION__TIMEOUT", "300ms").start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    written(&orion, "urn:a", 1).await;
    replayed(&gateway).await;
    // On a slow machine another answer may come too late: it is asked again.
    let mut values = values(&orion, "urn:a");
    values.dedup();
    assert_eq!(values, [1]);
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn updates_that_pile_up_are_merged_only_where_that_is_configured() {
    for (coalesce, sent) in [("off", 100), ("latest", 1)] {
        let mut orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        orion.stop().await;
        let gateway = towards(&orion).set("ORION__COALESCE", coalesce).start().await;
        let spark = Spark::of(&gateway);
        spark.set("urn:a", "n", 1).await;
        until("Orion is found down", async || {
            gateway.status().await["replay"]["targets"][0]["up"] == false
        })
        .await;
        for value in 2..=100 {
            spark.set("urn:a", "n", value).await;
        }
        orion.restart().await;
        orion
            .wait_for(|state| {
                let history = state.entities.history("", "urn:a");
                history.last().is_some_and(|last| last.sent["n"]["value"] == 100)
            })
            .await;
        let values = values(&orion, "urn:a");
        assert!(values.is_sorted(), "{coalesce}: {values:?}");
        // One may be on its way while the others pile up.
        let about = if sent == 1 { 1..=3 } else { 100..=100 };
        assert!(about.contains(&values.len()), "{coalesce}: {values:?}");
    }
}

#[tokio::test]
async fn merging_never_swallows_an_operator_or_another_attribute() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.stop().await;
    let gateway = towards(&orion).set("ORION__COALESCE", "latest").start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    until("Orion is found down", async || {
        gateway.status().await["replay"]["targets"][0]["up"] == false
    })
    .await;
    spark.write("PATCH", &attrs("urn:a"), &n(10)).await;
    for _ in 0..3 {
        spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 1}))).await;
    }
    spark.write("POST", &attrs("urn:a"), &json!({"m": {"type": "Number", "value": 7}})).await;
    orion.restart().await;
    replayed(&gateway).await;
    assert!(dead_letters(&gateway).await.is_empty());
    let entity = orion.entity("", "urn:a").unwrap();
    assert_eq!((&entity["n"]["value"], &entity["m"]["value"]), (&json!(13), &json!(7)));
}

#[tokio::test]
async fn status_says_that_orion_is_down_and_how_much_waits() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.stop().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=7 {
        spark.set("urn:a", "n", value).await;
    }
    until("Orion is found down", async || {
        let status = gateway.status().await;
        status["replay"]["targets"][0]["up"] == false && status["write_backs"]["waiting"] == 7
    })
    .await;
    let (done, text) = command(&gateway, &["status"]).await;
    assert!(done && text.contains('7'), "{text}");
}
