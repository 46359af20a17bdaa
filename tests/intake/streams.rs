//! Which stream takes what.

use super::support::{bodies, keep};
use crate::common::gateway::Setup;
use crate::common::http;

fn press(path: &str, tenant: &str, service_path: &str, entity_type: &str) -> Vec<u8> {
    let headers = [("Fiware-Service", tenant), ("Fiware-Servicepath", service_path)];
    let body = format!(r#"{{"subscriptionId":"1","data":[{{"id":"p","type":"{entity_type}"}}]}}"#);
    http::request("POST", path, &headers, body.as_bytes())
}

#[tokio::test]
async fn routes_choose_by_tenant_service_path_and_entity_type() {
    let setup = Setup::new()
        .set("ROUTE__0__STREAM", "presses")
        .set("ROUTE__0__TENANT", "plant1")
        .set("ROUTE__0__ENTITY_TYPE", "Press")
        .set("ROUTE__1__STREAM", "line")
        .set("ROUTE__1__SERVICE_PATH", "/line/#")
        .set("ROUTE__2__STREAM", "plant2")
        .set("ROUTE__2__TENANT", "plant2");
    let gateway = setup.start().await;
    let cases = [
        (press("/notify", "plant1", "/", "Press"), "presses"),
        (press("/", "Plant1", "/line", "Press"), "presses"),
        (press("/notify", "plant1", "/line/a", "Oven"), "line"),
        (press("/notify", "plant2", "/", "Press"), "plant2"),
        (press("/notify", "plant3", "/liner", "Press"), "default"),
        (press("/notify/named", "plant1", "/", "Press"), "named"),
    ];
    for (raw, stream) in cases {
        let before = bodies(&gateway, "default").await.len();
        keep(&gateway, &raw).await;
        let kept = bodies(&gateway, stream).await;
        assert!(!kept.is_empty(), "{stream}");
        let in_default = bodies(&gateway, "default").await.len() - before;
        assert_eq!(in_default, usize::from(stream == "default"), "{stream}");
    }
    assert_eq!(bodies(&gateway, "presses").await.len(), 2);
}

#[tokio::test]
async fn names_outside_the_form_go_to_default() {
    let gateway = Setup::new().start().await;
    let long = "a".repeat(65);
    let names = ["", "Press", "pr%20ess", "..", ".", "%2e%2e", "a%2fb", "press!", &long];
    for name in names {
        let raw = http::request("POST", &format!("/notify/{name}"), &[], name.as_bytes());
        keep(&gateway, &raw).await;
    }
    assert_eq!(bodies(&gateway, "default").await, names);
    keep(&gateway, &http::request("POST", "/notify/a.b_c-1/below", &[], b"{}")).await;
    assert_eq!(bodies(&gateway, "a.b_c-1").await, ["{}"]);
}

#[tokio::test]
async fn streams_beyond_the_limit_go_to_default() {
    let gateway = Setup::new().set("STORE__MAX_STREAMS", "3").start().await;
    for name in ["a", "b", "c", "d", "b"] {
        let raw = http::request("POST", &format!("/notify/{name}"), &[], name.as_bytes());
        keep(&gateway, &raw).await;
    }
    assert_eq!(bodies(&gateway, "a").await, ["a"]);
    assert_eq!(bodies(&gateway, "b").await, ["b", "b"]);
    assert_eq!(bodies(&gateway, "default").await, ["c", "d"]);
}

#[tokio::test]
async fn new_streams_asked_for_at_once_do_not_exceed_the_limit() {
    let gateway = Setup::new().set("STORE__MAX_STREAMS", "3").start().await;
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..12 {
        let raw = http::request("POST", &format!("/notify/s{n}"), &[], b"{}");
        let to = gateway.intake;
        sending.spawn(async move { http::once(to, &raw).await.status });
    }
    assert_eq!(sending.join_all().await, [204; 12]);
    let status = gateway.status().await;
    assert_eq!(status["streams"].as_array().unwrap().len(), 3);
}
