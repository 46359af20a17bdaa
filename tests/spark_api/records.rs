//! Records of a range: exactly those, packed or not.

use super::support::{Api, fill, fill_large, post};
use crate::common::gateway::{Gateway, Setup};

const RECORDS: u64 = 60;

/// A gateway whose records are in few groups, several in each.
async fn filled() -> Gateway {
    let gateway = Setup::new().set("STORE__LINGER", "30ms").start().await;
    for _ in 0..3 {
        fill(&gateway, 20).await;
    }
    gateway
}

fn unpack(body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return Vec::new();
    }
    zstd::stream::decode_all(body).unwrap()
}

#[tokio::test]
async fn every_range_comes_exactly_packed_and_unpacked() {
    let gateway = filled().await;
    let api = Api::of(&gateway);
    for from in (0..=RECORDS).step_by(7) {
        for until in (from..=RECORDS + 9).step_by(9) {
            let query = format!("from={from}&until={until}");
            let plain = api.records(&query).await;
            assert_eq!(plain.status, 200, "{query}");
            let expected: Vec<u64> = (from..until.min(RECORDS)).collect();
            assert_eq!(plain.numbers(), expected, "{query}");
            assert_eq!(plain.next(), until.min(RECORDS), "{query}");
            let packed = api.packed(&query).await;
            assert_eq!(unpack(&packed.body), plain.body, "{query}");
            assert_eq!(packed.next(), plain.next(), "{query}");
        }
    }
}

#[tokio::test]
async fn groups_go_out_as_they_are_stored_frame_after_frame() {
    let gateway = filled().await;
    let api = Api::of(&gateway);
    let packed = api.packed("from=0").await;
    assert_eq!(packed.headers["content-encoding"], "zstd");
    assert_eq!(packed.headers["vary"], "accept-encoding");
    assert_eq!(packed.headers["content-type"], "application/x-ndjson");
    assert_eq!(packed.headers["content-length"], packed.body.len().to_string().as_str());
    assert_eq!(packed.epoch(), api.stream("default").await["epoch"]);
    let frames = packed.body.windows(4).filter(|w| *w == [0x28, 0xb5, 0x2f, 0xfd]).count();
    assert!((1..60).contains(&frames), "{frames} frames");

    let plain = api.records("from=0").await;
    assert_eq!(plain.headers.get("content-encoding"), None);
    assert_eq!(plain.headers["vary"], "accept-encoding");
    assert_eq!(unpack(&packed.body), plain.body);
    let refused = [("Accept-Encoding", "zstd;q=0, *;q=0")];
    let refused = api.ask_with("GET", "/v1/streams/default/records?from=0", "", &refused).await;
    assert_eq!(refused.body, plain.body);
}

#[tokio::test]
async fn max_bytes_bounds_an_answer_but_at_least_one_record_comes() {
    let gateway = filled().await;
    let api = Api::of(&gateway);
    for max_bytes in [0, 1, 300, 1000, 5000, 1 << 40] {
        let (mut from, mut seen) = (0, Vec::new());
        while from < RECORDS {
            let answer = api.records(&format!("from={from}&max_bytes={max_bytes}")).await;
            let numbers = answer.numbers();
            assert!(numbers.len() == 1 || answer.body.len() as u64 <= max_bytes, "{max_bytes}");
            assert_eq!(answer.next(), numbers.last().unwrap() + 1);
            from = answer.next();
            seen.extend(numbers);
        }
        assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>(), "{max_bytes}");
    }
}

#[tokio::test]
async fn no_answer_is_larger_than_the_gateway_allows() {
    let gateway = Setup::new().set("SPARK__MAX_ANSWER", "300KB").start().await;
    fill_large(&gateway, 5).await;
    let api = Api::of(&gateway);
    let answer = api.records("from=0&max_bytes=100000000").await;
    assert_eq!(answer.numbers(), [0, 1]);
}

#[tokio::test]
async fn the_end_of_a_stream_is_an_empty_answer() {
    let gateway = filled().await;
    let api = Api::of(&gateway);
    for answer in [
        api.records(&format!("from={RECORDS}")).await,
        api.packed(&format!("from={RECORDS}")).await,
        api.records("from=5&until=5").await,
        api.records("from=5&until=3").await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        assert_eq!(answer.headers.get("content-encoding"), None);
    }
    assert_eq!(api.records(&format!("from={RECORDS}")).await.next(), RECORDS);
    assert_eq!(api.records("from=5&until=3").await.next(), 5);
}

#[tokio::test]
async fn another_epoch_or_a_number_beyond_the_end_is_409() {
    let gateway = filled().await;
    let api = Api::of(&gateway);
    let epoch = api.stream("default").await["epoch"].as_str().unwrap().to_owned();
    assert_eq!(api.records(&format!("from=0&epoch={epoch}")).await.status, 200);

    let other = api.records("from=0&epoch=another").await;
    assert_eq!(other.status, 409);
    let other = other.json();
    assert_eq!((&other["error"], &other["epoch"]), (&"EpochDiffers".into(), &epoch.clone().into()));
    assert_eq!((&other["earliest"], &other["next"]), (&0.into(), &RECORDS.into()));

    let beyond = api.records(&format!("from={}", RECORDS + 1)).await;
    assert_eq!(beyond.status, 409);
    let beyond = beyond.json();
    assert_eq!((&beyond["error"], &beyond["next"]), (&"BeyondEnd".into(), &RECORDS.into()));
    assert_eq!(beyond["epoch"], epoch);
}

#[tokio::test]
async fn numbers_and_epoch_survive_a_stop_and_a_kill() {
    let gateway = filled().await;
    let before = Api::of(&gateway).packed("from=0").await;
    let (setup, ended) = gateway.stop().await;
    assert!(ended.success(), "{ended}");
    let gateway = setup.start().await.kill().await.start().await;
    let after = Api::of(&gateway).packed("from=0").await;
    assert_eq!(after.epoch(), before.epoch());
    assert_eq!(unpack(&after.body), unpack(&before.body));
    // The numbers that an unclean end leaves unused are skipped.
    post(&gateway, "/notify", b"{\"new\":1}").await;
    let api = Api::of(&gateway);
    let answer = api.records(&format!("from={RECORDS}")).await;
    assert_eq!(answer.numbers().len(), 1);
    assert!(answer.numbers()[0] >= RECORDS);
}
