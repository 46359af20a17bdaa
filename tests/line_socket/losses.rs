//! Nothing is corrupted, and nothing missing, whatever ends.
//!
//! `NGSI_FERRY_LINE_RECORDS` sets how many notifications the first one sends
//! for each of its eight senders.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::support::*;

#[tokio::test]
async fn large_bodies_of_eight_senders_come_whole_over_resets() {
    let each: usize =
        std::env::var("NGSI_FERRY_LINE_RECORDS").map_or(15, |count| count.parse().unwrap());
    let count = 8 * each;
    let gateway = setup(&[("REPEAT_WINDOW", "256KiB")]).start().await;
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let numbers = sender * each..(sender + 1) * each;
        senders.spawn(send_to(gateway.intake, numbers, 20_000));
    }
    let (mut seen, mut lines, mut resets) = (BTreeSet::new(), 0, 0);
    while seen.len() < count {
        // What its kernel holds when it is reset must be less than the window.
        let mut reader = Lines::connect_small(gateway.line_sockets[0], 64 << 10).await;
        for _ in 0..30 + resets % 7 {
            if seen.len() < count {
                seen.insert(number_of(&reader.next().await.expect("the connection ended")));
                lines += 1;
            }
        }
        reader.reset();
        resets += 1;
    }
    senders.join_all().await;
    println!(
        "{count} notifications of 20 kB, {resets} resets: 0 missing, 0 corrupted, {lines} lines"
    );
}

#[tokio::test]
async fn what_a_kernel_has_not_acknowledged_at_a_reset_comes_again_without_a_window() {
    let gateway = setup(&[("REPEAT_WINDOW", "0")]).start().await;
    // One that has shut its window: its kernel takes what fits, and no more.
    let mut held = Lines::connect_small(gateway.line_sockets[0], 4096).await;
    status(&gateway, |status| status["clients"] == 1).await;
    send(&gateway, 0..10, 100_000).await;
    let first = held.take(1).await;
    held.reset();
    status(&gateway, |status| status["clients"] == 0).await;
    // Its kernel had some kilobytes: less than one line.
    let position = position(&gateway, |_| true).await;
    assert!(position <= 1, "{position}");
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let lines = reader.take(9).await;
    assert_all(&[first, lines, reader.rest().await].concat(), 10);
}

#[tokio::test]
async fn the_position_moves_durably_and_a_killed_gateway_sends_the_rest_again() {
    let gateway = setup(&[("REPEAT_WINDOW", "10")]).start().await;
    send(&gateway, 0..50, 500).await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let first = reader.take(50).await;
    // The window stays behind, and no more.
    assert_eq!(position(&gateway, |position| position >= 40).await, 40);
    send(&gateway, 50..80, 500).await;
    let setup = gateway.kill().await;
    let gateway = setup.start().await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let lines = reader.take(40).await;
    assert_eq!(number_of(&lines[0]), 40, "from the position on");
    assert_all(&[first, lines].concat(), 80);
}

#[tokio::test]
async fn a_reader_that_is_killed_and_started_again_misses_nothing() {
    let gateway = setup(&[]).start().await;
    let (host, port) = (gateway.line_sockets[0].ip(), gateway.line_sockets[0].port());
    let reads = |count: usize| {
        let script = format!(
            "import socket,sys,time\n\
             s=socket.create_connection(('{host}',{port})).makefile('r')\n\
             for _ in range({count}): print(s.readline(),end='',flush=True)\n\
             time.sleep(600)\n"
        );
        let mut reader = tokio::process::Command::new("python3");
        reader.args(["-c", &script]).stdout(std::process::Stdio::piped()).kill_on_drop(true);
        reader.spawn().unwrap()
    };
    let mut lines = Vec::new();
    for round in 0..3 {
        send(&gateway, round * 100..(round + 1) * 100, 2000).await;
        let mut reader = reads(37);
        lines.extend(Lines::over(reader.stdout.take().unwrap()).take(37).await);
        reader.kill().await.unwrap();
    }
    let mut last = Lines::connect(gateway.line_sockets[0]).await;
    lines.extend(last.take(300).await);
    assert_all(&lines, 300);
}

#[tokio::test]
async fn a_stop_ends_with_a_whole_line_and_a_restart_goes_on() {
    let gateway = setup(&[("REPEAT_WINDOW", "0")]).start().await;
    send(&gateway, 0..40, 20_000).await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let mut lines = reader.take(5).await;
    let stopping = tokio::spawn(gateway.stop());
    // Half a line would not be taken for an end in order.
    while let Some(line) = reader.next().await {
        lines.push(line);
    }
    let (setup, status) = stopping.await.unwrap();
    assert!(status.success());
    let gateway = setup.start().await;
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    while counted(&lines).len() < 40 {
        lines.extend(reader.take(1).await);
    }
    assert_all(&lines, 40);
}
