//! The documentation's commands do what it says, as they stand.

mod common;

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use common::gateway::Gateway;

/// The blocks of shell in a page, one after the other.
fn shell_of(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap()).collect()
}

#[tokio::test]
async fn the_api_page_can_be_pasted_into_a_shell_from_top_to_bottom() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    shell.arg("-euo").arg("pipefail").arg("-c").arg(shell_of("api.md")).current_dir(&folder);
    shell.env("GATEWAY", gateway.spark_url("")).env("PKI", gateway.setup().data_dir().join("pki"));
    shell.env("INTAKE", format!("http://{}", gateway.intake)).env("no_proxy", "*");
    let ran = shell.output().await.unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{complained}");
    for expected in [
        "\"body\":\"{\\\"subscriptionId\\\"",
        "\"staged\":true",
        "\"committed\":true,\"done\":\"before\"",
        "\"aborted\":true",
        "\"position\":1",
    ] {
        let answers = said.replace(": ", ":");
        assert!(answers.contains(expected), "{expected} is not in\n{said}");
    }
    let stream = gateway.spark_client().get(gateway.spark_url("/v1/streams/press"));
    let stream: Value =
        serde_json::from_str(&stream.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!((&stream["consumers"][0]["name"], &stream["next"]), (&"job".into(), &1.into()));
}
