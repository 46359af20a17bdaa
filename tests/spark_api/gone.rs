//! Records that are not there any more, and why.

use serde_json::Value;

use super::support::{Api, fill_large};
use crate::common::gateway::{DEADLINE, Setup};

/// What the stream says of itself once `is_so`. Deleting is the committer's own
/// affair: it is done soon, not at once.
async fn until(api: &Api, is_so: impl Fn(&Value) -> bool) -> Value {
    let told = async {
        loop {
            let stream = api.stream("default").await;
            if is_so(&stream) {
                return stream;
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("nothing was deleted")
}

#[tokio::test]
async fn acknowledged_by_every_consumer_is_410_with_where_to_go_on() {
    let gateway = Setup::new().set("STORE__SEGMENT_BYTES", "1MiB").start().await;
    let api = Api::of(&gateway);
    fill_large(&gateway, 25).await;
    api.acknowledge("slow", 0).await;
    api.acknowledge("job", 25).await;
    assert_eq!(api.records("from=0&max_bytes=1").await.numbers(), [0], "one still holds it");

    api.acknowledge("slow", 25).await;
    let stream = until(&api, |stream| stream["earliest"].as_u64() > Some(0)).await;
    let earliest = stream["earliest"].as_u64().unwrap();
    let gone = api.records("from=0").await;
    assert_eq!(gone.status, 410);
    let gone = gone.json();
    assert_eq!((&gone["error"], &gone["reason"]), (&"Gone".into(), &"acknowledged".into()));
    assert!(gone["earliest"].as_u64().unwrap() >= earliest);
    // Following it leads to what is left, however much that still is.
    let mut from = earliest;
    let answer = loop {
        let answer = api.records(&format!("from={from}&max_bytes=1")).await;
        if answer.status == 200 {
            break answer;
        }
        from = answer.json()["earliest"].as_u64().unwrap();
    };
    assert_eq!(answer.numbers().first(), (from < 25).then_some(&from));
}

#[tokio::test]
async fn evicted_by_retention_is_410_and_counted() {
    let gateway = Setup::new().set("STORE__MAX_BYTES", "2MiB").start().await;
    let api = Api::of(&gateway);
    fill_large(&gateway, 40).await;
    let stream = until(&api, |stream| {
        stream["earliest"].as_u64() > Some(0)
            && stream["bytes"].as_u64() <= stream["max_bytes"].as_u64()
    })
    .await;
    let gone = api.packed("from=0").await;
    assert_eq!(gone.status, 410);
    let gone = gone.json();
    assert_eq!(gone["reason"], "evicted");
    assert_eq!(stream["evicted"]["records"], gone["earliest"]);
    assert!(gateway.log().contains("records evicted by retention"));
    let first = api.records(&format!("from={}&max_bytes=1", gone["earliest"])).await;
    assert_eq!(first.numbers(), [gone["earliest"].as_u64().unwrap()]);
}
