//! Live records while a backlog drains.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::support::{Answer, Api, fill, fill_large, post};
use crate::common::gateway::{Gateway, Setup};

fn live_next(answer: &Answer) -> Option<u64> {
    answer.headers.get("ngsi-ferry-live-next").map(|next| next.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn live_records_come_first_and_the_backlog_after_them() {
    let gateway = Setup::new().set("STORE__LINGER", "30ms").start().await;
    fill(&gateway, 60).await;
    let api = Api::of(&gateway);
    let query = "from=10&until=50&live_from=50";
    let answer = api.records(query).await;
    let expected: Vec<u64> = (50..60).chain(10..50).collect();
    assert_eq!(answer.numbers(), expected);
    assert_eq!((answer.next(), live_next(&answer)), (50, Some(60)));
    let packed = api.packed(query).await;
    assert_eq!(zstd::stream::decode_all(&packed.body[..]).unwrap(), answer.body);
    assert_eq!((packed.next(), live_next(&packed)), (50, Some(60)));
    // Nothing of the backlog beyond its end, though the live part is behind.
    assert_eq!(api.records("from=10&until=12&live_from=58").await.numbers(), [58, 59, 10, 11]);
}

#[tokio::test]
async fn a_client_that_keeps_both_numbers_gets_every_record_once_and_the_live_ones_early() {
    let gateway = Gateway::start().await;
    fill_large(&gateway, 40).await;
    let api = Api::of(&gateway);
    let begin = api.stream("default").await["next"].as_u64().unwrap();
    let (mut from, mut live, mut answers) = (0, begin, Vec::new());
    while from < begin {
        post(&gateway, "/notify", b"{\"live\":1}").await;
        let query = format!("from={from}&until={begin}&live_from={live}&max_bytes=600000");
        let answer = api.records(&query).await;
        let numbers = answer.numbers();
        assert_eq!(numbers[0], live, "what has just come is in the very next answer");
        assert!(answer.next() > from, "the backlog goes on");
        (from, live) = (answer.next(), live_next(&answer).unwrap());
        answers.push(numbers);
    }
    assert!(answers.len() > 5, "{answers:?}");
    // From here on the live part is all there is.
    post(&gateway, "/notify", b"{\"live\":2}").await;
    answers.push(api.records(&format!("from={live}")).await.numbers());
    let seen: Vec<u64> = answers.into_iter().flatten().collect();
    let next = api.stream("default").await["next"].as_u64().unwrap();
    assert_eq!(seen.len() as u64, next);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (0..next).collect());
}

#[tokio::test]
async fn the_live_part_leaves_the_backlog_its_share() {
    for (share, live) in [("0.25", 2), ("0.75", 6)] {
        let gateway = Setup::new().set("SPARK__LIVE_SHARE", share).start().await;
        fill_large(&gateway, 30).await;
        // Eight of the records, which are about 134 kB as lines.
        let max_bytes = 8 * 137_000;
        let query = format!("from=0&until=15&live_from=15&max_bytes={max_bytes}");
        let numbers = Api::of(&gateway).records(&query).await.numbers();
        let is_live = numbers.iter().filter(|number| **number >= 15).count();
        assert_eq!((is_live, numbers.len()), (live, 8), "{share}: {numbers:?}");
    }
}

#[tokio::test]
async fn with_live_priority_off_records_come_in_strict_order() {
    let gateway = Setup::new().set("SPARK__LIVE_SHARE", "0").start().await;
    fill(&gateway, 20).await;
    let answer = Api::of(&gateway).records("from=3&until=15&live_from=15").await;
    assert_eq!(answer.numbers(), (3..15).collect::<Vec<_>>());
    assert_eq!((answer.next(), live_next(&answer)), (15, None));
}

#[tokio::test]
async fn a_long_poll_ends_with_a_live_record_where_the_backlog_is_read() {
    let gateway = Gateway::start().await;
    fill(&gateway, 5).await;
    let api = Api::of(&gateway);
    let began = Instant::now();
    let query = "from=5&until=5&live_from=5&wait=30";
    let (answer, ()) = tokio::join!(api.records(query), post(&gateway, "/notify", b"{}"));
    assert_eq!(answer.numbers(), [5]);
    assert_eq!((answer.next(), live_next(&answer)), (5, Some(6)));
    // And at once where the backlog has something, though nothing is live.
    let answer = api.records("from=0&until=6&live_from=6&wait=30").await;
    assert_eq!(answer.numbers(), (0..6).collect::<Vec<_>>());
    assert_eq!(live_next(&answer), Some(6));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_backlog_without_an_end_or_beyond_the_live_part_is_refused() {
    let gateway = Gateway::start().await;
    fill(&gateway, 5).await;
    let api = Api::of(&gateway);
    for query in ["from=0&live_from=3", "from=0&until=4&live_from=3"] {
        let answer = api.records(query).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(api.records("from=0&until=3&live_from=6").await.json()["error"], "BeyondEnd");
}

#[tokio::test]
async fn a_backlog_that_is_gone_is_told_apart_from_the_live_part() {
    let gateway = Setup::new().set("STORE__SEGMENT_BYTES", "1MiB").start().await;
    fill_large(&gateway, 40).await;
    let api = Api::of(&gateway);
    assert_eq!(api.acknowledge("one", 30).await.status, 200);
    let deleted = async { while api.stream("default").await["earliest"] == 0 {} };
    tokio::time::timeout(Duration::from_secs(20), deleted).await.expect("segments deleted");
    let answer = api.records("from=0&until=35&live_from=35").await;
    assert_eq!(answer.status, 410);
    let gone = answer.json();
    assert_eq!((&gone["part"], &gone["reason"]), (&"backlog".into(), &"acknowledged".into()));
    // Segments may still be deleted, one after the other: that is followed.
    let mut from = gone["earliest"].as_u64().unwrap();
    loop {
        let answer = api.records(&format!("from={from}&until=35&live_from=35")).await;
        if answer.status == 200 {
            assert_eq!(answer.numbers().first(), Some(&35));
            break;
        }
        let earliest = answer.json()["earliest"].as_u64().unwrap();
        assert!(earliest > from && earliest <= 30, "{earliest} after {from}");
        from = earliest;
    }
}

#[tokio::test]
async fn both_numbers_hold_across_a_kill_of_the_gateway() {
    let gateway = Gateway::start().await;
    fill_large(&gateway, 12).await;
    let begin = Api::of(&gateway).stream("default").await["next"].as_u64().unwrap();
    post(&gateway, "/notify", b"{\"live\":1}").await;
    let first = Api::of(&gateway)
        .records(&format!("from=0&until={begin}&live_from={begin}&max_bytes=600000"))
        .await;
    let (mut from, mut live) = (first.next(), live_next(&first).unwrap());
    assert!(from < begin, "{from}");
    let mut seen = first.numbers();

    // The numbers that the kill leaves unused lie in the live part.
    let gateway = gateway.kill().await.start().await;
    post(&gateway, "/notify", b"{\"live\":2}").await;
    let api = Api::of(&gateway);
    while from < begin {
        let query = format!("from={from}&until={begin}&live_from={live}&max_bytes=600000");
        let answer = api.records(&query).await;
        (from, live) = (answer.next(), live_next(&answer).unwrap());
        seen.extend(answer.numbers());
    }
    assert_eq!(from, begin);
    seen.extend(api.records(&format!("from={live}")).await.numbers());
    assert_eq!(seen.len(), 14, "{seen:?}");
    let different: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(different.len(), 14, "{seen:?}");
    assert!((0..=begin).all(|number| different.contains(&number)), "{seen:?}");
}
