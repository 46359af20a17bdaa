//! `ngsi-ferry peek`.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::support::{ok, post, run};
use crate::common::gateway::Gateway;

fn numbers(out: &str) -> Vec<u64> {
    out.lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn records_are_printed_from_a_number_and_up_to_a_limit_running_or_not() {
    let gateway = Gateway::start().await;
    for n in 0..5 {
        post(&gateway, "/notify/press", &format!("{{\"n\":{n}}}")).await;
    }
    let cases: [(&[&str], &[u64]); 6] = [
        (&["peek", "press"], &[0, 1, 2, 3, 4]),
        (&["peek", "press", "--from", "3"], &[3, 4]),
        (&["peek", "press", "--limit", "2"], &[0, 1]),
        (&["peek", "press", "--from", "1", "-n", "1"], &[1]),
        (&["peek", "press", "--limit", "0"], &[]),
        (&["peek"], &[]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(numbers(&ok(gateway.setup(), arguments).await.out), expected, "{arguments:?}");
    }
    let none = run(gateway.setup(), &["peek", "none"]).await;
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("there is no stream none"), "{none:?}");
    let beyond = run(gateway.setup(), &["peek", "press", "--from", "99"]).await;
    assert_eq!(beyond.code, Some(1), "{beyond:?}");

    let (setup, _) = gateway.stop().await;
    for (arguments, expected) in cases {
        assert_eq!(numbers(&ok(&setup, arguments).await.out), expected, "stopped: {arguments:?}");
    }
    let beyond = run(&setup, &["peek", "press", "--from", "99"]).await;
    assert_eq!(beyond.code, Some(1), "stopped: {beyond:?}");
    let follow = run(&setup, &["peek", "press", "--follow"]).await;
    assert_eq!(follow.code, Some(1));
    assert!(follow.err.contains("leave out --follow"), "{follow:?}");
}

#[tokio::test]
async fn follow_goes_on_as_records_come() {
    let gateway = Gateway::start().await;
    post(&gateway, "/notify", "{}").await;
    let mut following = gateway.setup().command(["peek", "--follow", "--limit", "3"]);
    let mut following = following.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    for n in 0..3 {
        if n > 0 {
            post(&gateway, "/notify", &format!("{{\"n\":{n}}}")).await;
        }
        assert_eq!(numbers(&lines.next_line().await.unwrap().unwrap()), [n]);
    }
    assert!(following.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let gateway = Gateway::start().await;
    for n in 0..50 {
        post(&gateway, "/notify", &format!("{{\"n\":{n}}}")).await;
    }
    let mut piped = gateway.setup().shell("\"$@\" peek | head -n 1");
    let said = super::support::Said::from(piped.output().await.unwrap());
    assert_eq!((numbers(&said.out), said.err.as_str()), (vec![0], ""));
}
