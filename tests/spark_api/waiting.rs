//! Long-polls.

use std::time::{Duration, Instant};

use super::support::{Api, fill, post};
use crate::common::gateway::{DEADLINE, Gateway};

#[tokio::test]
async fn a_long_poll_is_woken_by_a_new_record() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    for round in 0..10 {
        let began = Instant::now();
        let query = format!("from={round}&wait=30");
        let (answer, ()) = tokio::join!(api.records(&query), post(&gateway, "/notify", b"{}"));
        assert_eq!(answer.numbers(), [round]);
        assert_eq!(answer.next(), round + 1);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_long_poll_with_nothing_new_ends_empty_after_its_wait() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 3).await;
    for wait in ["400ms", "1"] {
        let began = Instant::now();
        let answer = api.records(&format!("from=3&wait={wait}")).await;
        assert_eq!((answer.status.as_u16(), answer.body.len(), answer.next()), (200, 0, 3));
        assert!(began.elapsed() >= Duration::from_millis(400));
    }
}

#[tokio::test]
async fn what_is_there_already_comes_without_waiting() {
    let gateway = Gateway::start().await;
    fill(&gateway, 3).await;
    let began = Instant::now();
    let api = Api::of(&gateway);
    assert_eq!(api.records("from=1&wait=60").await.numbers(), [1, 2]);
    // Nothing more is wanted, so there is nothing to wait for.
    assert!(api.records("from=3&until=3&wait=60").await.body.is_empty());
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_long_poll_ends_at_once_when_the_gateway_stops() {
    let gateway = Gateway::start().await;
    let api = Api::of(&gateway);
    fill(&gateway, 3).await;
    let polls: Vec<_> = (0..3)
        .map(|_| {
            let api = Api::of(&gateway);
            tokio::spawn(async move { api.records("from=3&wait=60").await })
        })
        .collect();
    // They have connected, and their requests have long been sent.
    let connected = async { while connections(&gateway).await < 3 {} };
    tokio::time::timeout(DEADLINE, connected).await.expect("no connections");
    for _ in 0..50 {
        api.stream("default").await;
    }
    let began = Instant::now();
    let (_, ended) = gateway.stop().await;
    assert!(ended.success(), "{ended}");
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len(), answer.next()), (200, 0, 3));
    }
    // Far from the minute of the polls, and from the drain's own 20 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

async fn connections(gateway: &Gateway) -> u64 {
    let url = format!("http://{}/metrics", gateway.admin);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let name = "ngsi_ferry_spark_connections_total ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}
