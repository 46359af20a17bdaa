//! Whatever comes in comes out byte for byte.

use ngsi_ferry::record::Notification;
use ngsi_ferry::serve::HOP_BY_HOP;

use super::support::{keep, stored, values};
use crate::common::fixtures::{self, Fixture};
use crate::common::gateway::Gateway;
use crate::common::http;

fn assert_same(fixture: &Fixture, path: &str, stored: &Notification) {
    let name = &fixture.name;
    assert_eq!((&stored.method, stored.path.as_str()), (&fixture.method, path), "{name}");
    assert_eq!(stored.body, fixture.body, "{name}");
    let sent = fixture.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let mut sent: Vec<_> = sent.filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str())).collect();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let mut kept: Vec<_> =
        stored.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    sent.sort();
    kept.sort();
    assert_eq!(kept, sent, "{name}");
}

#[tokio::test]
async fn every_captured_notification_comes_out_byte_for_byte() {
    let gateway = Gateway::start().await;
    let fixtures = fixtures::all();
    for fixture in &fixtures {
        keep(&gateway, &fixture.raw).await;
    }
    let mut compared: Vec<String> = Vec::new();
    for name in ["default", "custom", "ld"] {
        let of_stream = fixtures.iter().filter(|fixture| {
            let named = fixture.path.strip_prefix("/notify/");
            named.map_or("default", |rest| rest.split('?').next().unwrap()) == name
        });
        let stored = stored(&gateway, name).await;
        let of_stream: Vec<_> = of_stream.collect();
        assert_eq!(stored.len(), of_stream.len(), "{name}");
        for (fixture, stored) in of_stream.into_iter().zip(&stored) {
            assert_same(fixture, &fixture.path, stored);
            compared.push(fixture.name.clone());
        }
    }
    assert_eq!(compared.len(), fixtures.len(), "a fixture went to another stream");
}

#[tokio::test]
async fn every_captured_notification_can_go_to_a_stream_named_by_its_path() {
    let gateway = Gateway::start().await;
    for (at, fixture) in fixtures::all().into_iter().enumerate() {
        let path = format!("/notify/stream-{}?at={at}", at % 9);
        keep(&gateway, &fixture.raw_to(&path)).await;
        let stored = stored(&gateway, &format!("stream-{}", at % 9)).await;
        assert_same(&fixture, &path, stored.last().unwrap());
    }
}

#[tokio::test]
async fn every_verb_is_kept() {
    let gateway = Gateway::start().await;
    let verbs = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "PROPFIND"];
    for verb in verbs {
        keep(&gateway, &http::bare_request(verb, "/notify?none")).await;
        keep(&gateway, &http::request(verb, "/notify?some", &[], b"{}")).await;
    }
    let stored = stored(&gateway, "default").await;
    let kept: Vec<_> = stored.iter().map(|one| (one.method.as_str(), one.body.len())).collect();
    let sent: Vec<_> = verbs.iter().flat_map(|verb| [(*verb, 0), (*verb, 2)]).collect();
    assert_eq!(kept, sent);
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_the_request_is_kept() {
    let gateway = Gateway::start().await;
    let raw = http::bare_request("HEAD", "/notify");
    let mut client = http::Client::connect(gateway.intake).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
    assert_eq!(stored(&gateway, "default").await.len(), 2);
}

#[tokio::test]
async fn chunks_are_joined_whatever_their_sizes() {
    let gateway = Gateway::start().await;
    let body = "0123456789abcdef".repeat(40);
    for size in [1, 7, 256, 640] {
        let mut raw = b"POST /notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                        Trailer: X-Sum\r\n\r\n"
            .to_vec();
        for chunk in body.as_bytes().chunks(size) {
            raw.extend(format!("{:x};ext=1\r\n", chunk.len()).as_bytes());
            raw.extend([chunk, b"\r\n"].concat());
        }
        raw.extend(b"0\r\nX-Sum: 1\r\n\r\n");
        keep(&gateway, &raw).await;
    }
    let stored = stored(&gateway, "default").await;
    assert_eq!(stored.len(), 4);
    for one in stored {
        assert_eq!(one.body, body);
        assert_eq!(values(&one, "transfer-encoding").len(), 0);
    }
}

#[tokio::test]
async fn repeated_headers_and_headers_that_are_not_utf_8_survive() {
    let gateway = Gateway::start().await;
    let raw = b"POST /notify?q=%20a&b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-b: caf\xe9\r\n\
                X-a:  2, 3 \r\nX-Empty:\r\nConnection: close\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
                Content-Length: 3\r\n\r\n\xff\x00\xfe";
    keep(&gateway, raw).await;
    let stored = stored(&gateway, "default").await;
    let [one] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!(values(one, "x-a"), [&b"1"[..], b"2, 3"]);
    assert_eq!(values(one, "x-b"), [b"caf\xe9"]);
    assert_eq!(values(one, "x-empty"), [b""]);
    for hop in ["connection", "keep-alive", "te"] {
        assert!(values(one, hop).is_empty(), "{hop}");
    }
    assert_eq!(one.path, "/notify?q=%20a&b");
    assert_eq!(one.body, &b"\xff\x00\xfe"[..]);
}

#[tokio::test]
async fn a_body_that_is_no_json_or_no_text_is_kept_as_it_is() {
    let gateway = Gateway::start().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let bodies: [&[u8]; 6] =
        [b"{\"data\":[", b"", b"\xc3\x28", b"\xed\xa0\x80", b"line\nline\r\n\0\x7f", &all_bytes];
    let json = [("Content-Type", "application/json")];
    for body in bodies {
        keep(&gateway, &http::request("POST", "/notify", &json, body)).await;
    }
    let stored = stored(&gateway, "default").await;
    let kept: Vec<&[u8]> = stored.iter().map(|one| one.body.as_ref()).collect();
    assert_eq!(kept, bodies);
}
