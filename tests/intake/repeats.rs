//! libcurl's repeat: the same bytes on a new connection, where a kept one
//! ended without an answer, are stored once; everything else is stored.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::support::{bodies, keep, until_in_flight};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};

fn notification(body: &str) -> Vec<u8> {
    let headers = [("Fiware-Correlator", "2dbd3f16-e663-11f1-a40b-02fc00000001; cbnotif=1")];
    http::request("POST", "/notify", &headers, body.as_bytes())
}

/// A gateway that takes a second for a commit: time to cut a connection.
async fn slow() -> Gateway {
    Setup::new().set("STORE__GATHER", "1s").start().await
}

/// Sends a notification, and resets its connection while the record is being
/// committed.
async fn cut(gateway: &Gateway, raw: &[u8]) {
    let mut stream = TcpStream::connect(gateway.intake).await.unwrap();
    stream.write_all(raw).await.unwrap();
    until_in_flight(gateway).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_repeat_after_a_connection_cut_before_the_answer_is_stored_once() {
    let gateway = slow().await;
    let raw = notification("{\"n\":1}");
    cut(&gateway, &raw).await;
    keep(&gateway, &raw).await;
    assert_eq!(bodies(&gateway, "default").await, ["{\"n\":1}"]);
    // Repeated once; after that it is a notification of its own.
    keep(&gateway, &raw).await;
    assert_eq!(bodies(&gateway, "default").await.len(), 2);
}

#[tokio::test]
async fn a_repeat_after_a_reset_that_took_the_answer_with_it_is_stored_once() {
    let gateway = Gateway::start().await;
    let raw = notification("{\"n\":1}");
    let mut stream = TcpStream::connect(gateway.intake).await.unwrap();
    stream.write_all(&raw).await.unwrap();
    // The answer has come, and nobody reads it.
    stream.readable().await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    keep(&gateway, &raw).await;
    assert_eq!(bodies(&gateway, "default").await, ["{\"n\":1}"]);
}

#[tokio::test]
async fn a_cut_off_notification_that_is_not_repeated_is_stored_all_the_same() {
    let gateway = slow().await;
    cut(&gateway, &notification("{\"n\":1}")).await;
    keep(&gateway, &notification("{\"n\":2}")).await;
    // In flight is not yet in the log: which is stored first is open.
    let mut bodies = bodies(&gateway, "default").await;
    bodies.sort();
    assert_eq!(bodies, ["{\"n\":1}", "{\"n\":2}"]);
}

#[tokio::test]
async fn the_same_bytes_after_a_delivered_answer_are_stored_again() {
    let gateway = Gateway::start().await;
    let raw = notification("{}");
    let mut client = Client::connect(gateway.intake).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
    drop(client);
    keep(&gateway, &raw).await;
    keep(&gateway, &raw).await;
    assert_eq!(bodies(&gateway, "default").await.len(), 4);
}

#[tokio::test]
async fn the_same_bytes_to_another_path_or_with_another_header_are_no_repeat() {
    let gateway = slow().await;
    cut(&gateway, &http::request("POST", "/notify?a", &[("X-A", "1")], b"{}")).await;
    keep(&gateway, &http::request("POST", "/notify?b", &[("X-A", "1")], b"{}")).await;
    keep(&gateway, &http::request("POST", "/notify?a", &[("X-A", "2")], b"{}")).await;
    keep(&gateway, &http::request("PUT", "/notify?a", &[("X-A", "1")], b"{}")).await;
    assert_eq!(bodies(&gateway, "default").await.len(), 4);
}

#[tokio::test]
async fn a_repeat_after_kill_9_and_a_restart_is_recognised() {
    let gateway = Gateway::start().await;
    let (raw, other) = (notification("{\"n\":1}"), notification("{\"n\":2}"));
    let mut client = Client::connect(gateway.intake).await.unwrap();
    assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    // Nobody can tell whether that answer was read before the kill.
    let gateway = gateway.kill().await.start().await;
    keep(&gateway, &raw).await;
    keep(&gateway, &other).await;
    assert_eq!(bodies(&gateway, "default").await, ["{\"n\":1}", "{\"n\":2}"]);
}
