//! Bodies up to the limit are kept, larger ones answered 413.

use super::support::{noise, stored};
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{self, Client};

const MOST: usize = 8 << 20;

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut raw =
        b"POST /notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(100_000) {
        raw.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        raw.extend([chunk, b"\r\n"].concat());
    }
    raw.extend(b"0\r\n\r\n");
    raw
}

#[tokio::test]
async fn a_body_of_8_mib_is_kept_whole() {
    let gateway = Gateway::start().await;
    let body = noise(MOST, 7);
    let plain = http::request("POST", "/notify/plain", &[], &body);
    assert_eq!(http::once(gateway.intake, &plain).await.status, 204);
    assert_eq!(http::once(gateway.intake, &chunked(&body)).await.status, 204);
    for stream in ["plain", "default"] {
        let stored = stored(&gateway, stream).await;
        assert!(stored.len() == 1 && stored[0].body == body, "{stream}");
    }
}

#[tokio::test]
async fn a_larger_body_is_answered_413_and_the_answer_arrives() {
    let gateway = Gateway::start().await;
    let body = noise(MOST + 1, 7);
    for raw in [http::request("POST", "/notify", &[], &body), chunked(&body)] {
        let answer = http::once(gateway.intake, &raw).await;
        assert_eq!(answer.status, 413);
        assert_eq!(answer.json()["description"], "the body is larger than 8388608 bytes");
    }
    assert!(stored(&gateway, "default").await.is_empty());
}

#[tokio::test]
async fn the_limit_is_a_setting() {
    let gateway = Setup::new().set("INTAKE__MAX_BODY", "1KiB").start().await;
    for (len, status) in [(1024, 204), (1025, 413)] {
        let body = vec![b'x'; len];
        for raw in [http::request("POST", "/notify", &[], &body), chunked(&body)] {
            assert_eq!(http::once(gateway.intake, &raw).await.status, status, "{len}");
        }
    }
}

#[tokio::test]
async fn expect_100_continue_is_answered_100_and_then_204() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(gateway.intake).await.unwrap();
    for _ in 0..2 {
        let head = b"POST /notify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
                     Content-Length: 2\r\n\r\n";
        assert_eq!(client.exchange(head).await.unwrap().status, 100);
        assert_eq!(client.exchange(b"{}").await.unwrap().status, 204);
    }
    let stored = stored(&gateway, "default").await;
    assert_eq!(stored.len(), 2);
    assert!(stored[0].headers.iter().all(|(name, _)| name != "expect"));
}

#[tokio::test]
async fn expect_100_continue_with_too_large_a_body_is_answered_413_at_once() {
    let gateway = Gateway::start().await;
    let head = format!(
        "POST /notify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        MOST + 1
    );
    assert_eq!(http::once(gateway.intake, head.as_bytes()).await.status, 413);
}

#[tokio::test]
async fn many_large_bodies_at_once_are_all_kept_within_the_budget() {
    let gateway = Setup::new().set("BYTES_IN_FLIGHT", "4MiB").start().await;
    let send = |seed: u64| {
        let raw = http::request("POST", "/notify", &[], &noise(2 << 20, seed));
        async move { http::once(gateway.intake, &raw).await.status }
    };
    let mut sending = tokio::task::JoinSet::new();
    for seed in 1..=8 {
        sending.spawn(send(seed));
    }
    assert_eq!(sending.join_all().await, [204; 8]);
    // The answer may come before the memory is given back.
    let free = async { while gateway.status().await["bytes_in_flight"] != 0 {} };
    tokio::time::timeout(DEADLINE, free).await.expect("memory is never given back");
}
