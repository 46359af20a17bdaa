//! What bad HTTP is answered: a table. After each line the gateway must still
//! take a good notification.

use super::support::{bodies, keep, post};
use crate::common::gateway::Gateway;
use crate::common::http::Client;

/// What was sent, and the status that it is answered, or none where the
/// connection is only closed.
fn table() -> Vec<(&'static str, Vec<u8>, Option<u16>)> {
    let with = |headers: &str| format!("POST /notify HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let flood = "X-Flood: 1\r\n".repeat(200);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(500_000));
    let long = format!("POST /notify?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(100_000));
    let rows: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
        ("no HTTP at all", b"hello there\r\n\r\n".to_vec(), Some(400)),
        ("no version", b"POST /notify\r\n\r\n".to_vec(), Some(400)),
        ("another version", b"POST /notify HTTP/3.7\r\n\r\n".to_vec(), Some(400)),
        ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            Some(400),
        ),
        ("a space in the path", b"POST /not ify HTTP/1.1\r\n\r\n".to_vec(), Some(400)),
        ("a header without a colon", with("X-No-Colon\r\n").into(), Some(400)),
        ("a space before the colon", with("X-A : 1\r\n").into(), Some(400)),
        ("a header's name with a space", with("X A: 1\r\n").into(), Some(400)),
        ("a folded header", with("X-A: 1\r\n 2\r\n").into(), Some(400)),
        ("a NUL in a header", with("X-A: 1\0\r\n").into(), Some(400)),
        ("a header flood", with(&flood).into(), Some(431)),
        ("a huge header", with(&huge).into(), Some(431)),
        ("a long path", long.into(), Some(414)),
        ("a length that is none", with("Content-Length: two\r\n").into(), Some(400)),
        ("a negative length", with("Content-Length: -2\r\n").into(), Some(400)),
        ("a length beyond all", with("Content-Length: 99999999999999999999\r\n").into(), Some(400)),
        ("two lengths", with("Content-Length: 2\r\nContent-Length: 3\r\n").into(), Some(400)),
        ("chunked and then more", with("Transfer-Encoding: chunked, gzip\r\n").into(), Some(400)),
        (
            "a chunk's size that is none",
            with("Transfer-Encoding: chunked\r\n\r\nzz\r\n{}").into(),
            Some(400),
        ),
        (
            "a chunk's size beyond all",
            with("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n").into(),
            Some(400),
        ),
    ];
    rows
}

#[tokio::test]
async fn bad_http_is_answered_as_the_table_says_and_harms_nobody() {
    let gateway = Gateway::start().await;
    let mut differs = Vec::new();
    let table = table();
    for (what, raw, expected) in &table {
        let mut client = Client::connect(gateway.intake).await.unwrap();
        // Some are answered before they are sent whole.
        let _ = client.send(raw).await;
        let status = client.try_answer().await.ok().flatten().map(|answer| answer.status);
        if status != *expected {
            differs.push(format!("{what}: {status:?} instead of {expected:?}"));
        }
        assert!(client.closes_silently().await, "{what}");
        keep(&gateway, &post(&format!("after {what}"))).await;
    }
    assert!(differs.is_empty(), "{differs:#?}");
    assert_eq!(bodies(&gateway, "default").await.len(), table.len());
    let log = gateway.log();
    assert!(!log.contains("panic"), "{log}");
}
