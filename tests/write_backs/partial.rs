//! Answers that took a part: what was refused is kept, what was applied is not
//! repeated.

use serde_json::{Value, json};

use super::helpers::{attrs, create, dead_letters, towards};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

fn body(letter: &Value) -> Value {
    serde_json::from_str(letter["request"]["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_partial_update_is_kept_whole_and_not_sent_again() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let update = json!({
        "n": {"type": "Number", "value": 1},
        "missing": {"type": "Number", "value": 1},
    });
    spark.write("PATCH", &attrs("urn:a"), &update).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["status"], body(&letters[0])), (&json!(422), update));
    assert!(letters[0]["answer"].as_str().unwrap().contains("missing"), "{letters:?}");
    assert_eq!(orion.history("", "urn:a").len(), 2, "what could be applied was, once");
}

#[tokio::test]
async fn of_an_ngsi_ld_batch_only_the_refused_entities_are_kept() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let entity = |id: &str, value: u64| {
        let property = json!({"type": "Property", "value": value});
        json!({"id": id, "type": "T", "n": property})
    };
    let path = "/ngsi-ld/v1/entityOperations/create";
    spark.write("POST", path, &json!([entity("urn:a", 1)])).await;
    let both = json!([entity("urn:a", 2), entity("urn:b", 2)]);
    spark.write("POST", path, &both).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["status"], 207);
    assert_eq!(body(&letters[0]), json!([entity("urn:a", 2)]));
    assert_eq!(letters[0]["entities"], json!([{"tenant": "", "id": "urn:a"}]));
    assert_eq!(orion.history("", "urn:a").len(), 1);
    assert_eq!(orion.history("", "urn:b").len(), 1);
}

#[tokio::test]
async fn of_an_ngsi_ld_update_only_the_refused_attributes_are_kept() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let property = |value: u64| json!({"type": "Property", "value": value});
    let entity = json!({"id": "urn:a", "type": "T", "n": property(0)});
    spark.write("POST", "/ngsi-ld/v1/entities", &entity).await;
    let update = json!({"n": property(1), "missing": property(1)});
    spark.write("PATCH", "/ngsi-ld/v1/entities/urn:a/attrs", &update).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["status"], body(&letters[0])),
        (&json!(207), json!({"missing": property(1)}))
    );
    assert_eq!(orion.entity("", "urn:a").unwrap()["n"]["value"], 1);
}

#[tokio::test]
async fn temporal_writes_to_an_orion_that_keeps_no_history_are_dead_letters_at_once() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let entity = json!({"id": "urn:a", "type": "T"});
    spark.write("POST", "/ngsi-ld/v1/temporal/entities", &entity).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["status"], 503);
    assert!(letters[0]["answer"].as_str().unwrap().contains("TRoE Not Enabled"), "{letters:?}");
    assert_eq!(orion.requests().len(), 1);
}
