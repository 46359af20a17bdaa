//! `ngsi-ferry status`.

use super::support::{ok, post, run};
use crate::common::gateway::{Gateway, Setup};

#[tokio::test]
async fn a_running_gateway_is_shown_as_a_table_and_as_json() {
    let gateway = Gateway::start().await;
    for n in 0..3 {
        post(&gateway, "/notify/press", &format!("{{\"n\":{n}}}")).await;
    }
    let url = gateway.spark_url("/v1/streams/press/consumers/job");
    let put = gateway.spark_client().put(url).body("{\"position\":1}").send().await.unwrap();
    assert_eq!(put.status(), 200);

    let said = ok(gateway.setup(), &["status"]).await.out;
    let words = |starts: &str| -> Vec<String> {
        let line = said.lines().find(|line| line.starts_with(starts));
        let line = line.unwrap_or_else(|| panic!("no {starts} in\n{said}"));
        line.split_whitespace().map(ToOwned::to_owned).collect()
    };
    assert!(said.contains(&format!("process {}", gateway.pid())), "{said}");
    assert_eq!(
        words("STREAM"),
        ["STREAM", "RECORDS", "ON", "DISK", "LIMIT", "OLDEST", "NEXT", "EVICTED", "LOST"]
    );
    assert_eq!(words("press")[1], "3");
    assert_eq!(words("job")[1..4], ["press", "1", "2"]);
    assert!(said.contains("Write-backs: 0 waiting, 0 dead letters"), "{said}");
    assert!(said.contains("Orion "), "{said}");

    let json = ok(gateway.setup(), &["status", "--json"]).await.json();
    assert_eq!(json["pid"], gateway.pid());
    assert_eq!(json["streams"][1]["consumers"][0]["lag"], 2);
}

#[tokio::test]
async fn a_stopped_gateways_store_is_shown_and_one_that_never_ran_is_said_so() {
    let said = run(&Setup::new(), &["status"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("no gateway runs, and there is no data in"), "{said:?}");

    let gateway = Gateway::start().await;
    post(&gateway, "/notify", "{}").await;
    let (setup, _) = gateway.stop().await;
    let said = ok(&setup, &["status"]).await.out;
    assert!(said.contains("no gateway runs; this is what its store holds"), "{said}");
    let json = ok(&setup, &["status", "--json"]).await.json();
    assert_eq!((&json["pid"], &json["streams"][0]["records"]), (&().into(), &1.into()));
    // Looking does not change what a start finds.
    let gateway = setup.start().await;
    assert_eq!(gateway.records("default", 0).await.len(), 1);
}
