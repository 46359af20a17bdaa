//! Whom a write-back goes to, and as whom.

use std::fs;

use serde_json::Value;

use super::helpers::{attrs, create, dead_letters, n, replayed, towards, until, values, written};
use crate::common::orion::{Answer, Fault, OrionStandIn};
use crate::common::spark::Spark;

const TOKEN: &str = "NGSI-TOKEN-1234567890";

/// Every file under the data directory.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_refused_token_waits_for_a_new_one_in_its_file() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.inject(&Fault::need_token(TOKEN));
    let setup = towards(&orion);
    let file = setup.folder().join("token");
    fs::write(&file, "an-old-one\n").unwrap();
    let gateway = setup.set("ORION__TOKEN_FILE", file.to_str().unwrap()).start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=3 {
        spark.set("urn:a", "n", value).await;
    }
    orion.wait_for(|state| state.answered() >= 4).await;
    assert!(values(&orion, "urn:a").is_empty());
    assert_eq!(gateway.status().await["write_backs"]["dead_letters"], 0);
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    written(&orion, "urn:a", 3).await;
    assert_eq!(values(&orion, "urn:a"), [1, 2, 3]);
    assert!(dead_letters(&gateway).await.is_empty());
    let log = gateway.log();
    assert!(log.contains("refuses the gateway's token"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("an-old-one"), "{log}");
}

#[tokio::test]
async fn a_token_may_have_a_header_of_its_own() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.inject(&Fault::need_token(TOKEN));
    let setup = towards(&orion).set("ORION__TOKEN_HEADER", "X-Auth-Token");
    let file = setup.folder().join("token");
    fs::write(&file, TOKEN).unwrap();
    let gateway = setup.set("ORION__TOKEN_FILE", file.to_str().unwrap()).start().await;
    Spark::of(&gateway).set("urn:a", "n", 1).await;
    written(&orion, "urn:a", 1).await;
    assert_eq!(orion.requests().last().unwrap().header("x-auth-token"), Some(TOKEN));
}

#[tokio::test]
async fn a_write_back_brings_its_own_tenant_or_gets_the_configured_one() {
    let orion = OrionStandIn::start().await;
    let setup = towards(&orion).set("ORION__HEADERS__FIWARE-SERVICE", "configured");
    let gateway = setup.set("ORION__HEADERS__FIWARE-SERVICEPATH", "/hall").start().await;
    let spark = Spark::of(&gateway);
    let entity = serde_json::json!({"id": "urn:a", "type": "T"});
    spark.write("POST", "/v2/entities", &entity).await;
    spark.write_with("POST", "/v2/entities", &[("Fiware-Service", "own")], &entity).await;
    spark.write_with("POST", "/v2/entities", &[("Fiware-ServicePath", "/x")], &entity).await;
    replayed(&gateway).await;
    let mut sent: Vec<(String, String)> =
        orion.requests().iter().map(|request| (request.tenant(), request.service_path())).collect();
    sent.sort();
    let expected = [("configured", "/hall"), ("configured", "/x"), ("own", "/hall")];
    assert_eq!(sent, expected.map(|(tenant, path)| (tenant.to_owned(), path.to_owned())));
}

#[tokio::test]
async fn a_tenant_may_have_an_orion_of_its_own_which_is_not_shown_the_others_token() {
    let (orion, mut other) = (OrionStandIn::start().await, OrionStandIn::start().await);
    let setup = towards(&orion)
        .set("ORION__TARGET__0__TENANT", "plant2")
        .set("ORION__TARGET__0__URL", &other.url());
    let file = setup.folder().join("token");
    fs::write(&file, TOKEN).unwrap();
    let gateway = setup.set("ORION__TOKEN_FILE", file.to_str().unwrap()).start().await;
    let spark = Spark::of(&gateway);
    other.stop().await;
    let entity = serde_json::json!({"id": "urn:a", "type": "T"});
    spark.write_with("POST", "/v2/entities", &[("Fiware-Service", "Plant2")], &entity).await;
    // One that is down does not hold up the other.
    spark.write_with("POST", "/v2/entities", &[("Fiware-Service", "plant1")], &entity).await;
    orion.wait_for(|state| state.entities.applied() == 1).await;
    other.restart().await;
    other.wait_for(|state| state.entities.applied() == 1).await;
    assert!(orion.entity("plant1", "urn:a").is_some() && other.entity("plant2", "urn:a").is_some());
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(orion.requests()[0].header("authorization"), Some(bearer.as_str()));
    assert_eq!(other.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn secrets_of_the_way_to_the_gateway_are_neither_stored_nor_passed_on() {
    let orion = OrionStandIn::start().await;
    let setup = towards(&orion).set("PASS_THROUGH__LISTEN", "127.0.0.1:0");
    // Of what is stored packed a search sees only what zstd leaves as it is; the
    // dead letter and the requests show the rest.
    let gateway = setup.set("STORE__COMPRESSION_LEVEL", "1").start().await;
    let spark = Spark::of(&gateway);
    let secrets =
        [("Authorization", "Bearer SECRET-A-123456789"), ("X-Auth-Token", "SECRET-B-123456789")];
    spark.write_with("PATCH", &attrs("urn:missing"), &secrets, &n(1)).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    for secret in ["SECRET-A", "SECRET-B"] {
        assert!(!letters[0].to_string().contains(secret), "{letters:?}");
        assert!(!gateway.log().contains(secret), "{}", gateway.log());
        let sent = orion.requests();
        assert!(sent.iter().all(|r| r.headers.iter().all(|(_, value)| !value.contains(secret))));
    }
    let (setup, _) = gateway.stop().await;
    for file in files(&setup.data_dir()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!holds(&bytes, "SECRET-"), "{}", file.display());
    }
}

#[tokio::test]
async fn a_wrong_address_empties_nothing_into_the_dead_letters() {
    // Something answers, and not as an Orion does.
    let wrong = OrionStandIn::start().await;
    let page = serde_json::json!({"message": "no such page"});
    wrong.inject(&Fault::answer_with(Answer::json(404, page)));
    let gateway = towards(&wrong).start().await;
    let spark = Spark::of(&gateway);
    for at in 0..60 {
        spark.set(&format!("urn:{at}"), "n", 1).await;
    }
    until("the wrong address is noticed", async || {
        gateway.log().contains("does not seem to be a context broker")
    })
    .await;
    let dead = gateway.status().await["write_backs"]["dead_letters"].as_u64().unwrap();
    assert!(dead < 25, "{dead}");
    let status: Value = gateway.status().await;
    assert!(status["replay"]["waiting"].as_u64().unwrap() >= 35, "{status}");
}
