//! `NGSIv2` writes.

use serde_json::{Value, json};

use crate::common::http::{self, Answer};
use crate::common::orion::OrionStandIn;
use crate::{play, send};

fn press(temperature: i32) -> Value {
    json!({"id": "urn:Press:1", "type": "Press", "t": {"value": temperature, "type": "Number"}})
}

fn value(orion: &OrionStandIn, id: &str, attribute: &str) -> Value {
    orion.entity("", id).map_or(Value::Null, |e| e[attribute]["value"].clone())
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_write_is_answered_with_its_code() {
    let orion = OrionStandIn::start().await;
    let t = json!({"t": {"value": 2, "type": "Number"}});
    let u = json!({"u": {"value": 2, "type": "Number"}});
    play(
        &orion,
        vec![
            ("POST", "/v2/entities", press(1), 201),
            ("POST", "/v2/entities", press(1), 422),
            ("POST", "/v2/entities?options=upsert", press(2), 204),
            ("POST", "/v2/entities?options=keyValues,upsert", json!({"id": "b", "x": 1}), 201),
            ("POST", "/v2/entities/urn:Press:1/attrs", t.clone(), 204),
            ("POST", "/v2/entities/urn:Press:1/attrs?options=append", t.clone(), 422),
            ("POST", "/v2/entities/urn:Press:1/attrs?options=append", u.clone(), 204),
            ("PATCH", "/v2/entities/urn%3APress%3A1/attrs", t.clone(), 204),
            ("PATCH", "/v2/entities/absent/attrs", t.clone(), 404),
            ("PUT", "/v2/entities/urn:Press:1/attrs/t", json!({"value": 5}), 204),
            ("PUT", "/v2/entities/urn:Press:1/attrs/absent", json!({"value": 5}), 404),
            ("PUT", "/v2/entities/urn:Press:1/attrs/t/value", json!({"a": 1}), 204),
            ("DELETE", "/v2/entities/urn:Press:1/attrs/u", Value::Null, 204),
            ("PUT", "/v2/entities/urn:Press:1/attrs", u, 204),
            ("DELETE", "/v2/entities/urn:Press:1", Value::Null, 204),
            ("DELETE", "/v2/entities/urn:Press:1", Value::Null, 404),
            ("PUT", "/v2/entities/urn:Press:1/attrs", t, 404),
            ("GET", "/v2/entities/urn:Press:1", Value::Null, 404),
            ("GET", "/v2/entities/b?options=keyValues", Value::Null, 200),
            ("GET", "/version", Value::Null, 200),
            ("PATCH", "/v2/entities", press(1), 405),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_create_tells_where_and_a_second_one_that_it_exists() {
    let orion = OrionStandIn::start().await;
    let first = send(&orion, "POST", "/v2/entities", press(1)).await;
    assert_eq!(first.header("Location"), Some("/v2/entities/urn:Press:1?type=Press"));
    let second = send(&orion, "POST", "/v2/entities", press(2)).await;
    let told = json!({"error": "Unprocessable", "description": "Already Exists"});
    assert_eq!(second.json(), told);
    assert_eq!(value(&orion, "urn:Press:1", "t"), 1);
}

#[tokio::test]
async fn put_attrs_replaces_all_and_patch_keeps_the_others_and_old_metadata() {
    let orion = OrionStandIn::start().await;
    let unit = json!({"unit": {"type": "Text", "value": "CEL"}});
    let body = json!({"id": "a", "t": {"value": 1, "metadata": unit}, "u": {"value": 1}});
    send(&orion, "POST", "/v2/entities", body).await;
    send(&orion, "PATCH", "/v2/entities/a/attrs", json!({"t": {"value": 2}})).await;
    let patched = orion.entity("", "a").unwrap();
    assert_eq!((&patched["t"]["value"], &patched["t"]["metadata"]), (&json!(2), &unit));
    assert_eq!(patched["u"]["value"], 1);
    send(&orion, "PUT", "/v2/entities/a/attrs", json!({"v": {"value": 3}})).await;
    let put = orion.entity("", "a").unwrap();
    assert_eq!((put.get("t"), put.get("u"), &put["v"]["value"]), (None, None, &json!(3)));
}

#[tokio::test]
async fn a_batch_update_with_some_missing_is_422_and_the_others_are_applied() {
    let orion = OrionStandIn::start().await;
    send(&orion, "POST", "/v2/entities", press(1)).await;
    let absent = json!({"id": "absent", "type": "Press", "t": {"value": 9}});
    let update = |entities: Value| json!({"actionType": "update", "entities": entities});

    let partial = update(json!([press(7), absent]));
    let answer = send(&orion, "POST", "/v2/op/update", partial).await;
    assert_eq!(error(&answer), (422, "PartialUpdate".into()));
    assert_eq!(value(&orion, "urn:Press:1", "t"), 7);
    assert!(orion.entity("", "absent").is_none());

    let none = send(&orion, "POST", "/v2/op/update", update(json!([absent]))).await;
    assert_eq!(error(&none), (404, "NotFound".into()));

    let bad = update(json!([press(8), {"type": "Press"}]));
    assert_eq!(send(&orion, "POST", "/v2/op/update", bad).await.status, 400);
    assert_eq!(value(&orion, "urn:Press:1", "t"), 7, "a 400 applies nothing");
}

#[tokio::test]
async fn each_batch_action_does_its_own() {
    let batch = |action: &str, entities: Value| json!({"actionType": action, "entities": entities});
    let u = json!({"id": "urn:Press:1", "type": "Press", "u": {"value": 3}});
    let bare = json!({"id": "urn:Press:1", "type": "Press"});
    let orion = OrionStandIn::start().await;
    let op = "/v2/op/update";
    play(
        &orion,
        vec![
            ("POST", op, batch("append", json!([press(1), u])), 204),
            ("POST", op, batch("appendStrict", json!([press(2)])), 422),
            ("POST", op, batch("replace", json!([u])), 204),
            ("POST", op, batch("append", json!([press(3)])), 204),
            ("POST", op, batch("delete", json!([u])), 204),
        ],
    )
    .await;
    let left = orion.entity("", "urn:Press:1").unwrap();
    assert_eq!((&left["t"]["value"], left.get("u")), (&json!(3), None));
    play(
        &orion,
        vec![
            ("POST", op, batch("delete", json!([bare])), 204),
            ("POST", op, batch("delete", json!([bare])), 404),
            ("POST", op, batch("explode", json!([bare])), 400),
            ("POST", op, batch("append", json!([])), 400),
        ],
    )
    .await;
    let done: Vec<String> =
        orion.history("", "urn:Press:1").into_iter().map(|a| a.operation).collect();
    assert_eq!(done, ["append", "append", "replace", "append", "delete", "DELETE"]);
}

#[tokio::test]
async fn operators_are_applied_so_a_repeated_one_shows() {
    let table = [
        (json!(10), json!({"$inc": 2.5}), json!(12.5), json!(15)),
        (json!(10), json!({"$mul": 2}), json!(20), json!(40)),
        (json!([1]), json!({"$push": 2}), json!([1, 2]), json!([1, 2, 2])),
        (json!([1]), json!({"$addToSet": 2}), json!([1, 2]), json!([1, 2])),
        (json!(10), json!({"$max": 12}), json!(12), json!(12)),
    ];
    for (start, operator, once, twice) in table {
        let orion = OrionStandIn::start().await;
        send(&orion, "POST", "/v2/entities", json!({"id": "a", "n": {"value": start}})).await;
        for expected in [once, twice] {
            let patch = json!({"n": {"value": operator}});
            let answer = send(&orion, "PATCH", "/v2/entities/a/attrs", patch).await;
            assert_eq!(answer.status, 204, "{}", answer.text());
            assert_eq!(value(&orion, "a", "n"), expected, "{operator}");
        }
    }
}

#[tokio::test]
async fn an_id_with_two_types_is_409_without_a_type() {
    let orion = OrionStandIn::start().await;
    let t = json!({"t": {"value": 1}});
    play(
        &orion,
        vec![
            ("POST", "/v2/entities", json!({"id": "a", "type": "A", "t": {"value": 1}}), 201),
            ("POST", "/v2/entities", json!({"id": "a", "type": "B", "t": {"value": 1}}), 201),
            ("PATCH", "/v2/entities/a/attrs", t.clone(), 409),
            ("PATCH", "/v2/entities/a/attrs?type=B", t, 204),
        ],
    )
    .await;
}

#[tokio::test]
async fn tenants_and_service_paths_separate_entities() {
    let orion = OrionStandIn::start().await;
    let headers = [
        ("Content-Type", "application/json"),
        ("Fiware-Service", "Plant1"),
        ("Fiware-ServicePath", "/line/a"),
    ];
    let raw = http::request("POST", "/v2/entities", &headers, press(1).to_string().as_bytes());
    assert_eq!(http::once(orion.addr(), &raw).await.status, 201);
    assert!(orion.entity("", "urn:Press:1").is_none());
    assert!(orion.entity("plant1", "urn:Press:1").is_some(), "a tenant is lower-cased");
    let patch = json!({"t": {"value": 1}});
    let elsewhere = send(&orion, "PATCH", "/v2/entities/urn:Press:1/attrs", patch).await;
    assert_eq!(elsewhere.status, 404);
}
