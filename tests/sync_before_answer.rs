//! No answer before the sync that covers it: the system calls of the real
//! program, in their order.

mod common;

#[path = "sync_before_answer/trace.rs"]
mod trace;

use std::ffi::OsString;
use std::path::PathBuf;

use common::gateway::{Gateway, Setup};
use common::http::{self, Client};
use common::orion::notification::Notification;
use serde_json::{Value, json};
use tokio::process::Command;
use trace::Trace;

/// The calls that receive, send, write and sync.
const CALLS: &str = "read,recvfrom,recvmsg,readv,write,writev,sendto,sendmsg,pwrite64,\
                     pwritev,fdatasync,fsync,sync_file_range";

/// Starts the gateway under strace; `None`, and why, where that cannot be.
async fn traced(setup: Setup) -> Option<(Gateway, PathBuf)> {
    let probe =
        std::process::Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if let Some(why) = match probe {
        Err(error) => Some(format!("strace: {error}")),
        Ok(probe) if !probe.status.success() => {
            Some(String::from_utf8_lossy(&probe.stderr).into_owned())
        }
        Ok(_) => None,
    } {
        eprintln!("skipped: {why}");
        return None;
    }
    let file = setup.folder().join("trace");
    let own = setup.command(["run"]);
    let own = own.as_std();
    let mut command = Command::new("strace");
    let options = ["-f", "-y", "-s", "64", "-e", "signal=none", "-e"].map(OsString::from);
    command.args(options).arg(format!("trace={CALLS}")).arg("-o").arg(&file);
    command.arg(own.get_program()).args(own.get_args()).current_dir(setup.folder());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some((setup.start_as(command).await, file))
}

/// Stops the gateway, not strace, and reads what strace wrote.
async fn read(gateway: Gateway, file: PathBuf) -> Trace {
    let status = gateway.status().await;
    let pid = status["pid"].as_u64().unwrap().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(sent.success());
    let (setup, ended) = gateway.ends().await;
    assert!(ended.success(), "{ended:?}\n{}", setup.log());
    Trace::parse(&std::fs::read_to_string(file).unwrap())
}

#[tokio::test]
async fn no_notification_is_answered_before_its_sync_has_returned() {
    let Some((gateway, file)) = traced(Setup::new()).await else { return };
    let mut client = Client::connect(gateway.intake).await.unwrap();
    for number in 0..30 {
        let raw = Notification::reading(number).to_bytes(gateway.intake, "/notify", "c");
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
    let trace = read(gateway, file).await;
    let answers = trace.answers("POST /notify", "HTTP/1.1 204", "/streams/default/segments/");
    assert_eq!(answers.len(), 30);
    for answer in answers {
        assert!(answer.is_synced(), "{answer}");
    }
}

#[tokio::test]
async fn under_load_every_answer_has_a_sync_that_began_behind_its_request() {
    let Some((gateway, file)) = traced(Setup::new()).await else { return };
    let to = gateway.intake;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        senders.spawn(async move {
            let mut client = Client::connect(to).await.unwrap();
            for number in 0..20 {
                let number = sender * 100 + number;
                let raw = Notification::reading(number).to_bytes(to, "/notify", "c");
                assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
            }
        });
    }
    senders.join_all().await;
    let trace = read(gateway, file).await;
    let answers = trace.answers("POST /notify", "HTTP/1.1 204", "/streams/default/segments/");
    assert_eq!(answers.len(), 160);
    for answer in answers {
        assert!(answer.is_synced(), "{answer}");
    }
}

#[tokio::test]
async fn no_write_back_is_answered_before_its_sync_has_returned() {
    let setup = Setup::new().set("PASS_THROUGH__LISTEN", "127.0.0.1:0");
    let Some((gateway, file)) = traced(setup).await else { return };
    let text = std::fs::read(gateway.setup().folder().join("addresses.json")).unwrap();
    let addresses: Value = serde_json::from_slice(&text).unwrap();
    let to = addresses["pass_through"].as_str().unwrap().parse().unwrap();
    let mut client = Client::connect(to).await.unwrap();
    for number in 0..10 {
        let body = json!({"n": {"value": number}});
        let raw = http::json_request("PATCH", "/v2/entities/urn:a/attrs", &body);
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
    let trace = read(gateway, file).await;
    let answers = trace.answers("PATCH /v2/entities", "HTTP/1.1 204", "/write-backs/segments/");
    assert_eq!(answers.len(), 10);
    for answer in answers {
        assert!(answer.is_synced(), "{answer}");
    }
}
