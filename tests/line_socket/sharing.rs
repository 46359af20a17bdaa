//! Several clients on one line socket.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn shared_records_go_to_one_of_the_clients_each() {
    let gateway = setup(&[]).start().await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Lines::connect(gateway.line_sockets[0]).await);
    }
    status(&gateway, |status| status["clients"] == 3).await;
    send(&gateway, 0..300, 300).await;
    status(&gateway, |status| status["sent"] == 300).await;
    let mut all = Vec::new();
    for reader in &mut readers {
        all.extend(reader.rest().await);
    }
    let counted = counted(&all);
    assert_all(&all, 300);
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");
    assert_eq!(status(&gateway, |_| true).await["sent"], 300);
}

#[tokio::test]
async fn repeated_records_go_to_each_client_and_one_that_was_reset_goes_on() {
    let gateway = setup(&[("CLIENTS", "repeat"), ("REPEAT_WINDOW", "0")]).start().await;
    let mut one = Lines::connect(gateway.line_sockets[0]).await;
    let mut other = Lines::connect(gateway.line_sockets[0]).await;
    status(&gateway, |status| status["clients"] == 2).await;
    send(&gateway, 0..100, 300).await;
    let mut got = one.take(100).await;
    assert_all(&other.take(100).await, 100);
    position(&gateway, |position| position == 100).await;
    one.reset();
    status(&gateway, |status| status["clients"] == 1).await;
    // The other one goes on, and takes nothing from the first.
    send(&gateway, 100..200, 300).await;
    other.take(100).await;
    let mut one = Lines::connect(gateway.line_sockets[0]).await;
    got.extend(one.take(100).await);
    assert_all(&got, 200);
}

#[tokio::test]
async fn a_stalled_client_holds_up_nobody() {
    let gateway = setup(&[("CLIENTS", "repeat")]).set("BYTES_IN_FLIGHT", "4MiB").start().await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(Lines::connect_small(gateway.line_sockets[0], 4096).await);
    }
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    status(&gateway, |status| status["clients"] == 9).await;
    let intake = gateway.intake;
    let sending = tokio::spawn(send_to(intake, 0..100, 100_000));
    let lines = reader.take(100).await;
    sending.await.unwrap();
    assert_all(&lines, 100);
    assert_eq!(gateway.status().await["line_sockets"][0]["clients"], 9);
    // The Spark API neither.
    assert_eq!(gateway.records("press", 0).await.len(), 100);
}

#[tokio::test]
async fn what_a_stalled_client_holds_goes_to_another_when_patience_ends() {
    let gateway = setup(&[("PATIENCE", "1s"), ("REPEAT_WINDOW", "64MiB")]).start().await;
    let stalled = Lines::connect_small(gateway.line_sockets[0], 4096).await;
    status(&gateway, |status| status["clients"] == 1).await;
    send(&gateway, 0..70, 100_000).await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let lines = reader.take(70).await;
    assert_all(&lines, 70);
    status(&gateway, |status| status["clients"] == 1).await;
    drop(stalled);
}

/// The kernel counts it in milliseconds, in an int.
#[tokio::test]
async fn patience_without_an_end_serves_clients_too() {
    let gateway = setup(&[("PATIENCE", "1year")]).start().await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    send(&gateway, 0..3, 10).await;
    assert_all(&reader.take(3).await, 3);
}

#[tokio::test]
async fn further_clients_wait_for_a_place() {
    let gateway = setup(&[("MAX_CLIENTS", "1"), ("CLIENTS", "repeat")]).start().await;
    let one = Lines::connect(gateway.line_sockets[0]).await;
    let mut other = Lines::connect(gateway.line_sockets[0]).await;
    send(&gateway, 0..3, 10).await;
    assert!(other.rest().await.is_empty());
    drop(one);
    assert_all(&other.take(3).await, 3);
}

#[tokio::test]
async fn many_reconnects_leave_nothing_behind() {
    let gateway = setup(&[("CLIENTS", "repeat"), ("REPEAT_WINDOW", "0")]).start().await;
    for _ in 0..200 {
        Lines::connect(gateway.line_sockets[0]).await.reset();
    }
    status(&gateway, |status| status["clients"] == 0).await;
    send(&gateway, 0..10, 10).await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    assert_eq!(reader.take(10).await.len(), 10);
    assert!(reader.rest().await.is_empty());
    tokio::time::timeout(Duration::from_secs(30), position(&gateway, |at| at == 10)).await.unwrap();
}
