//! What the tests of the command line share.

use std::process::Output;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Runs a command with the settings of a setup.
pub async fn run(setup: &Setup, arguments: &[&str]) -> Said {
    setup.command(arguments).output().await.unwrap().into()
}

/// As [`run`], and insists on success.
pub async fn ok(setup: &Setup, arguments: &[&str]) -> Said {
    let said = run(setup, arguments).await;
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    said
}

pub async fn post(gateway: &Gateway, path: &str, body: &str) {
    let raw = http::request("POST", path, &[], body.as_bytes());
    assert_eq!(http::once(gateway.intake, &raw).await.status, 204);
}
