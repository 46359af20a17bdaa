//! A box whose clock jumps by days, or was never set: numbers order records,
//! and nothing is deleted because a clock was moved.

mod common;

use std::time::Duration;

use common::clock::{Clock, LIBRARY};
use common::gateway::{DEADLINE, Gateway, Setup};
use common::http::{self, Client};

/// Sends so many notifications of 20 KB, and insists on a 204 for each.
async fn send(client: &mut Client, ids: std::ops::Range<u64>) {
    for id in ids {
        let mut state = id + 1;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + state.to_be_bytes()[1] % 26)
        });
        let body = format!("{id}:{}", noise.take(20_000).collect::<String>());
        let raw = http::request("POST", "/notify", &[], body.as_bytes());
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
}

async fn streams(gateway: &Gateway) -> String {
    gateway.status().await["streams"].to_string()
}

#[tokio::test]
async fn nothing_is_reordered_or_deleted_because_the_clock_jumps_a_day() {
    let setup = Setup::new()
        .set("STORE__MAX_AGE", "12h")
        .set("STORE__CONSUMER_EXPIRY", "12h")
        .set("STORE__SEGMENT_BYTES", "1MiB");
    let clock = Clock::new(&setup, "+0");
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let spark = gateway.spark_client();
    let url = gateway.spark_url("/v1/streams/default/consumers/spark");
    let put = spark.put(url).body("{\"position\":0}").send().await.unwrap();
    assert_eq!(put.status(), 200);
    let mut client = Client::connect(gateway.intake).await.unwrap();
    // Segments fill and are sealed on the way, and each sealing looks for
    // what is too old.
    for (leg, says) in ["+0", "+1d", "+0", "-1d", "+2d", "+0"].into_iter().enumerate() {
        clock.jump(says);
        let leg = leg as u64;
        send(&mut client, 100 * leg..100 * (leg + 1)).await;
    }
    let records = gateway.records("default", 0).await;
    let ids = records.iter().map(|record| record["body"].as_str().unwrap().split_once(':'));
    let ids: Vec<u64> = ids.map(|id| id.unwrap().0.parse().unwrap()).collect();
    assert_eq!(ids, (0..600).collect::<Vec<_>>());
    let day = |at: usize| records[at]["received"].as_str().unwrap()[..10].to_owned();
    assert!(day(50) < day(150) && day(350) < day(50) && day(450) > day(150), "it did not jump");
    let status = streams(&gateway).await;
    assert!(status.contains("\"spark\""), "its consumer is gone: {status}");
    let (setup, ended) = gateway.stop().await;
    assert!(ended.success());
    assert!(!setup.log().contains("evicted"), "{}", setup.log());
}

#[tokio::test]
async fn a_clock_that_was_never_set_is_marked_and_its_records_are_kept_when_it_is() {
    let setup = Setup::new().set("STORE__MAX_AGE", "12h").set("STORE__SEGMENT_BYTES", "1MiB");
    let clock = Clock::new(&setup, "1970-01-02 00:00:00");
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    send(&mut client, 0..100).await;
    clock.jump("+0");
    send(&mut client, 100..200).await;
    let records = gateway.records("default", 0).await;
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..200).collect::<Vec<_>>());
    assert_eq!(records[0]["clock"], "unset", "{}", records[0]["received"]);
    assert_eq!(records[199].get("clock"), None, "{}", records[199]["received"]);
    let marked = records.iter().filter(|record| record["clock"] == "unset").count();
    assert_eq!(marked, 100);
}

#[tokio::test]
async fn a_long_poll_takes_as_long_as_it_says_though_the_clock_jumps() {
    let setup = Setup::new();
    let clock = Clock::new(&setup, "+0");
    let Some(command) = clock.run(&setup) else { return eprintln!("skipped: no {LIBRARY}") };
    let gateway = setup.start_as(command).await;
    let spark = gateway.spark_client();
    let url = gateway.spark_url("/v1/streams/default/records?from=0&wait=2s");
    let begun = std::time::Instant::now();
    let poll = tokio::spawn(spark.get(url).send());
    for says in ["+1d", "-1d", "+0"] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.jump(says);
    }
    let answer = tokio::time::timeout(DEADLINE, poll).await.expect("it waits for days");
    assert_eq!(answer.unwrap().unwrap().status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
}
