//! Who may do what, once connected.

use std::path::Path;

use super::support::{Api, fill, post};
use crate::common::gateway::{DEADLINE, Gateway, Setup};

const WRITE: &str = "/v2/entities/a/attrs";

async fn client(gateway: &Gateway, name: &str) -> Api {
    let made = gateway.setup().command(["pki", "client", name]).output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let pki = gateway.setup().data_dir().join("pki");
    let file = |kind: &str| pki.join(format!("{name}.{kind}"));
    let (cert, key) = (file("pem"), file("key"));
    Api::with(gateway, gateway.spark_client_with(Some((&cert, &key))))
}

async fn statuses(api: &Api, headers: &[(&str, &str)]) -> [u16; 5] {
    let mut statuses = [0; 5];
    let write = "{\"a\":{\"value\":1}}";
    for (at, (method, path, body)) in [
        ("GET", "/v1/streams/press", ""),
        ("GET", "/v1/streams/default/records?from=0", ""),
        ("PUT", "/v1/streams/press/consumers/job", "{\"position\":0}"),
        ("PATCH", WRITE, write),
        ("PUT", "/v1/write-backs/q/1/a", ""),
    ]
    .into_iter()
    .enumerate()
    {
        statuses[at] = api.ask_with(method, path, body, headers).await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn a_listed_client_may_do_what_is_listed_and_an_unlisted_one_nothing() {
    let setup = Setup::new()
        .set("CLIENT__0__NAME", "reader")
        .set("CLIENT__0__ALLOW", "[\"read\"]")
        .set("CLIENT__0__STREAMS", "[\"press\"]")
        .set("CLIENT__1__NAME", "writer")
        .set("CLIENT__1__ALLOW", "[\"write-back\"]")
        .set("CLIENT__2__NAME", "job")
        .set("CLIENT__2__ALLOW", "[\"read\", \"acknowledge\"]");
    let gateway = setup.start().await;
    post(&gateway, "/notify/press", b"{}").await;
    fill(&gateway, 1).await;
    let reader = client(&gateway, "reader").await;
    assert_eq!(statuses(&reader, &[]).await, [200, 403, 403, 403, 403]);
    let listed = reader.get("/v1/streams").await.json();
    assert_eq!(listed["streams"].as_array().unwrap().len(), 1);
    let writer = client(&gateway, "writer").await;
    assert_eq!(statuses(&writer, &[]).await, [403, 403, 403, 204, 200]);
    let job = client(&gateway, "job").await;
    assert_eq!(statuses(&job, &[]).await, [200, 200, 200, 403, 403]);
    let unlisted = Api::of(&gateway);
    assert_eq!(statuses(&unlisted, &[]).await, [403; 5]);
    // Not even whether a stream exists is told to who may not read it.
    assert_eq!(reader.get("/v1/streams/none").await.status, 403);
    let refused = unlisted.get("/v1/streams").await.json();
    assert!(refused["description"].to_string().contains("client is not granted"), "{refused}");
}

#[tokio::test]
async fn a_token_names_its_client_and_a_wrong_one_is_401() {
    let setup = Setup::new()
        .set_file("SPARK__TOKEN_FILE", "# jobs\nreader 0123456789abcdef\nother fedcba9876543210\n")
        .set("CLIENT__0__NAME", "reader")
        .set("CLIENT__0__ALLOW", "[\"read\"]");
    let gateway = setup.start().await;
    post(&gateway, "/notify/press", b"{}").await;
    let api = Api::with(&gateway, gateway.spark_client_with(None));
    let bearer = |token| [("Authorization", token)];
    assert_eq!(statuses(&api, &bearer("Bearer 0123456789abcdef")).await, [200, 200, 403, 403, 403]);
    assert_eq!(statuses(&api, &bearer("Bearer fedcba9876543210")).await, [403; 5]);
    for wrong in
        ["Bearer 0123456789abcdeg", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef"]
    {
        assert_eq!(statuses(&api, &bearer(wrong)).await, [401; 5], "{wrong}");
    }
    let refused = api.get("/v1/streams").await;
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
}

async fn until(api: &Api, status: u16) {
    let changed = async { while api.get("/v1/streams").await.status != status {} };
    tokio::time::timeout(DEADLINE, changed).await.unwrap_or_else(|_| panic!("never {status}"));
}

#[tokio::test]
async fn a_denied_name_is_shut_out_on_sighup_even_on_a_connection_that_is_open() {
    let setup = Setup::new().set_file("SPARK__DENY_FILE", "# nobody yet\n");
    let denied = setup.folder().join("spark__deny_file");
    let gateway = setup.start().await;
    let (own, other) = (Api::of(&gateway), client(&gateway, "other").await);
    until(&own, 200).await;
    write(&denied, "Client # lost\n");
    assert_eq!(own.get("/v1/streams").await.status, 200, "not before SIGHUP");
    gateway.signal("HUP");
    until(&own, 401).await;
    assert_eq!(other.get("/v1/streams").await.status, 200);
    write(&denied, "");
    gateway.signal("HUP");
    until(&own, 200).await;
}

#[tokio::test]
async fn new_tokens_count_after_sighup_and_a_bad_file_changes_nothing() {
    let setup = Setup::new().set_file("SPARK__TOKEN_FILE", "old 0123456789abcdef\n");
    let tokens = setup.folder().join("spark__token_file");
    let gateway = setup.start().await;
    let api = Api::with(&gateway, gateway.spark_client_with(None));
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        api.ask_with("GET", "/v1/streams", "", &headers).await.status.as_u16()
    };
    assert_eq!(ask("0123456789abcdef").await, 200);
    write(&tokens, "short\n");
    gateway.signal("HUP");
    let said = async {
        while !gateway.log().contains("tokens and grants are not taken over") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, said).await.expect("nothing is said");
    assert_eq!(ask("0123456789abcdef").await, 200);
    assert!(!gateway.log().contains("short\n"), "a token is not to be shown");
    write(&tokens, "new fedcba9876543210\n");
    gateway.signal("HUP");
    let taken = async { while ask("fedcba9876543210").await != 200 {} };
    tokio::time::timeout(DEADLINE, taken).await.unwrap();
    assert_eq!(ask("0123456789abcdef").await, 401);
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}
