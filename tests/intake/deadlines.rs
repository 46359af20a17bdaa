//! Slow senders are cut off, and meanwhile touch nobody else.

use super::support::{bodies, keep, post};
use crate::common::gateway::Setup;
use crate::common::http::Client;

#[tokio::test]
async fn a_slow_head_is_cut_off_while_others_are_served() {
    let gateway = Setup::new().set("INTAKE__HEAD_TIMEOUT", "300ms").start().await;
    let mut slow = Client::connect(gateway.intake).await.unwrap();
    slow.send(b"POST /notify HTTP/1.1\r\nHost: x\r\nX-Slow").await.unwrap();
    keep(&gateway, &post("{}")).await;
    assert!(slow.closes_silently().await);
    keep(&gateway, &post("{\"after\":1}")).await;
    assert_eq!(bodies(&gateway, "default").await.len(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_its_last_notification_may_be_sent_again() {
    let gateway = Setup::new().set("INTAKE__HEAD_TIMEOUT", "200ms").start().await;
    let mut idle = Client::connect(gateway.intake).await.unwrap();
    assert_eq!(idle.exchange(&post("{}")).await.unwrap().status, 204);
    assert!(idle.closes_silently().await);
    // Its answer was delivered, so this is another notification.
    keep(&gateway, &post("{}")).await;
    assert_eq!(bodies(&gateway, "default").await.len(), 2);
}

/// Announced bytes are not bytes: what has not come takes no memory, and must
/// not keep others out.
#[tokio::test]
async fn slow_bodies_are_cut_off_while_others_are_served() {
    let gateway = Setup::new().set("INTAKE__BODY_TIMEOUT", "8s").start().await;
    let heads =
        ["Content-Length: 8388608\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"];
    let mut slow = Vec::new();
    for head in heads.repeat(8) {
        let mut client = Client::connect(gateway.intake).await.unwrap();
        let raw = format!("POST /notify HTTP/1.1\r\nHost: x\r\n{head}");
        client.send(raw.as_bytes()).await.unwrap();
        slow.push(client);
    }
    super::support::until_in_flight(&gateway).await;
    let raw = post("{}");
    tokio::select! {
        biased;
        answer = slow[0].answer() => panic!("the slow one was first: {answer:?}"),
        () = keep(&gateway, &raw) => {}
    }
    for client in &mut slow {
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 408, "{}", answer.text());
    }
    assert_eq!(bodies(&gateway, "default").await, ["{}"]);
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_a_body_leaves_nothing_behind() {
    let gateway = Setup::new().start().await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    client.send(b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    drop(client);
    keep(&gateway, &post("{}")).await;
    assert_eq!(bodies(&gateway, "default").await, ["{}"]);
}
