//! The pass-through: code that wrote to Orion, with only the address changed.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::helpers::{attrs, create, dead_letters, n, replayed, towards};
use crate::common::gateway::Gateway;
use crate::common::http::{self, Answer};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

/// Where the pass-through's own listener is.
fn listener(gateway: &Gateway) -> SocketAddr {
    let text = std::fs::read(gateway.setup().folder().join("addresses.json")).unwrap();
    let addresses: Value = serde_json::from_slice(&text).unwrap();
    addresses["pass_through"].as_str().unwrap().parse().unwrap()
}

async fn started() -> (OrionStandIn, Gateway, SocketAddr) {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).set("PASS_THROUGH__LISTEN", "127.0.0.1:0").start().await;
    let at = listener(&gateway);
    (orion, gateway, at)
}

async fn send(to: SocketAddr, method: &str, path: &str, body: &Value) -> Answer {
    let raw = if body.is_null() {
        http::bare_request(method, path)
    } else {
        http::json_request(method, path, body)
    };
    http::once(to, &raw).await
}

/// What is the same for a client: status, place, type and body of an answer.
fn told(answer: &Answer) -> (u16, Option<String>, Option<String>, Vec<u8>) {
    let header = |name: &str| answer.header(name).map(ToOwned::to_owned);
    (answer.status, header("location"), header("content-type"), answer.body.clone())
}

#[tokio::test]
async fn a_success_is_answered_as_orion_answers_it() {
    // The same requests to an Orion of their own, and to the gateway.
    let (orion, gateway, at) = started().await;
    let other = OrionStandIn::start().await;
    let property = json!({"type": "Property", "value": 1});
    let ld = |id: &str| json!({"id": id, "type": "T", "n": property});
    for (method, path, body) in [
        (
            "POST",
            "/v2/entities".to_owned(),
            json!({"id": "urn:a", "type": "Room", "n": {"value": 1}}),
        ),
        ("PATCH", attrs("urn:a"), n(2)),
        ("POST", attrs("urn:a"), json!({"m": {"value": 2}})),
        ("PUT", attrs("urn:a"), n(3)),
        ("PUT", format!("{}/n", attrs("urn:a")), json!({"value": 4})),
        ("PUT", format!("{}/n/value", attrs("urn:a")), json!(5)),
        (
            "POST",
            "/v2/op/update".to_owned(),
            json!({"actionType": "append", "entities": [{"id": "urn:b", "type": "T"}]}),
        ),
        ("DELETE", format!("{}/n", attrs("urn:a")), Value::Null),
        ("DELETE", "/v2/entities/urn:a".to_owned(), Value::Null),
        ("POST", "/ngsi-ld/v1/entities".to_owned(), ld("urn:ld:1")),
        ("PATCH", "/ngsi-ld/v1/entities/urn:ld:1/attrs".to_owned(), json!({"n": property})),
        ("POST", "/ngsi-ld/v1/entityOperations/create".to_owned(), json!([ld("urn:ld:2")])),
        ("POST", "/ngsi-ld/v1/entityOperations/delete".to_owned(), json!(["urn:ld:2"])),
        ("DELETE", "/ngsi-ld/v1/entities/urn:ld:1".to_owned(), Value::Null),
    ] {
        let answer = send(at, method, &path, &body).await;
        let orions = send(other.addr(), method, &path, &body).await;
        assert_eq!(told(&answer), told(&orions), "{method} {path}");
    }
    assert!(dead_letters(&gateway).await.is_empty());
    // What one Orion was sent the other one was: in order, but for headers.
    let what = |orion: &OrionStandIn| -> Vec<(String, String, Vec<u8>)> {
        orion.requests().into_iter().map(|r| (r.method, r.path, r.body)).collect()
    };
    let (mut ours, mut theirs) = (what(&orion), what(&other));
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn reads_are_refused_and_reach_nobody() {
    let (orion, _gateway, at) = started().await;
    for (method, path) in [
        ("GET", "/v2/entities"),
        ("GET", "/ngsi-ld/v1/entities/urn:a"),
        ("POST", "/v2/op/query"),
        ("POST", "/ngsi-ld/v1/entityOperations/query"),
    ] {
        let body = if method == "GET" { Value::Null } else { json!({"entities": []}) };
        let answer = send(at, method, path, &body).await;
        assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
        assert!(answer.header("allow").unwrap().contains("PATCH"));
    }
    assert_eq!(send(at, "POST", "/elsewhere", &json!({})).await.status, 404);
    assert_eq!(send(at, "DELETE", "/v2/../admin", &Value::Null).await.status, 404);
    assert!(orion.requests().is_empty());
}

#[tokio::test]
async fn what_orion_would_certainly_refuse_is_refused_at_once() {
    let (orion, _gateway, at) = started().await;
    let json = [("Content-Type", "application/json")];
    for (headers, body, status) in
        [(&json[..], "{", 400), (&json[..], "", 411), (&[][..], r#"{"id":"urn:a"}"#, 415)]
    {
        let raw = http::request("POST", "/v2/entities", headers, body.as_bytes());
        let answer = http::once(at, &raw).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let orions = http::once(orion.addr(), &raw).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (orions.status, &orions.json()["error"])
        );
    }
}

#[tokio::test]
async fn the_spark_api_takes_the_same_writes_with_and_without_the_gateways_id() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).set("ID", "plant1").start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    let path = format!("/gateways/plant1{}", attrs("urn:a"));
    assert_eq!(spark.write("PATCH", &path, &n(2)).await.status, 204);
    let path = format!("/gateways/other{}", attrs("urn:a"));
    let refused = spark.try_write("PATCH", &path, &[], &n(3)).await.unwrap();
    assert_eq!(refused.status, 404);
    replayed(&gateway).await;
    assert_eq!(super::helpers::values(&orion, "urn:a"), [1, 2]);
    assert_eq!(orion.requests().last().unwrap().path, attrs("urn:a"));
}

#[tokio::test]
async fn a_token_guards_the_pass_through_where_one_is_configured() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let setup = towards(&orion).set("PASS_THROUGH__LISTEN", "127.0.0.1:0");
    let tokens = setup.folder().join("tokens");
    std::fs::write(&tokens, "job SECRET-TOKEN-0123456789\n").unwrap();
    let gateway = setup.set("PASS_THROUGH__TOKEN_FILE", tokens.to_str().unwrap()).start().await;
    let at = listener(&gateway);
    let patch = |token: &str| {
        let headers = [("Content-Type", "application/json"), ("Authorization", token)];
        http::request("PATCH", &attrs("urn:a"), &headers, n(1).to_string().as_bytes())
    };
    assert_eq!(send(at, "PATCH", &attrs("urn:a"), &n(1)).await.status, 401);
    assert_eq!(http::once(at, &patch("Bearer SECRET-TOKEN-012345678X")).await.status, 401);
    assert_eq!(http::once(at, &patch("Bearer SECRET-TOKEN-0123456789")).await.status, 204);
    replayed(&gateway).await;
    assert_eq!(super::helpers::values(&orion, "urn:a"), [1]);
    assert_eq!(orion.requests().last().unwrap().header("authorization"), None);
}
