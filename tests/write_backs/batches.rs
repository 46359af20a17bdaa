//! Orion's limits: bodies over 1 MiB, and lengths.

use serde_json::{Value, json};

use super::helpers::{attrs, create, dead_letters, n, towards};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

const MIB: usize = 1024 * 1024;

fn entities(count: usize, bytes: usize) -> Vec<Value> {
    let text = "x".repeat(bytes);
    let text = json!({"type": "Text", "value": text});
    (0..count).map(|at| json!({"id": format!("urn:{at}"), "type": "T", "t": text})).collect()
}

#[tokio::test]
async fn a_batch_over_orions_limit_is_cut_between_entities_and_kept_in_order() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let batch = json!({"actionType": "append", "entities": entities(30, 100_000)});
    spark.write("POST", "/v2/op/update", &batch).await;
    spark.write("POST", &attrs("urn:0"), &n(1)).await;
    spark.write("POST", &attrs("urn:29"), &n(1)).await;
    assert!(dead_letters(&gateway).await.is_empty());
    for at in 0..30 {
        let history = orion.history("", &format!("urn:{at}"));
        let more = usize::from(at == 0 || at == 29);
        assert_eq!(history.len(), 1 + more, "{at}");
        assert_eq!(history[0].operation, "append", "{at}");
    }
    let sent = orion.requests();
    assert!(sent.len() >= 5 && sent.iter().all(|request| request.body.len() <= MIB));
}

#[tokio::test]
async fn an_ngsi_ld_batch_over_the_limit_is_cut_too() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let entities = Value::Array(entities(25, 100_000));
    spark.write("POST", "/ngsi-ld/v1/entityOperations/upsert", &entities).await;
    assert!(dead_letters(&gateway).await.is_empty());
    for at in 0..25 {
        assert_eq!(orion.history("", &format!("urn:{at}")).len(), 1, "{at}");
    }
    assert!(orion.requests().iter().all(|request| request.body.len() <= MIB));
}

#[tokio::test]
async fn what_cannot_be_cut_is_a_dead_letter_with_orions_413() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let text = json!({"t": {"type": "Text", "value": "x".repeat(MIB)}});
    spark.write("POST", &attrs("urn:a"), &text).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!((letters.len(), &letters[0]["status"]), (1, &json!(413)));
}

#[tokio::test]
async fn every_write_has_a_content_length_and_none_is_chunked() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let long = json!({"t": {"type": "Text", "value": "x".repeat(200_000)}});
    let json = ("content-type", "application/json");
    for (method, path, body) in [
        ("POST", attrs("urn:a"), long),
        ("PATCH", attrs("urn:a"), n(1)),
        ("PUT", format!("{}/n", attrs("urn:a")), json!({"value": 2})),
        (
            "POST",
            "/v2/op/update".to_owned(),
            json!({"actionType": "append", "entities": entities(1, 10)}),
        ),
    ] {
        spark.write(method, &path, &body).await;
    }
    // One that Orion answers 411 for its emptiness has its length too.
    let path = "/v2/subscriptions/1";
    let empty = spark.request(http::Method::PATCH, path, &[json], Vec::new()).await.unwrap();
    assert_eq!(empty.status, 204);
    spark.write("DELETE", "/v2/entities/urn:a", &Value::Null).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!((letters.len(), &letters[0]["status"]), (1, &json!(411)), "{letters:?}");
    for request in orion.requests() {
        assert!(!request.chunked, "{request:?}");
        if request.method != "DELETE" {
            let length = request.header("content-length");
            assert_eq!(length, Some(request.body.len().to_string().as_str()), "{request:?}");
        }
    }
    assert_eq!(orion.state().crashes, 0);
}
