//! What Orion refuses before it looks at any entity.

use serde_json::json;

use crate::common::http;
use crate::common::orion::OrionStandIn;
use crate::send;

/// Headers, body, and the status and error they are answered.
type Row = (&'static [(&'static str, &'static str)], &'static [u8], u16, &'static str);

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn chunked(size: usize) -> Vec<u8> {
    let head = "POST /v2/entities HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    format!("{head}{chunk}").into_bytes()
}

#[tokio::test]
async fn without_a_content_length_a_write_is_411() {
    let orion = OrionStandIn::start().await;
    let bare = http::bare_request("POST", "/v2/entities");
    assert_eq!(http::once(orion.addr(), &bare).await.status, 411);
    assert_eq!(http::once(orion.addr(), &chunked(100)).await.status, 411);
    assert_eq!(orion.state().crashes, 0);
}

#[tokio::test]
async fn chunked_of_64_kib_and_more_would_crash_orion_and_is_counted() {
    let orion = OrionStandIn::start().await;
    http::once(orion.addr(), &chunked(64 * 1024 - 1)).await;
    assert_eq!(orion.state().crashes, 0);
    http::once(orion.addr(), &chunked(64 * 1024)).await;
    assert_eq!(orion.state().crashes, 1);
}

#[tokio::test]
async fn a_body_over_one_mib_is_413() {
    let orion = OrionStandIn::start().await;
    let empty = json!({"id": "a", "t": {"value": ""}}).to_string().len();
    for (size, status) in [(1024 * 1024, 201), (1024 * 1024 + 1, 413)] {
        let body = json!({"id": "a", "t": {"value": "x".repeat(size - empty)}});
        assert_eq!(body.to_string().len(), size);
        assert_eq!(send(&orion, "POST", "/v2/entities", body).await.status, status);
    }
}

#[tokio::test]
async fn forbidden_characters_in_text_are_400_unless_text_unrestricted() {
    let orion = OrionStandIn::start().await;
    for (number, c) in ['<', '>', '"', '\'', '=', ';', '(', ')'].into_iter().enumerate() {
        let body = |kind: &str| {
            let t = json!({"type": kind, "value": {"deep": [format!("a{c}b")]}});
            json!({"id": format!("urn:{kind}:{number}"), "t": t})
        };
        let refused = send(&orion, "POST", "/v2/entities", body("Text")).await;
        assert_eq!(refused.status, 400, "{c}");
        let taken = send(&orion, "POST", "/v2/entities", body("TextUnrestricted")).await;
        assert_eq!(taken.status, 201, "{c}");
        let id = json!({"id": format!("a{c}b"), "t": {"value": 1}});
        assert_eq!(send(&orion, "POST", "/v2/entities", id).await.status, 400, "{c}");
    }
}

#[tokio::test]
async fn a_head_or_body_that_orion_cannot_take_is_refused() {
    let table: [Row; 6] = [
        (&[], br#"{"id":"a"}"#, 415, "UnsupportedMediaType"),
        (&[("Content-Type", "text/xml")], b"<a/>", 415, "UnsupportedMediaType"),
        (&[JSON], br#"{"id":"#, 400, "ParseError"),
        (&[JSON, ("Fiware-Service", "plant-1")], br#"{"id":"a"}"#, 400, "BadRequest"),
        (&[JSON], br#"{"type":"A"}"#, 400, "BadRequest"),
        (&[JSON], b"", 411, "ContentLengthRequired"),
    ];
    let orion = OrionStandIn::start().await;
    for (headers, body, status, error) in table {
        let raw = http::request("POST", "/v2/entities", headers, body);
        let answer = http::once(orion.addr(), &raw).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)));
    }
    assert_eq!(orion.requests().len(), 6);
    assert!(orion.requests().iter().all(|r| !r.applied));
}

#[tokio::test]
async fn a_204_has_no_content_length_and_headers_are_in_title_case() {
    let orion = OrionStandIn::start().await;
    let created = send(&orion, "POST", "/v2/entities", json!({"id": "a", "t": {"value": 1}})).await;
    let spelled: Vec<&str> = created.head.headers.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(spelled, ["Date", "Fiware-Correlator", "Location", "Content-Length"]);
    let patch = json!({"t": {"value": 2}});
    let patched = send(&orion, "PATCH", "/v2/entities/a/attrs", patch).await;
    assert_eq!(patched.header("Content-Length"), None);
}
