//! What a line holds.

use crate::common::{fixtures, http};
use crate::connector_rules::check;
use crate::support::*;

/// Captured notifications with too little in them for entities.
const NOT_CONVERTIBLE: [&str; 11] = [
    "custom-GET",
    "custom-PATCH-json",
    "custom-PUT-payload",
    "custom-payload-null",
    "hand-custom-text",
    "hand-empty-body",
    "hand-malformed-json",
    "hand-not-utf-8",
    "ld-multi-attribute",
    "values",
    "values-attrs",
];

#[tokio::test]
async fn every_captured_notification_that_can_be_converted_is_taken_by_the_old_rules() {
    let gateway = setup(&[]).start().await;
    let all = fixtures::all();
    for fixture in &all {
        let answer = http::once(gateway.intake, &fixture.raw_to("/notify/press")).await;
        assert_eq!(answer.status, 204, "{}", fixture.name);
    }
    let convertible: Vec<_> =
        all.iter().filter(|one| !NOT_CONVERTIBLE.contains(&&*one.name)).collect();
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    let lines = reader.take(convertible.len()).await;
    for (line, fixture) in lines.iter().zip(&convertible) {
        let name = &fixture.name;
        let line = check(line).unwrap_or_else(|wrong| panic!("{name}: {wrong}: {line}"));
        for (header, value) in &fixture.headers {
            if header.starts_with("Fiware-") || header == "Link" || header == "User-Agent" {
                assert_eq!(line[header], value.replace('"', "'"), "{name}: {header}");
            }
        }
        // Every value is there, in one form or the other.
        if fixture.body.windows(5).any(|part| part == b"22.25") {
            assert!(line["Body"].to_string().contains("22.25"), "{name}");
        }
    }
    assert_eq!(reader.rest().await, [""; 0]);
    let left_out = all.len() - convertible.len();
    let status = status(&gateway, |status| status["left_out"] == left_out).await;
    assert_eq!(status["sent"], lines.len());
    // Others get all of them.
    assert_eq!(gateway.records("press", 0).await.len(), all.len());
}

#[tokio::test]
async fn a_record_that_is_left_out_is_counted_once_however_often_it_is_read() {
    let gateway = setup(&[("CLIENTS", "repeat")]).start().await;
    let raw = http::request("POST", "/notify/press", &[], b"t is 4");
    assert_eq!(http::once(gateway.intake, &raw).await.status, 204);
    send(&gateway, 0..1, 10).await;
    for _ in 0..3 {
        let mut reader = Lines::connect(gateway.line_sockets[0]).await;
        assert_eq!(reader.take(1).await.len(), 1);
    }
    assert_eq!(status(&gateway, |_| true).await["left_out"], 1);
}

#[tokio::test]
async fn bodies_alone_are_lines_as_they_are() {
    let gateway = setup(&[("FORM", "body")]).start().await;
    let bodies = ["t is 4", "{\"a\":\r\n [1,\n2]}", "two\nlines", "", "Łazienka"];
    for body in bodies {
        let raw = http::request("POST", "/notify/press", &[], body.as_bytes());
        assert_eq!(http::once(gateway.intake, &raw).await.status, 204);
    }
    let mut reader = Lines::connect(gateway.line_sockets[0]).await;
    assert_eq!(reader.take(3).await, ["t is 4", "{\"a\": [1,2]}", "Łazienka"]);
    assert_eq!(reader.rest().await, [""; 0]);
    assert_eq!(status(&gateway, |_| true).await["left_out"], 2);
}

#[tokio::test]
async fn a_plain_socket_elsewhere_than_on_loopback_is_refused_by_check() {
    let setup = setup(&[("LISTEN", "0.0.0.0:0")]);
    let checked = setup.command(["check"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(!checked.status.success());
    assert!(said.contains("NGSI_FERRY_LINE_SOCKET__0__LISTEN"), "{said}");
    assert!(said.contains("set cert and key, or listen on loopback"), "{said}");
}
