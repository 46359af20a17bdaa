//! Clients that do nothing, or nothing more: none holds up a stop.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::sync::Barrier;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self as raw, Client};
use crate::common::orion::notification::Notification;
use crate::common::spark::Spark;
use crate::stops_within;

/// Far below the deadlines that would cut such clients off otherwise.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn idle_connections_hold_up_no_stop() {
    let gateway = Gateway::start().await;
    let mut used = Client::connect(gateway.intake).await.unwrap();
    let notification = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    assert_eq!(used.exchange(&notification).await.unwrap().status, 204);
    let mut never_used = Vec::new();
    for to in [gateway.intake, gateway.admin] {
        never_used.push(Client::connect(to).await.unwrap());
    }
    let spark = Spark::of(&gateway);
    spark.request(Method::GET, "/v1/streams", &[], Vec::new()).await.unwrap();
    stops_within(gateway, AT_ONCE).await;
    assert!(used.closes_silently().await);
}

#[tokio::test]
async fn a_client_that_never_begins_its_tls_handshake_holds_up_no_stop() {
    let gateway = Gateway::start().await;
    let silent = Client::connect(gateway.spark).await.unwrap();
    // Accepted in order: with the second one served, the first is waited for.
    let spark = Spark::of(&gateway);
    spark.request(Method::GET, "/v1/streams", &[], Vec::new()).await.unwrap();
    stops_within(gateway, AT_ONCE).await;
    drop(silent);
}

#[tokio::test]
async fn long_polls_are_answered_at_once() {
    let gateway = Gateway::start().await;
    let notification = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    assert_eq!(raw::once(gateway.intake, &notification).await.status, 204);
    let (mut polls, connected) = (Vec::new(), Arc::new(Barrier::new(9)));
    for _ in 0..8 {
        let (spark, connected) = (Spark::of(&gateway), Arc::clone(&connected));
        polls.push(tokio::spawn(async move {
            spark.request(Method::GET, "/v1/streams", &[], Vec::new()).await.unwrap();
            connected.wait().await;
            let path = "/v1/streams/default/records?from=1&wait=60s";
            spark.request(Method::GET, path, &[], Vec::new()).await
        }));
    }
    connected.wait().await;
    // A handshake later they wait, most likely; the test holds either way.
    let waiting = Spark::of(&gateway);
    waiting.request(Method::GET, "/v1/streams", &[], Vec::new()).await.unwrap();
    stops_within(gateway, AT_ONCE).await;
    for poll in polls {
        // One that was not read yet is cut off; whoever waited is answered.
        if let Ok(answer) = poll.await.unwrap() {
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        }
    }
}

#[tokio::test]
async fn half_sent_requests_are_waited_for_until_the_deadline_and_no_longer() {
    let gateway = Setup::new().set("DRAIN_TIMEOUT", "2s").start().await;
    let whole = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    let mut clients = Vec::new();
    for cut in [10, whole.len() - 5] {
        let mut client = Client::connect(gateway.intake).await.unwrap();
        client.send(&whole[..cut]).await.unwrap();
        clients.push(client);
    }
    // They were accepted before this one was answered.
    assert_eq!(raw::once(gateway.intake, &whole).await.status, 204);
    let setup = stops_within(gateway, Duration::from_secs(7)).await;
    let gateway = setup.start().await;
    assert_eq!(gateway.records("default", 0).await.len(), 1);
}

#[tokio::test]
async fn a_request_that_is_finished_during_the_stop_is_answered_and_kept() {
    let gateway = Gateway::start().await;
    let whole = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    let mut late = Client::connect(gateway.intake).await.unwrap();
    // The gateway asks for the body: it has begun the request.
    let text = String::from_utf8(whole.clone()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    late.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(late.answer().await.unwrap().status, 100);
    gateway.signal("TERM");
    // It listens no more: it has begun to stop.
    while Client::connect(gateway.intake).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let body = body.to_owned();
    let answer = late.exchange(body.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 204);
    let log = gateway.setup().log_file();
    let (setup, ended) = gateway.ends().await;
    assert!(ended.success(), "{}", std::fs::read_to_string(log).unwrap());
    let gateway = setup.start().await;
    assert_eq!(gateway.records("default", 0).await.len(), 1);
}
