//! A relay that does not let the gateway in, and a configuration that cannot
//! work: each says what to do.

use crate::common::gateway::Setup;
use crate::edge;
use crate::line::Line;
use crate::pair::{count, status, until, uplink};

#[tokio::test]
async fn a_certificate_of_another_name_is_told_with_what_to_do() {
    let relay = edge::relay().start().await;
    let line = Line::to(relay.spark).await;
    let setup = uplink(Setup::new(), &relay, line.addr(), "edge1").await.set("ID", "edge2");
    let checked = setup.command(["check"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success() && text.contains("set id = \"edge1\""), "{text}");
    let gateway = setup.start().await;
    let refused = async || status(&gateway).await["last_error"].is_string();
    until("the relay refuses it", refused).await;
    let told = status(&gateway).await;
    let why = told["last_error"].as_str().unwrap();
    assert!(why.contains("edge2") && why.contains("set id = \"edge1\""), "{why}");
    assert_eq!(count(&gateway.log(), "does not let this gateway in"), 1);
}

#[tokio::test]
async fn a_relay_without_the_grant_is_told_with_the_grant() {
    let relay = edge::relay().set("CLIENT__0__NAME", "somebody-else").start().await;
    let line = Line::to(relay.spark).await;
    let gateway = uplink(Setup::new(), &relay, line.addr(), "edge1").await.start().await;
    let refused = async || status(&gateway).await["last_error"].is_string();
    until("the relay refuses it", refused).await;
    let told = status(&gateway).await;
    let why = told["last_error"].as_str().unwrap();
    assert!(why.contains("allow = [\"uplink\"]"), "{why}");
}
