//! A relay that does not let the gateway in, and a configuration that cannot
//! work: each says what to do.

use std::time::{Duration, Instant};

use crate::common::gateway::Setup;
use crate::edge;
use crate::line::Line;
use crate::pair::{count, notify, status, until, uplink};

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

#[tokio::test]
async fn another_certificate_is_taken_over_by_sighup_and_tried_at_once() {
    let relay = edge::relay().start().await;
    let line = Line::to(relay.spark).await;
    let setup = uplink(Setup::new(), &relay, line.addr(), "edge2").await.set("ID", "edge1");
    let folder = setup.folder().to_owned();
    let gateway = setup.start().await;
    let refused = async || status(&gateway).await["last_error"].is_string();
    until("the relay refuses it", refused).await;
    notify(&gateway, "press", 0..3).await;
    // The one of its name in the same place; it was to wait for half a minute.
    edge::client(&relay, "edge1").await;
    let pki = relay.setup().data_dir().join("pki");
    for (from, to) in [("edge1.pem", "uplink.pem"), ("edge1.key", "uplink.key")] {
        std::fs::copy(pki.join(from), folder.join(to)).unwrap();
    }
    let begun = Instant::now();
    gateway.signal("HUP");
    let sent = async || status(&gateway).await["sent_records"] == 3;
    until("it is let in", sent).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
