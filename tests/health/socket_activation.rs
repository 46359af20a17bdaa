//! The intake's socket, where systemd holds it over restarts.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::held_socket::HeldSocket;
use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::notification::Notification;

fn notification(to: SocketAddr, number: u64) -> Vec<u8> {
    Notification::reading(number).to_bytes(to, "/notify", &number.to_string())
}

async fn stored(gateway: &Gateway) -> BTreeSet<u64> {
    let number_of = |record: &Value| {
        let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        body["data"][0]["reading"]["value"].as_u64().unwrap()
    };
    let records = gateway.records("default", 0).await;
    let numbers: BTreeSet<u64> = records.iter().map(number_of).collect();
    assert_eq!(numbers.len(), records.len(), "one is there twice");
    numbers
}

/// Connects and sends while nobody accepts.
async fn send_into_the_void(held: &HeldSocket, numbers: std::ops::Range<u64>) -> Vec<Client> {
    let mut waiting = Vec::new();
    for number in numbers {
        let mut client = Client::connect(held.address()).await.expect("refused");
        client.send(&notification(held.address(), number)).await.unwrap();
        waiting.push(client);
    }
    waiting
}

#[tokio::test]
async fn what_is_sent_while_no_gateway_runs_is_answered_by_the_next_one() {
    let held = HeldSocket::new();
    let gateway = held.start(Setup::new()).await;
    assert_eq!(gateway.intake, held.address());
    assert_eq!(http::once(held.address(), &notification(held.address(), 0)).await.status, 204);

    let (setup, ended) = gateway.stop().await;
    assert!(ended.success());
    let waiting = send_into_the_void(&held, 1..20).await;
    let gateway = held.start(setup).await;
    for mut client in waiting {
        assert_eq!(client.answer().await.unwrap().status, 204);
    }

    let setup = gateway.kill().await;
    let waiting = send_into_the_void(&held, 20..40).await;
    let gateway = held.start(setup).await;
    for mut client in waiting {
        assert_eq!(client.answer().await.unwrap().status, 204);
    }
    assert_eq!(stored(&gateway).await, (0..40).collect());
}

/// A connection for each notification, as Orion makes them where it has been
/// silent for a while, until told to stop.
async fn send(to: SocketAddr, sender: u64, mut enough: watch::Receiver<bool>) -> Vec<u64> {
    let mut kept = Vec::new();
    for number in sender * 1_000_000.. {
        if *enough.borrow_and_update() {
            break;
        }
        let mut client = Client::connect(to).await.expect("refused");
        let answer = client.exchange(&notification(to, number)).await;
        let answer = answer.unwrap_or_else(|error| panic!("notification {number}: {error}"));
        assert_eq!(answer.status, 204, "notification {number}: {}", answer.text());
        kept.push(number);
    }
    kept
}

#[tokio::test]
async fn orderly_restarts_under_load_cost_no_notification() {
    let held = HeldSocket::new();
    let mut gateway = held.start(Setup::new()).await;
    let enough = watch::Sender::new(false);
    let mut senders = JoinSet::new();
    for sender in 1..=4 {
        senders.spawn(send(held.address(), sender, enough.subscribe()));
    }
    for _ in 0..5 {
        let before = gateway.status().await["streams"][0]["next"].as_u64().unwrap_or(0);
        // Under load at each stop.
        while gateway.status().await["streams"][0]["next"].as_u64().unwrap_or(0) < before + 50 {
            tokio::task::yield_now().await;
        }
        let (setup, ended) = gateway.stop().await;
        assert!(ended.success(), "{ended:?}\n{}", setup.log());
        gateway = held.start(setup).await;
    }
    enough.send_replace(true);
    let kept: BTreeSet<u64> = senders.join_all().await.concat().into_iter().collect();
    assert!(kept.len() >= 250, "only {}", kept.len());
    assert_eq!(stored(&gateway).await, kept);
}

#[tokio::test]
async fn the_socket_counts_and_an_address_that_is_set_elsewhere_is_told_of() {
    let held = HeldSocket::new();
    let setup = Setup::new().set("INTAKE__LISTEN", "127.0.0.1:1");
    let gateway = held.start(setup).await;
    assert_eq!(gateway.intake, held.address());
    let log = gateway.log();
    let warning = log.lines().find(|line| line.contains("intake.listen is not used"));
    let warning = warning.unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN") && warning.contains("127.0.0.1:1"), "{warning}");
    assert!(warning.contains(&held.address().to_string()), "{warning}");
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_socket_at_the_address_of_the_intake_needs_no_name() {
    let held = HeldSocket::new();
    let setup = Setup::new().set("INTAKE__LISTEN", &held.address().to_string());
    let command = held.pass(&setup.command(["run"]), "ngsi-ferry.socket");
    let gateway = setup.start_as(command).await;
    assert_eq!(gateway.intake, held.address());
    assert!(!gateway.log().contains("WARN"), "{}", gateway.log());
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_socket_that_is_nobodys_is_told_of_and_keeps_nothing_from_running() {
    let held = HeldSocket::new();
    let setup = Setup::new();
    let command = held.pass(&setup.command(["run"]), "something");
    let gateway = setup.start_as(command).await;
    let log = gateway.log();
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    assert!(told.contains("something") && told.contains("FileDescriptorName=intake"), "{log}");
    let intake = gateway.intake;
    assert_eq!(http::once(intake, &notification(intake, 1)).await.status, 204);
    assert!(gateway.stop().await.1.success());
}
