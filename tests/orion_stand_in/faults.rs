//! What goes wrong on demand.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::http::{self, Client};
use crate::common::orion::{Answered, Fault, Gate, OrionStandIn};
use crate::send;

fn patch(value: i32) -> Value {
    json!({"t": {"value": value}})
}

async fn with_entities() -> OrionStandIn {
    let orion = OrionStandIn::start().await;
    for id in ["a", "b"] {
        send(&orion, "POST", "/v2/entities", json!({"id": id, "t": {"value": 0}})).await;
    }
    orion
}

fn value(orion: &OrionStandIn, id: &str) -> Value {
    orion.entity("", id).unwrap()["t"]["value"].clone()
}

#[tokio::test]
async fn down_refuses_connections_and_comes_back_on_the_same_port() {
    let mut orion = with_entities().await;
    let mut kept = Client::connect(orion.addr()).await.unwrap();
    kept.exchange(&http::bare_request("GET", "/version")).await.unwrap();

    orion.stop().await;
    let refused = TcpStream::connect(orion.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(kept.closes_silently().await);

    orion.restart().await;
    assert_eq!(send(&orion, "PATCH", "/v2/entities/a/attrs", patch(1)).await.status, 204);
    orion.restart_wiped().await;
    assert_eq!(send(&orion, "PATCH", "/v2/entities/a/attrs", patch(1)).await.status, 404);
}

#[tokio::test]
async fn a_broker_may_start_down() {
    let mut orion = OrionStandIn::down();
    assert!(TcpStream::connect(orion.addr()).await.is_err());
    orion.restart().await;
    assert_eq!(send(&orion, "GET", "/version", Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_gate_holds_answers_until_it_opens() {
    let orion = with_entities().await;
    let gate = Gate::closed();
    orion.inject(&Fault::held_by(&gate).entity("a"));
    let mut held = Client::connect(orion.addr()).await.unwrap();
    held.send(&http::json_request("PATCH", "/v2/entities/a/attrs", &patch(1))).await.unwrap();
    orion.wait_for(|state| state.requests.len() == 3).await;
    let other = send(&orion, "PATCH", "/v2/entities/b/attrs", patch(2)).await;
    assert_eq!(other.status, 204);
    assert_eq!((value(&orion, "a"), value(&orion, "b")), (json!(0), json!(2)));
    assert_eq!(orion.requests()[2].answered, Answered::Waiting);
    gate.open();
    assert_eq!(held.answer().await.unwrap().status, 204);
    assert_eq!(value(&orion, "a"), 1);
}

#[tokio::test]
async fn an_injected_status_comes_so_many_times_and_applies_nothing() {
    let orion = with_entities().await;
    let fault = Fault::answer(503).retry_after(7).entity("a").times(2);
    orion.inject(&fault);
    let mut statuses = Vec::new();
    for id in ["a", "b", "a", "a"] {
        let path = format!("/v2/entities/{id}/attrs");
        let answer = send(&orion, "PATCH", &path, patch(1)).await;
        statuses.push((answer.status, answer.header("Retry-After").map(str::to_owned)));
    }
    let refused = (503, Some("7".to_owned()));
    assert_eq!(statuses, [refused.clone(), (204, None), refused, (204, None)]);
    assert_eq!(fault.hits(), 2);
    assert_eq!(orion.history("", "a").len(), 2, "the create, and one update");
}

#[tokio::test]
async fn faults_may_match_any_request_and_are_taken_back() {
    let orion = with_entities().await;
    orion.inject(&Fault::answer(408).when(|r| r.method == "DELETE"));
    assert_eq!(send(&orion, "DELETE", "/v2/entities/a", Value::Null).await.status, 408);
    orion.heal();
    assert_eq!(send(&orion, "DELETE", "/v2/entities/a", Value::Null).await.status, 204);
}

#[tokio::test]
async fn without_the_right_token_it_is_401() {
    let orion = with_entities().await;
    orion.inject(&Fault::need_token("new"));
    let body = patch(1).to_string();
    for (name, value, status) in [
        ("X-Auth-Token", "old", 401),
        ("X-Auth-Token", "new", 204),
        ("Authorization", "Bearer new", 204),
    ] {
        let headers = [("Content-Type", "application/json"), (name, value)];
        let raw = http::request("PATCH", "/v2/entities/a/attrs", &headers, body.as_bytes());
        assert_eq!(http::once(orion.addr(), &raw).await.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_closed_connection_may_or_may_not_have_been_applied() {
    let half = Answered::Half(204);
    let table = [
        (Fault::apply_then_close(), 1, Answered::Closed),
        (Fault::close_before_apply(), 0, Answered::Closed),
        (Fault::answer_half_then_close(), 1, half),
    ];
    for (fault, applied, answered) in table {
        let orion = with_entities().await;
        orion.inject(&fault.entity("a").times(1));
        let mut client = Client::connect(orion.addr()).await.unwrap();
        let raw = http::json_request("PATCH", "/v2/entities/a/attrs", &patch(1));
        assert!(client.exchange(&raw).await.is_err());
        assert_eq!(value(&orion, "a"), applied);
        assert_eq!(orion.requests()[2].answered, answered);
        assert_eq!(send(&orion, "PATCH", "/v2/entities/a/attrs", patch(1)).await.status, 204);
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let orion = with_entities().await;
    let gate = Gate::closed();
    let get = http::bare_request("GET", "/version");
    let mut idle = Client::connect(orion.addr()).await.unwrap();
    idle.exchange(&get).await.unwrap();
    let again = idle.exchange(&get).await.unwrap();
    let requests = orion.requests();
    assert_eq!(requests[2].connection, requests[3].connection, "{}", again.status);

    orion.inject(&Fault::held_by(&gate));
    let mut busy = Client::connect(orion.addr()).await.unwrap();
    busy.send(&get).await.unwrap();
    orion.wait_for(|state| state.requests.len() == 5).await;
    orion.close_idle().await;
    assert!(idle.closes_silently().await);
    gate.open();
    assert_eq!(busy.answer().await.unwrap().status, 200);
}
