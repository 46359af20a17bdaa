//! `ngsi-ferry dead-letters`.

use serde_json::json;

use super::support::{ok, run};
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http;
use crate::common::orion::OrionStandIn;

/// A gateway with so many write-backs that Orion refused: their entities are
/// not there.
async fn refused(orion: &OrionStandIn, count: u64) -> Gateway {
    let gateway = Setup::new().set("ORION__URL", &orion.url()).start().await;
    let client = gateway.spark_client();
    for n in 0..count {
        let url = gateway.spark_url(&format!("/v2/entities/urn:Press:{n}/attrs"));
        let body = json!({ "setpoint": { "type": "Number", "value": 180 } }).to_string();
        let patch = client.patch(url).header("content-type", "application/json");
        assert_eq!(patch.body(body).send().await.unwrap().status(), 204);
        // One after the other: between entities there is no order.
        until(&gateway, n + 1).await;
    }
    gateway
}

async fn until(gateway: &Gateway, dead: u64) {
    let reached = async { while gateway.status().await["write_backs"]["dead_letters"] != dead {} };
    tokio::time::timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("never {dead}"));
}

async fn ids(gateway: &Gateway) -> Vec<String> {
    let said = ok(gateway.setup(), &["dead-letters", "list", "--json"]).await.out;
    let id =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string();
    said.lines().map(id).collect()
}

#[tokio::test]
async fn they_are_listed_shown_retried_and_dropped() {
    let orion = OrionStandIn::start().await;
    let gateway = refused(&orion, 3).await;
    let setup = gateway.setup();
    let list = ok(setup, &["dead-letters", "list"]).await.out;
    assert!(
        list.lines()
            .next()
            .unwrap()
            .split_whitespace()
            .eq(["ID", "TIME", "REQUEST", "STATUS", "ATTEMPTS", "REASON"]),
        "{list}"
    );
    assert!(list.contains("PATCH /v2/entities/urn:Press:1/attrs"), "{list}");
    let ids = ids(&gateway).await;
    assert_eq!(ids.len(), 3);

    let shown = ok(setup, &["dead-letters", "show", &ids[0]]).await.json();
    assert_eq!(
        (&shown["status"], &shown["request"]["path"]),
        (&404.into(), &"/v2/entities/urn:Press:0/attrs".into())
    );
    assert!(shown["answer"].as_str().unwrap().contains("NotFound"), "{shown}");

    let entity = json!({ "id": "urn:Press:0", "type": "Press", "setpoint": { "type": "Number", "value": 1 } });
    let made = http::once(orion.addr(), &http::json_request("POST", "/v2/entities", &entity)).await;
    assert_eq!(made.status, 201);
    let said = ok(setup, &["dead-letters", "retry", &ids[0]]).await.out;
    assert_eq!(said, format!("{}: sent again\n", ids[0]));
    let applied = |entity: serde_json::Value| entity["setpoint"]["value"] == 180;
    orion.wait_for(|state| state.entities.entity("", "urn:Press:0").is_some_and(applied)).await;
    let said = ok(setup, &["dead-letters", "drop", &ids[1]]).await.out;
    assert_eq!(said, format!("{}: dropped\n", ids[1]));
    until(&gateway, 1).await;

    let said = run(setup, &["dead-letters", "drop", &ids[1], &ids[2]]).await;
    assert_eq!((said.code, said.out), (Some(1), format!("{}: dropped\n", ids[2])));
    assert!(said.err.contains(&format!("there is no open dead letter {}", ids[1])), "{}", said.err);
    assert!(said.err.contains("1 of 2 refused"), "{}", said.err);
    assert_eq!(ok(setup, &["dead-letters", "list"]).await.out, "No dead letters.\n");
}

#[tokio::test]
async fn a_stopped_gateways_dead_letters_can_be_looked_at_and_dropped() {
    let orion = OrionStandIn::start().await;
    let (setup, _) = refused(&orion, 2).await.stop().await;
    assert_eq!(ok(&setup, &["dead-letters", "list", "--json"]).await.out.lines().count(), 2);
    ok(&setup, &["dead-letters", "drop", "--all"]).await;
    let gateway = setup.start().await;
    assert!(ids(&gateway).await.is_empty());
}
