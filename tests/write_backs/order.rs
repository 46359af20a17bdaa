//! Order, while Orion is away in every way there is.

use std::time::Duration;

use super::helpers::{attrs, create, dead_letters, n, replayed, towards, values, written};
use crate::common::orion::notification::Notification;
use crate::common::orion::{Fault, Gate, OrionStandIn};
use crate::common::spark::Spark;

#[tokio::test]
async fn what_came_while_orion_refused_connections_reaches_it_in_order() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    orion.stop().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=20 {
        spark.set("urn:a", "n", value).await;
        spark.set("urn:b", "n", value).await;
    }
    orion.restart().await;
    written(&orion, "urn:a", 20).await;
    written(&orion, "urn:b", 20).await;
    for id in ["urn:a", "urn:b"] {
        assert_eq!(values(&orion, id), (1..=20).collect::<Vec<_>>(), "{id}");
    }
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn what_came_while_orion_was_away_survives_a_kill_of_the_gateway() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.stop().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=20 {
        spark.set("urn:a", "n", value).await;
    }
    let gateway = gateway.kill().await.start().await;
    orion.restart().await;
    written(&orion, "urn:a", 20).await;
    assert_eq!(values(&orion, "urn:a"), (1..=20).collect::<Vec<_>>());
    replayed(&gateway).await;
}

#[tokio::test]
async fn a_slow_entity_keeps_its_order_and_holds_up_no_other() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:slow").await;
    create(&orion, "urn:fast").await;
    let gate = Gate::closed();
    orion.inject(&Fault::held_by(&gate).entity("urn:slow"));
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=5 {
        spark.set("urn:slow", "n", value).await;
        spark.set("urn:fast", "n", value).await;
    }
    written(&orion, "urn:fast", 5).await;
    assert_eq!(orion.state().requests_for("urn:slow").len(), 2, "the creation and one write");
    gate.open();
    written(&orion, "urn:slow", 5).await;
    assert_eq!(values(&orion, "urn:slow"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn writes_to_different_entities_are_in_flight_together_up_to_the_setting() {
    let orion = OrionStandIn::start().await;
    let ids: Vec<String> = (0..6).map(|at| format!("urn:{at}")).collect();
    for id in &ids {
        create(&orion, id).await;
    }
    let gate = Gate::closed();
    let held = Fault::held_by(&gate);
    orion.inject(&held);
    let gateway = towards(&orion).set("ORION__PARALLEL", "4").start().await;
    let spark = Spark::of(&gateway);
    for id in &ids {
        spark.set(id, "n", 1).await;
    }
    orion.wait_for(|_| held.hits() == 4).await;
    assert_eq!(gateway.status().await["replay"]["in_flight"], 4);
    gate.open();
    for id in &ids {
        written(&orion, id, 1).await;
    }
    assert_eq!(held.hits(), 6);
}

#[tokio::test]
async fn errors_of_orion_are_waited_out_in_order() {
    for status in [500, 502, 503, 504, 408] {
        let orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        let fault = Fault::answer(status).times(3);
        orion.inject(&fault);
        let gateway = towards(&orion).start().await;
        let spark = Spark::of(&gateway);
        for value in 1..=5 {
            spark.set("urn:a", "n", value).await;
        }
        written(&orion, "urn:a", 5).await;
        assert_eq!(values(&orion, "urn:a"), [1, 2, 3, 4, 5], "{status}");
        assert_eq!(fault.hits(), 3, "{status}");
        assert!(dead_letters(&gateway).await.is_empty(), "{status}");
    }
}

#[tokio::test]
async fn an_orion_that_restarts_again_and_again_gets_everything_in_order() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    for round in 0..5 {
        for value in 1..=8 {
            spark.set("urn:a", "n", 8 * round + value).await;
            spark.set("urn:b", "n", 8 * round + value).await;
            if value == 4 {
                orion.restart().await;
            }
        }
    }
    replayed(&gateway).await;
    for id in ["urn:a", "urn:b"] {
        // One that was in flight as Orion went may be there twice.
        let mut values = values(&orion, id);
        assert!(values.is_sorted(), "{id}: {values:?}");
        values.dedup();
        assert_eq!(values, (1..=40).collect::<Vec<_>>(), "{id}");
    }
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn a_notification_ends_the_wait_for_orion_at_once() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.stop().await;
    let setup = towards(&orion).set("ORION__BACKOFF_MIN", "1h").set("ORION__BACKOFF_MAX", "1h");
    let gateway = setup.start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    super::helpers::until("Orion is found down", async || {
        gateway.status().await["replay"]["targets"][0]["up"] == false
    })
    .await;
    orion.restart().await;
    let raw = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    let answer = crate::common::http::once(gateway.intake, &raw).await;
    assert_eq!(answer.status, 204);
    written(&orion, "urn:a", 1).await;
}

#[tokio::test]
async fn a_write_on_several_entities_waits_for_each_and_each_for_it() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    orion.inject(&Fault::delayed(Duration::from_millis(50)).entity("urn:a").times(1));
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    spark.set("urn:b", "n", 1).await;
    let entity = |id: &str| {
        let mut entity = n(2);
        entity["id"] = id.into();
        entity["type"] = "T".into();
        entity
    };
    let batch = serde_json::json!({
        "actionType": "update", "entities": [entity("urn:a"), entity("urn:b")],
    });
    spark.write("POST", "/v2/op/update", &batch).await;
    spark.write("PATCH", &attrs("urn:b"), &n(3)).await;
    spark.write("PATCH", &attrs("urn:a"), &n(3)).await;
    written(&orion, "urn:a", 3).await;
    written(&orion, "urn:b", 3).await;
    assert_eq!((values(&orion, "urn:a"), values(&orion, "urn:b")), (vec![1, 2, 3], vec![1, 2, 3]));
}
