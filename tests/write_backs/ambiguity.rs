//! Answers that were lost: what may be repeated is, and nothing counts twice.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::helpers::{attrs, create, dead_letters, n, now, towards, values, written};
use crate::common::gateway::Gateway;
use crate::common::orion::{Fault, Gate, OrionStandIn};
use crate::common::spark::Spark;

async fn started(faults: &[Fault]) -> (OrionStandIn, Gateway, Spark) {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    for fault in faults {
        orion.inject(fault);
    }
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    (orion, gateway, spark)
}

#[tokio::test]
async fn an_increment_whose_answer_was_lost_is_a_dead_letter_and_never_counted_twice() {
    for fault in [
        Fault::apply_then_close(),
        Fault::answer_half_then_close(),
        Fault::apply_then_answer(500),
        Fault::close_before_apply(),
    ] {
        let (orion, gateway, spark) = started(&[fault.times(1)]).await;
        spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 1}))).await;
        spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 10}))).await;
        let letters = dead_letters(&gateway).await;
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert!(letter["reason"].as_str().unwrap().starts_with("ambiguous"), "{letter}");
        assert_eq!(orion.state().requests_for("urn:a").len(), 3, "each was sent once");
        // Whether it was applied is what nobody knows.
        assert!([json!(10), json!(11)].contains(&now(&orion, "urn:a")));
    }
}

#[tokio::test]
async fn an_increment_in_flight_at_a_kill_is_a_dead_letter() {
    let gate = Gate::closed();
    let held = Fault::held_by(&gate).times(1);
    let (orion, gateway, spark) = started(std::slice::from_ref(&held)).await;
    spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 1}))).await;
    orion.wait_for(|_| held.hits() == 1).await;
    let setup = gateway.kill().await;
    gate.open();
    let gateway = setup.start().await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0]["reason"].as_str().unwrap().starts_with("ambiguous"), "{letters:?}");
    assert_eq!(orion.state().requests_for("urn:a").len(), 2, "it was sent once");
}

#[tokio::test]
async fn an_increment_that_certainly_was_not_applied_is_sent_again() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.stop().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 1}))).await;
    super::helpers::until("Orion is found down", async || {
        gateway.status().await["replay"]["targets"][0]["up"] == false
    })
    .await;
    orion.inject(&Fault::answer(503).times(2));
    orion.inject(&Fault::answer(429).retry_after(0).times(1));
    orion.restart().await;
    written(&orion, "urn:a", 1).await;
    assert_eq!(now(&orion, "urn:a"), 1);
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn a_plain_update_whose_answer_was_lost_is_sent_again() {
    for fault in [Fault::apply_then_close(), Fault::close_before_apply(), Fault::answer(504)] {
        let (orion, gateway, spark) = started(&[fault.times(2)]).await;
        spark.set("urn:a", "n", 1).await;
        spark.set("urn:a", "n", 2).await;
        super::helpers::replayed(&gateway).await;
        let mut values = values(&orion, "urn:a");
        values.dedup();
        assert_eq!(values, [1, 2]);
        assert!(dead_letters(&gateway).await.is_empty());
    }
}

/// A request whose answer is lost though it was applied, and its repeat.
async fn twice(method: &str, path: &str, content_type: &str, body: &Value) -> Vec<Value> {
    let (orion, gateway, spark) = started(&[Fault::apply_then_close().times(1)]).await;
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = [(CONTENT_TYPE.as_str(), content_type)];
    let headers = if body.is_null() { &headers[..0] } else { &headers[..] };
    let reply = spark.request(method.parse().unwrap(), path, headers, bytes).await.unwrap();
    assert!((200..300).contains(&reply.status), "{reply:?}");
    let letters = dead_letters(&gateway).await;
    let sent = orion.requests().iter().filter(|request| request.path == path).count();
    // The entity's own creation by the test is one to the same path.
    let own = usize::from(path == "/v2/entities" && method == "POST");
    assert_eq!(sent, 2 + own, "{method} {path}");
    letters
}

#[tokio::test]
async fn a_creation_that_is_there_already_after_a_lost_answer_was_applied() {
    let v2 = json!({"id": "urn:new", "type": "T", "n": {"type": "Number", "value": 1}});
    let letters = twice("POST", "/v2/entities", "application/json", &v2).await;
    assert!(letters.is_empty(), "{letters:?}");
    let ld = json!({"id": "urn:new", "type": "T", "n": {"type": "Property", "value": 1}});
    let letters = twice("POST", "/ngsi-ld/v1/entities", "application/json", &ld).await;
    assert!(letters.is_empty(), "{letters:?}");
    let list = json!([ld]);
    let path = "/ngsi-ld/v1/entityOperations/create";
    let letters = twice("POST", path, "application/json", &list).await;
    assert!(letters.is_empty(), "{letters:?}");
    let strict = json!({"m": {"type": "Number", "value": 1}});
    let path = "/v2/entities/urn:a/attrs?options=append";
    let letters = twice("POST", path, "application/json", &strict).await;
    assert!(letters.is_empty(), "{letters:?}");
}

#[tokio::test]
async fn a_deletion_of_what_is_not_there_after_a_lost_answer_was_applied() {
    for path in ["/v2/entities/urn:a", "/v2/entities/urn:a/attrs/n", "/ngsi-ld/v1/entities/urn:a"] {
        let letters = twice("DELETE", path, "", &Value::Null).await;
        assert!(letters.is_empty(), "{path}: {letters:?}");
    }
    let delete = json!({"actionType": "delete", "entities": [{"id": "urn:a", "type": "T"}]});
    let letters = twice("POST", "/v2/op/update", "application/json", &delete).await;
    assert!(letters.is_empty(), "{letters:?}");
    let path = "/ngsi-ld/v1/entityOperations/delete";
    let letters = twice("POST", path, "application/json", &json!(["urn:a"])).await;
    assert!(letters.is_empty(), "{letters:?}");
}

#[tokio::test]
async fn a_creation_or_deletion_refused_at_first_try_is_a_dead_letter() {
    let (orion, gateway, spark) = started(&[]).await;
    let existing = json!({"id": "urn:a", "type": "T"});
    spark.write("POST", "/v2/entities", &existing).await;
    spark.write("DELETE", "/v2/entities/urn:missing", &Value::Null).await;
    let letters = dead_letters(&gateway).await;
    let mut statuses: Vec<u64> =
        letters.iter().map(|letter| letter["status"].as_u64().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [404, 422]);
    assert_eq!(orion.requests().len(), 3);
}

#[tokio::test]
async fn a_creation_in_flight_at_a_kill_is_sent_again_and_taken_as_applied() {
    let orion = OrionStandIn::start().await;
    let gate = Gate::closed();
    // Applied as it comes, answered never: the gateway is killed meanwhile.
    let lost = Fault::apply_then_close().hold(&gate).times(1);
    orion.inject(&lost);
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.write("POST", "/v2/entities", &json!({"id": "urn:new", "type": "T"})).await;
    spark.write("DELETE", "/v2/entities/urn:new", &Value::Null).await;
    orion.wait_for(|_| lost.hits() == 1).await;
    let setup = gateway.kill().await;
    gate.open();
    orion.wait_for(|state| state.entities.applied() == 1).await;
    let gateway = setup.start().await;
    assert!(dead_letters(&gateway).await.is_empty());
    let done: Vec<String> =
        orion.history("", "urn:new").into_iter().map(|applied| applied.operation).collect();
    assert_eq!(done, ["create", "DELETE"]);
}
