//! NGSI-LD writes.

use serde_json::{Value, json};

use crate::common::orion::OrionStandIn;
use crate::{play, send};

const ENTITIES: &str = "/ngsi-ld/v1/entities";

fn press(number: u32, temperature: i32) -> Value {
    let t = json!({"type": "Property", "value": temperature});
    json!({"id": format!("urn:ngsi-ld:Press:{number}"), "type": "Press", "t": t})
}

fn value(orion: &OrionStandIn, number: u32) -> Value {
    let entity = orion.entity("", &format!("urn:ngsi-ld:Press:{number}"));
    entity.map_or(Value::Null, |e| e["t"]["value"].clone())
}

#[tokio::test]
async fn each_write_is_answered_with_its_code() {
    let orion = OrionStandIn::start().await;
    let t = json!({"t": {"type": "Property", "value": 2}});
    let u = json!({"u": {"type": "Property", "value": 2}});
    let one = "/ngsi-ld/v1/entities/urn:ngsi-ld:Press:1";
    let attrs = "/ngsi-ld/v1/entities/urn:ngsi-ld:Press:1/attrs";
    let absent = "/ngsi-ld/v1/entities/urn:ngsi-ld:Press:9/attrs";
    play(
        &orion,
        vec![
            ("POST", ENTITIES, press(1, 1), 201),
            ("POST", ENTITIES, press(1, 1), 409),
            ("POST", ENTITIES, json!({"id": "no-uri", "type": "Press"}), 400),
            ("PATCH", attrs, t.clone(), 204),
            ("PATCH", attrs, u.clone(), 207),
            ("PATCH", absent, t.clone(), 404),
            ("POST", attrs, u.clone(), 204),
            ("PATCH", one, u.clone(), 204),
            ("PUT", one, u, 204),
            ("DELETE", one, Value::Null, 204),
            ("DELETE", one, Value::Null, 404),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_partial_patch_is_207_and_names_both_parts() {
    let orion = OrionStandIn::start().await;
    send(&orion, "POST", ENTITIES, press(1, 1)).await;
    let body =
        json!({"t": {"type": "Property", "value": 5}, "u": {"type": "Property", "value": 5}});
    let path = "/ngsi-ld/v1/entities/urn:ngsi-ld:Press:1/attrs";
    let answer = send(&orion, "PATCH", path, body).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json()["updated"], json!(["t"]));
    assert_eq!(answer.json()["notUpdated"][0]["attributeName"], "u");
    assert_eq!(value(&orion, 1), 5);
}

#[tokio::test]
async fn batches_answer_201_204_and_207_with_success_and_errors() {
    let ops = "/ngsi-ld/v1/entityOperations";
    let orion = OrionStandIn::start().await;
    let table = [
        ("create", json!([press(1, 1)]), 201, json!(["urn:ngsi-ld:Press:1"])),
        ("upsert", json!([press(1, 2), press(2, 2)]), 201, json!(["urn:ngsi-ld:Press:2"])),
        ("upsert", json!([press(1, 3), press(2, 3)]), 204, Value::Null),
        ("update", json!([press(1, 4)]), 204, Value::Null),
        ("update", json!([press(1, 5), press(9, 5)]), 207, json!(["urn:ngsi-ld:Press:1"])),
        ("create", json!([press(1, 6), press(3, 6)]), 207, json!(["urn:ngsi-ld:Press:3"])),
        ("delete", json!(["urn:ngsi-ld:Press:1"]), 204, Value::Null),
        (
            "delete",
            json!(["urn:ngsi-ld:Press:1", "urn:ngsi-ld:Press:2"]),
            207,
            json!(["urn:ngsi-ld:Press:2"]),
        ),
    ];
    for (operation, body, status, told) in table {
        let answer = send(&orion, "POST", &format!("{ops}/{operation}"), body).await;
        assert_eq!(answer.status, status, "{operation}: {}", answer.text());
        match status {
            201 => assert_eq!(answer.json(), told, "{operation}"),
            207 => {
                assert_eq!(answer.json()["success"], told, "{operation}");
                assert!(answer.json()["errors"][0]["entityId"].is_string(), "{operation}");
            }
            _ => assert!(answer.body.is_empty()),
        }
    }
    assert_eq!((value(&orion, 1), value(&orion, 3)), (Value::Null, json!(6)));
}

#[tokio::test]
async fn temporal_is_503_troe_not_enabled_until_it_is_enabled() {
    let orion = OrionStandIn::start().await;
    let path = "/ngsi-ld/v1/temporal/entities";
    let answer = send(&orion, "POST", path, press(1, 1)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["title"], "TRoE Not Enabled");
    orion.enable_temporal();
    assert_eq!(send(&orion, "POST", path, press(1, 1)).await.status, 201);
}
