//! Nothing here needs a client of ours: curl is one.

use tokio::process::Command;

use super::support::{Api, fill};
use crate::common::gateway::{Gateway, Setup};

async fn curl(gateway: &Gateway, arguments: &[&str], path: &str) -> Vec<u8> {
    let pki = gateway.setup().data_dir().join("pki");
    let mut command = Command::new("curl");
    command.args(["-sSf", "--noproxy", "*", "--cacert"]).arg(pki.join("ca.pem"));
    command.arg("--cert").arg(pki.join("client.pem")).arg("--key").arg(pki.join("client.key"));
    let output = command.args(arguments).arg(gateway.spark_url(path)).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[tokio::test]
async fn curl_is_a_consumer() {
    let gateway = Setup::new().set("STORE__LINGER", "30ms").start().await;
    for _ in 0..3 {
        fill(&gateway, 20).await;
    }
    let api = Api::of(&gateway);
    let expected = api.records("from=0").await.body;
    let path = "/v1/streams/default/records?from=0&wait=5";
    let compressed = curl(&gateway, &["--compressed"], path).await;
    assert_eq!(compressed, expected);
    assert_eq!(curl(&gateway, &[], path).await, expected);
    let acknowledge = ["-X", "PUT", "-d", "{\"position\":60}"];
    curl(&gateway, &acknowledge, "/v1/streams/default/consumers/curl").await;
    assert_eq!(api.stream("default").await["consumers"][0]["lag"], 0);
}
