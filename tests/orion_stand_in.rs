//! The stand-in against what is known of Orion: each test states a rule.

mod common;

#[path = "orion_stand_in/faults.rs"]
mod faults;
#[path = "orion_stand_in/fixtures.rs"]
mod fixtures;
#[path = "orion_stand_in/limits.rs"]
mod limits;
#[path = "orion_stand_in/notifications.rs"]
mod notifications;
#[path = "orion_stand_in/writes_ld.rs"]
mod writes_ld;
#[path = "orion_stand_in/writes_v2.rs"]
mod writes_v2;

use common::http::{self, Answer};
use common::orion::OrionStandIn;
use serde_json::Value;

/// Sends a body, or none where it is null, on a connection of its own.
async fn send(orion: &OrionStandIn, method: &str, path: &str, body: Value) -> Answer {
    let raw = if body.is_null() {
        http::bare_request(method, path)
    } else {
        http::json_request(method, path, &body)
    };
    http::once(orion.addr(), &raw).await
}

/// One row of a table: a request, and the status it is answered.
type Step = (&'static str, &'static str, Value, u16);

/// Sends the rows one after the other and compares each answer.
async fn play(orion: &OrionStandIn, steps: Vec<Step>) {
    for (method, path, body, status) in steps {
        let told = format!("{method} {path} {body}");
        let answer = send(orion, method, path, body).await;
        assert_eq!(answer.status, status, "{told}: {}", answer.text());
    }
}
