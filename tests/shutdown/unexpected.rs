//! Ends that are not orderly.

use std::time::{Duration, Instant};

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::notification::Notification;

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let gateway = Gateway::start().await;
    let whole = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    let mut half = Client::connect(gateway.intake).await.unwrap();
    half.send(&whole[..whole.len() - 5]).await.unwrap();
    assert_eq!(http::once(gateway.intake, &whole).await.status, 204);
    gateway.signal("TERM");
    // The second one counts once the first was heard.
    while Client::connect(gateway.intake).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let (setup, ended) = gateway.stop().await;
    assert!(!ended.success(), "{ended:?}");
    // The drain would have taken 20 s.
    assert!(begun.elapsed() < Duration::from_secs(10), "{}", setup.log());
    let gateway = setup.start().await;
    assert_eq!(gateway.records("default", 0).await.len(), 1);
}

/// What is told of the addresses goes into a pipe, which holds the start up in
/// the moment before anyone knows that the gateway runs.
#[tokio::test]
async fn a_stop_and_a_reload_in_the_moment_of_the_start_are_heard() {
    let setup = Setup::new();
    let pipe = setup.folder().join("addresses.new");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (command, log) = (setup.command(["run"]), setup.log_file());
    let says_ready = async move {
        while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains(" ready")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let Err(process) = setup.start_unless(command, says_ready).await else {
        panic!("it told its addresses into a pipe that nobody reads")
    };
    process.signal("HUP");
    process.signal("TERM");
    // To write too, so that this waits for nobody where the gateway has ended.
    let _reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let (setup, ended) = process.ends().await;
    assert!(ended.success(), "{ended:?}\n{}", setup.log());
}

#[tokio::test]
async fn a_gateway_that_cannot_listen_says_so_and_fails() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Setup::new().set("INTAKE__LISTEN", &address).command(["run"]).output();
    let output = output.await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("INTAKE__LISTEN") && text.contains("cannot listen"), "{text}");
}

#[tokio::test]
async fn two_gateways_on_one_data_directory_are_refused() {
    let gateway = Gateway::start().await;
    let second = gateway.setup().command(["run"]).output().await.unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("another ngsi-ferry"), "{text}");
    let whole = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    assert_eq!(http::once(gateway.intake, &whole).await.status, 204);
}
