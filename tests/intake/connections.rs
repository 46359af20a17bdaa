//! Connections: kept, shared, many, and what their answers look like.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{bodies, keep, post};
use crate::common::fixtures;
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::ld_notifier::{Delivery, LdSubscription};

#[tokio::test]
async fn one_connection_carries_many_notifications_in_order() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    let sent: Vec<String> = (0..200).map(|n| format!("{{\"n\":{n}}}")).collect();
    for body in &sent {
        assert_eq!(client.exchange(&post(body)).await.unwrap().status, 204);
    }
    assert_eq!(bodies(&gateway, "default").await, sent);
}

#[tokio::test]
async fn pipelined_notifications_are_all_kept_and_answered_in_order() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    let sent: Vec<String> = (0..50).map(|n| format!("{{\"n\":{n}}}")).collect();
    let all: Vec<u8> = sent.iter().flat_map(|body| post(body)).collect();
    client.send(&all).await.unwrap();
    for _ in &sent {
        assert_eq!(client.answer().await.unwrap().status, 204);
    }
    assert_eq!(bodies(&gateway, "default").await, sent);
}

#[tokio::test]
async fn a_sender_of_http_1_0_is_answered_and_its_connection_closed() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    let raw = b"POST /notify HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(client.exchange(raw).await.unwrap().status, 204);
    assert!(client.closes_silently().await);
    assert_eq!(bodies(&gateway, "default").await, ["{}"]);
}

/// In two pieces the second would wait for the first one's acknowledgement,
/// and a client that reads once would see half an answer.
#[tokio::test]
async fn an_answer_is_one_segment() {
    let setup = Setup::new().set_file("INTAKE__SECRET_FILE", "the secret\n");
    let gateway = setup.start().await;
    let mut stream = TcpStream::connect(gateway.intake).await.unwrap();
    let mut buffer = vec![0; 4096];
    for n in 0..300 {
        let secret = if n % 2 == 0 { "the secret" } else { "another" };
        let raw = http::request("POST", "/notify", &[("Authorization", secret)], b"{}");
        stream.write_all(&raw).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if n % 2 == 0 {
            assert!(
                answer.starts_with("HTTP/1.1 204 ") && answer.ends_with("\r\n\r\n"),
                "{answer}"
            );
        } else {
            assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("\"}"), "{answer}");
        }
    }
}

#[tokio::test]
async fn orion_ld_takes_the_answers_for_successes() {
    let gateway = Gateway::start().await;
    let mut subscription = LdSubscription::new("urn:ngsi-ld:Subscription:press");
    for fixture in fixtures::all().iter().filter(|fixture| fixture.name.starts_with("ld-")) {
        let delivered = subscription.send(gateway.intake, &fixture.raw).await;
        assert_eq!(delivered, Delivery::Success(204), "{}", fixture.name);
    }
    assert!(!subscription.is_paused());
}

/// It counts a refusal whose `Content-Length` it cannot find as one of its
/// own kind of failure; ours are at least told with their status.
#[tokio::test]
async fn orion_ld_can_read_refusals() {
    let gateway = Setup::new().set("INTAKE__MAX_BODY", "10B").start().await;
    let mut subscription = LdSubscription::new("urn:ngsi-ld:Subscription:press");
    let refused = subscription.notify(gateway.intake, "/notify", &[]).await;
    assert_eq!(refused, Delivery::Failure("non 2xx response: 413".into()));
}

#[tokio::test]
async fn thousands_of_idle_connections_leave_it_answering() {
    const CONNECTIONS: usize = 2000;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    raise_open_files(most);
    // As a login shell or systemd starts it: few files to begin with.
    let setup = Setup::new().set("INTAKE__MAX_CONNECTIONS", "4096");
    let command = setup.shell("ulimit -S -n 1024 && exec \"$@\" run");
    let gateway = setup.start_as(command).await;
    let mut idle = Vec::new();
    for n in 0..CONNECTIONS {
        let mut client = Client::connect(gateway.intake).await.unwrap();
        if n % 500 == 0 {
            assert_eq!(client.exchange(&post("{}")).await.unwrap().status, 204);
        }
        idle.push(client);
    }
    keep(&gateway, &post("{\"new\":1}")).await;
    for n in [0, CONNECTIONS / 2, CONNECTIONS - 1] {
        assert_eq!(idle[n].exchange(&post("{\"idle\":1}")).await.unwrap().status, 204);
    }
    assert_eq!(bodies(&gateway, "default").await.len(), CONNECTIONS / 500 + 4);
}

/// The test's own ends of the connections need files too.
fn raise_open_files(most: Option<u64>) {
    let limit = rustix::process::Rlimit { current: most, maximum: most };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
