//! What Orion refuses for good, and what a person does about it.

use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::helpers::{
    attrs, command, create, dead_letters, n, replayed, towards, until, values, written,
};
use crate::common::http::{self, Client};
use crate::common::orion::{Fault, OrionStandIn};
use crate::common::spark::Spark;

#[tokio::test]
async fn a_permanent_refusal_is_a_dead_letter_with_orions_status_and_body() {
    for status in [400, 404, 405, 406, 409, 411, 413, 415, 422, 501] {
        let orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        orion.inject(&Fault::answer(status).times(1));
        let gateway = towards(&orion).start().await;
        let spark = Spark::of(&gateway);
        spark.set("urn:a", "n", 1).await;
        spark.set("urn:a", "n", 2).await;
        let letters = dead_letters(&gateway).await;
        let [letter] = letters.as_slice() else { panic!("{status}: {letters:?}") };
        assert_eq!(letter["status"], status);
        let answer: Value = serde_json::from_str(letter["answer"].as_str().unwrap()).unwrap();
        assert_eq!(answer["description"], "injected by the test", "{letter}");
        let body: Value =
            serde_json::from_str(letter["request"]["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["n"]["value"], 1, "{letter}");
        assert_eq!(letter["attempts"], 1, "{letter}");
        // The entity's next write is not held up.
        assert_eq!(values(&orion, "urn:a"), [2], "{status}");
    }
}

#[tokio::test]
async fn characters_and_tenants_that_orion_forbids_are_dead_letters_with_its_reason() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let text = json!({"t": {"type": "Text", "value": "a<b"}});
    spark.write("POST", &attrs("urn:a"), &text).await;
    let tenant = [("Fiware-Service", "plant-1")];
    spark.write_with("PATCH", &attrs("urn:a"), &tenant, &n(1)).await;
    let letters = dead_letters(&gateway).await;
    let answers: Vec<&str> =
        letters.iter().map(|letter| letter["answer"].as_str().unwrap()).collect();
    assert_eq!(answers.len(), 2, "{letters:?}");
    assert!(answers.iter().any(|answer| answer.contains("Invalid characters")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.contains("tenant name")), "{answers:?}");
}

#[tokio::test]
async fn a_write_that_always_fails_gives_way_after_max_attempts_and_the_others_go_on() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:poison").await;
    create(&orion, "urn:b").await;
    orion.inject(
        &Fault::answer(500)
            .entity("urn:poison")
            .when(|request| String::from_utf8_lossy(&request.body).contains(r#""value":1}"#)),
    );
    let gateway = towards(&orion).set("ORION__MAX_ATTEMPTS", "3").start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:poison", "n", 1).await;
    spark.set("urn:poison", "n", 2).await;
    let mut value = 0;
    until("the poisonous write is given up", async || {
        value += 1;
        spark.set("urn:b", "n", value).await;
        gateway.status().await["write_backs"]["dead_letters"] == 1
    })
    .await;
    written(&orion, "urn:poison", 1).await;
    assert_eq!(values(&orion, "urn:poison"), [2]);
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0]["reason"].as_str().unwrap().contains("others succeeded"), "{letters:?}");
    assert_eq!(values(&orion, "urn:b"), (1..=value).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_orion_that_only_fails_loses_nothing_to_the_dead_letters() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    let fault = Fault::answer(500).times(30);
    orion.inject(&fault);
    let gateway = towards(&orion).set("ORION__MAX_ATTEMPTS", "2").start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    spark.set("urn:b", "n", 1).await;
    written(&orion, "urn:a", 1).await;
    written(&orion, "urn:b", 1).await;
    assert_eq!(fault.hits(), 30);
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_on_request_and_then_gone() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    let letters = dead_letters(&gateway).await;
    let id = letters[0]["id"].to_string();
    create(&orion, "urn:a").await;
    let (done, text) = command(&gateway, &["dead-letters", "retry", &id]).await;
    assert!(done, "{text}");
    written(&orion, "urn:a", 1).await;
    assert!(dead_letters(&gateway).await.is_empty());
    let (done, text) = command(&gateway, &["dead-letters", "retry", &id]).await;
    assert!(!done && text.contains("no open dead letter"), "{text}");
}

#[tokio::test]
async fn a_dead_letter_older_than_a_delivered_write_goes_only_with_force() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    orion.inject(&Fault::answer(400).times(1));
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    spark.set("urn:a", "n", 2).await;
    let letters = dead_letters(&gateway).await;
    assert_eq!(letters[0]["superseded"], true, "{letters:?}");
    let id = letters[0]["id"].to_string();
    let (done, text) = command(&gateway, &["dead-letters", "retry", &id]).await;
    assert!(!done && text.contains("--force"), "{text}");
    // What is known of it outlives the process.
    let gateway = gateway.kill().await.start().await;
    let (done, text) = command(&gateway, &["dead-letters", "retry", &id]).await;
    assert!(!done && text.contains("--force"), "{text}");
    assert_eq!(values(&orion, "urn:a"), [2]);
    let (done, text) = command(&gateway, &["dead-letters", "retry", "--force", &id]).await;
    assert!(done, "{text}");
    written(&orion, "urn:a", 2).await;
    assert_eq!(values(&orion, "urn:a"), [2, 1]);
    assert!(dead_letters(&gateway).await.is_empty());
}

#[tokio::test]
async fn a_dropped_dead_letter_is_gone_and_never_sent() {
    let orion = OrionStandIn::start().await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    spark.set("urn:a", "n", 1).await;
    assert_eq!(dead_letters(&gateway).await.len(), 1);
    let (done, text) = command(&gateway, &["dead-letters", "drop", "--all"]).await;
    assert!(done, "{text}");
    let gateway = gateway.kill().await.start().await;
    assert!(dead_letters(&gateway).await.is_empty());
    replayed(&gateway).await;
    assert_eq!(orion.requests().len(), 1);
}

/// The operator's terminal goes away in the middle; the write is sent once.
#[tokio::test]
async fn a_retry_whose_client_goes_away_is_sent_once() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).start().await;
    let spark = Spark::of(&gateway);
    let socket = gateway.setup().command(["run"]);
    let socket = socket.as_std().get_envs().find(|(name, _)| *name == "NGSI_FERRY_ADMIN__SOCKET");
    let socket = socket.and_then(|(_, path)| path).unwrap().to_owned();
    let rounds = 15;
    for _ in 0..rounds {
        orion.inject(&Fault::answer(400).times(1));
        spark.write("PATCH", &attrs("urn:a"), &n(json!({"$inc": 1}))).await;
        let letters = dead_letters(&gateway).await;
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        let id = letter["id"].to_string();
        let mut cut = Client::over(UnixStream::connect(&socket).await.unwrap());
        let path = format!("/dead-letters/{id}/retry");
        cut.send(&http::request("POST", &path, &[], b"")).await.unwrap();
        drop(cut);
        // Done by the first, or by this one; never by both.
        command(&gateway, &["dead-letters", "retry", &id]).await;
        assert!(dead_letters(&gateway).await.is_empty());
    }
    assert_eq!(super::helpers::now(&orion, "urn:a"), rounds);
}
