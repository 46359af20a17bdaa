//! The rate at which backlogs drain.

use std::time::{Duration, Instant};

use super::support::{Api, fill_large, post};
use crate::common::gateway::{Gateway, Setup};

/// How old a record is that counts as live at most.
const LIVE: Duration = Duration::from_secs(5);

/// Makes a backlog of 20 records of 100 kB, older than what counts as live.
async fn with_backlog(setup: Setup) -> Gateway {
    let gateway = setup.start().await;
    fill_large(&gateway, 20).await;
    // Nothing tells of an age.
    tokio::time::sleep(LIVE + Duration::from_millis(100)).await;
    gateway
}

#[tokio::test]
async fn a_backlog_drains_no_faster_than_its_rate_and_live_records_are_not_held_back() {
    // All of it is 2.1 MB on the line: two of three seconds are saved up.
    let gateway = with_backlog(Setup::new().set("SPARK__DRAIN_RATE", "700kB")).await;
    let drain = async {
        let api = Api::of(&gateway);
        let (began, mut from, mut bytes, mut answers) = (Instant::now(), 0, 0u32, 0);
        while from < 20 {
            let answer = api.packed(&format!("from={from}&until=20")).await;
            assert!(answer.next() > from, "who is held back waits, and gets something");
            (from, bytes, answers) =
                (answer.next(), bytes + u32::try_from(answer.body.len()).unwrap(), answers + 1);
        }
        let least = Duration::from_secs_f64((f64::from(bytes) - 700_000.0 - 110_000.0) / 700_000.0);
        assert!(began.elapsed() >= least, "{bytes} bytes in {:?}", began.elapsed());
        assert!(least > Duration::from_secs(1), "{bytes}");
        assert!(answers <= 30, "{answers} answers");
    };
    let live = async {
        let api = Api::of(&gateway);
        let mut held_back = 0;
        for number in 20..60 {
            post(&gateway, "/notify", b"{}").await;
            let began = Instant::now();
            assert_eq!(api.records(&format!("from={number}")).await.numbers(), [number]);
            held_back += usize::from(began.elapsed() >= Duration::from_millis(900));
        }
        // A busy machine may take its time for one; the drain would for nearly all.
        assert!(held_back <= 3, "{held_back} of 40");
    };
    tokio::join!(drain, live);
}

#[tokio::test]
async fn a_live_record_ends_the_wait_of_a_backlog_that_is_held_back() {
    let gateway = with_backlog(Setup::new().set("SPARK__DRAIN_RATE", "100kB")).await;
    let api = Api::of(&gateway);
    // More than is saved up: from here on there is a debt of a second or more.
    for from in 0..2 {
        assert_eq!(api.packed(&format!("from={from}&until={}", from + 1)).await.next(), from + 1);
    }
    let began = Instant::now();
    let query = "from=2&until=20&live_from=20&wait=30";
    let (answer, ()) = tokio::join!(api.records(query), post(&gateway, "/notify", b"{}"));
    assert_eq!(answer.numbers().first(), Some(&20));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_is_held_back_is_let_go_when_the_gateway_stops() {
    let gateway = with_backlog(Setup::new().set("SPARK__DRAIN_RATE", "1kB")).await;
    let api = Api::of(&gateway);
    // A hundred seconds of debt.
    assert_eq!(api.records("from=0&until=1").await.numbers(), [0]);
    let poll = tokio::spawn(async move { api.records("from=1&until=20").await });
    let api = Api::of(&gateway);
    for _ in 0..20 {
        api.stream("default").await;
    }
    // Errors are not held back.
    assert_eq!(api.records("from=100").await.status, 409);
    let began = Instant::now();
    let (_, ended) = gateway.stop().await;
    assert!(ended.success(), "{ended}");
    let answer = poll.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.next()), (200, 0, 1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
