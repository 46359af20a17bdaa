//! How Orion and Orion-LD send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::fixtures;
use crate::common::orion::ld_notifier::{Delivery, LdSubscription, judge};
use crate::common::orion::notification::Notification;
use crate::common::orion::notifier::{Mode, Notifier};
use crate::common::orion::{Fault, Gate, OrionStandIn};

// The stand-in itself is the receiver: an endpoint with faults.

#[tokio::test]
async fn transient_opens_a_connection_each_and_persistent_uses_one_again() {
    for (mode, connections) in [(Mode::Transient, 3), (Mode::Persistent, 1)] {
        let receiver = OrionStandIn::start().await;
        let orion = Notifier::default();
        for number in 0..3 {
            orion.notify(receiver.addr(), "/n", &Notification::reading(number), mode).await;
        }
        assert_eq!(receiver.state().accepted, connections, "{mode:?}");
    }
}

#[tokio::test]
async fn any_answer_counts_as_success_and_only_2xx_as_acknowledged() {
    let receiver = OrionStandIn::start().await;
    receiver.inject(&Fault::answer(503).times(1));
    receiver.inject(&Fault::answer(204));
    let orion = Notifier::default();
    for number in 0..2 {
        let reading = Notification::reading(number);
        orion.notify(receiver.addr(), "/n", &reading, Mode::Transient).await;
    }
    let ledger = orion.ledger();
    assert!(ledger.failed().is_empty());
    let acknowledged: Vec<u64> = ledger.acknowledged().iter().map(|s| s.id).collect();
    assert_eq!(acknowledged, [1]);
    assert_eq!(receiver.requests().len(), 2, "and a 503 is not sent again");
}

#[tokio::test]
async fn a_reused_connection_closed_without_an_answer_repeats_identical_bytes_once() {
    let receiver = OrionStandIn::start().await;
    receiver.inject(&Fault::close_before_apply().when(|r| r.number == 1));
    receiver.inject(&Fault::answer(204));
    let orion = Notifier::default();
    for number in 0..2 {
        let reading = Notification::reading(number);
        orion.notify(receiver.addr(), "/n", &reading, Mode::Persistent).await;
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        (&requests[1].headers, &requests[1].body),
        (&requests[2].headers, &requests[2].body)
    );
    assert_ne!(requests[1].connection, requests[2].connection);
    assert_eq!(orion.ledger().sent()[1].times, 2);
}

#[tokio::test]
async fn a_new_connection_closed_without_an_answer_is_a_loss() {
    for mode in [Mode::Transient, Mode::Persistent] {
        let receiver = OrionStandIn::start().await;
        receiver.inject(&Fault::close_before_apply());
        let orion = Notifier::default();
        orion.notify(receiver.addr(), "/n", &Notification::reading(1), mode).await;
        assert_eq!(receiver.requests().len(), 1);
        assert_eq!(orion.ledger().failed().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_late_or_a_receiver_that_is_down_is_a_loss() {
    let mut receiver = OrionStandIn::start().await;
    receiver.inject(&Fault::held_by(&Gate::closed()));
    let orion = Notifier::giving_up_after(Duration::from_millis(50));
    let reading = Notification::reading(1);
    assert!(orion.notify(receiver.addr(), "/n", &reading, Mode::Transient).await.is_none());
    receiver.stop().await;
    assert!(orion.notify(receiver.addr(), "/n", &reading, Mode::Transient).await.is_none());
    assert_eq!(orion.ledger().failed().len(), 2);
}

#[tokio::test]
async fn the_ledger_finds_what_is_missing_repeated_and_unknown() {
    let receiver = OrionStandIn::start().await;
    receiver.inject(&Fault::answer(204));
    let orion = Notifier::default();
    for number in 0..3 {
        let reading = Notification::reading(number);
        orion.notify(receiver.addr(), "/n", &reading, Mode::Persistent).await;
    }
    let mut out: Vec<(String, Vec<u8>)> = receiver
        .requests()
        .iter()
        .map(|r| (r.header("fiware-correlator").unwrap().to_owned(), r.body.clone()))
        .collect();
    assert!(orion.ledger().compare(out.clone()).is_exact());
    out.remove(0);
    out.push(out[1].clone());
    out.push(("other".into(), b"{}".to_vec()));
    let comparison = orion.ledger().compare(out);
    assert_eq!((comparison.missing, comparison.repeated), (vec![0], vec![2]));
    assert_eq!(comparison.unknown, [("other".to_owned(), b"{}".to_vec())]);
}

#[tokio::test]
async fn a_captured_request_goes_out_byte_for_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let fixture = fixtures::named("hand-not-utf-8");
    let expected = fixture.raw.clone();
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(bytes, expected);
    });
    let answer = Notifier::default().replay(to, &fixture, Mode::Transient).await.unwrap();
    assert_eq!(answer.status, 204);
    received.await.unwrap();
}

#[test]
fn orion_ld_takes_204_or_a_2xx_with_content_length_in_that_spelling() {
    let table = [
        ("HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", false),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\n", false),
        ("", false),
    ];
    for (answer, success) in table {
        assert_eq!(judge(answer.as_bytes()).is_ok(), success, "{answer:?}");
    }
}

#[tokio::test]
async fn three_failures_in_a_row_pause_an_orion_ld_subscription_until_it_is_patched() {
    let receiver = OrionStandIn::start().await;
    receiver.inject(&Fault::answer(500).times(2));
    receiver.inject(&Fault::answer(204).times(1));
    receiver.inject(&Fault::answer(500));
    let mut subscription = LdSubscription::new("urn:ngsi-ld:Subscription:1");
    for notification in 1..=6 {
        assert!(!subscription.is_paused(), "at {notification}");
        subscription.notify(receiver.addr(), "/n", &[]).await;
    }
    assert!(subscription.is_paused());
    assert_eq!(subscription.notify(receiver.addr(), "/n", &[]).await, Delivery::Paused);
    assert_eq!(receiver.requests().len(), 6);
    subscription.activate();
    receiver.heal();
    receiver.inject(&Fault::answer(204));
    let delivery = subscription.notify(receiver.addr(), "/n", &[]).await;
    assert_eq!(delivery, Delivery::Success(204));
}
