//! What systemd hears of a gateway that is well.

use std::time::{Duration, Instant};

use super::manager::{Manager, WATCHDOG};
use crate::common::gateway::Setup;
use crate::common::http;
use crate::common::orion::notification::Notification;
use crate::common::orion::reserve;

#[tokio::test]
async fn systemd_hears_ready_once_notifications_are_taken_then_reloads_and_the_stop() {
    let (mut manager, setup) = (Manager::new(), Setup::new());
    // A port of its own choice, known before it is ready: a connection made
    // the moment READY=1 comes must be served.
    let (_reserved, free) = reserve(0).unwrap();
    let setup = setup.set("INTAKE__LISTEN", &free.to_string());
    let starting = tokio::spawn({
        let command = manager.command(&setup);
        setup.start_as(command)
    });
    manager.waits_for("READY=1").await;
    let notification = Notification::reading(1).to_bytes(free, "/notify", "c");
    assert_eq!(http::once(free, &notification).await.status, 204);
    let gateway = starting.await.unwrap();

    gateway.signal("HUP");
    let message = manager.waits_for("RELOADING=1").await;
    assert!(message.contains("MONOTONIC_USEC="), "{message}");
    manager.waits_for("READY=1").await;

    let stopped = tokio::spawn(gateway.stop());
    manager.waits_for("STOPPING=1").await;
    assert!(stopped.await.unwrap().1.success());
}

#[tokio::test]
async fn systemd_is_asked_for_the_time_that_the_configuration_allows() {
    let mut manager = Manager::new();
    let setup = Setup::new().set("DRAIN_TIMEOUT", "3m").set("STORE__STUCK_AFTER", "1m");
    let gateway = manager.start(setup).await;
    // Longer than the most patient part may stand still.
    manager.waits_for("WATCHDOG_USEC=240000000").await;
    let stopped = tokio::spawn(gateway.stop());
    let message = manager.waits_for("STOPPING=1").await;
    // And the sealing of the logs.
    assert!(message.contains("EXTEND_TIMEOUT_USEC=195000000"), "{message}");
    assert!(stopped.await.unwrap().1.success());
}

#[tokio::test]
async fn a_gateway_with_nothing_to_do_is_well_for_longer_than_anything_may_stand_still() {
    let mut manager = Manager::new();
    let gateway = manager.start(Setup::new().set("STORE__STUCK_AFTER", "2s")).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let told = manager.hears_within(WATCHDOG).await;
        assert!(told.is_some(), "systemd would have ended it\n{}", gateway.log());
    }
    let ready = http::once(gateway.admin, &http::bare_request("GET", "/ready")).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(gateway.stop().await.1.success());
}

/// Longer than half of what anything may stand still.
#[tokio::test]
async fn an_orion_that_takes_a_request_and_never_answers_is_no_standstill() {
    let orion = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", orion.local_addr().unwrap());
    let mut manager = Manager::new();
    let setup = Setup::new().set("STORE__STUCK_AFTER", "4s").set("ORION__TIMEOUT", "12s");
    let gateway = manager.start(setup.set("ORION__URL", &url)).await;
    let url = gateway.spark_url("/v2/entities/urn:Press:1/attrs");
    let patch = gateway.spark_client().patch(url).header("content-type", "application/json");
    let body = r#"{"setpoint":{"type":"Number","value":180}}"#;
    assert_eq!(patch.body(body).send().await.unwrap().status(), 204);
    let _first = orion.accept().await.unwrap();
    let second = orion.accept();
    tokio::pin!(second);
    while tokio::time::timeout(Duration::ZERO, &mut second).await.is_err() {
        let told = manager.hears_within(WATCHDOG).await;
        assert!(told.is_some(), "systemd would have ended it\n{}", gateway.log());
    }
}

#[tokio::test]
async fn a_process_that_was_stopped_for_a_while_goes_on() {
    let mut manager = Manager::new();
    let gateway = manager.start(Setup::new().set("STORE__STUCK_AFTER", "2s")).await;
    manager.waits_for("WATCHDOG=1").await;
    gateway.signal("STOP");
    // What it had told before.
    while manager.hears_within(WATCHDOG).await.is_some() {}
    // Silent for longer than anything may stand still.
    assert_eq!(manager.hears_within(Duration::from_secs(5)).await, None);
    gateway.signal("CONT");
    for _ in 0..5 {
        manager.waits_for("WATCHDOG=1").await;
    }
    let notification = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    assert_eq!(http::once(gateway.intake, &notification).await.status, 204);
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn without_systemd_nothing_is_told_and_nothing_is_missing() {
    let gateway = Setup::new().set("STORE__STUCK_AFTER", "2s").start().await;
    let ready = http::once(gateway.admin, &http::bare_request("GET", "/ready")).await;
    assert_eq!(ready.status, 200);
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_manager_that_does_not_listen_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    // Never read: the kernel keeps a few messages, and then blocks.
    let _deaf = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let setup = Setup::new().set("STORE__STUCK_AFTER", "2s");
    let mut command = setup.command(["run"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let gateway = setup.start_as(command).await;
    let teller = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
        let mut threads = tasks.filter_map(|task| Some(task.ok()?.path()));
        let is_it = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "systemd")
        };
        // It is there with the first message.
        let path = threads.find(is_it).map(|path| path.join("wchan"));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !teller().contains("unix") && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let notification = Notification::reading(1).to_bytes(gateway.intake, "/notify", "c");
    assert_eq!(http::once(gateway.intake, &notification).await.status, 204);
    let ready = http::once(gateway.admin, &http::bare_request("GET", "/ready")).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    gateway.signal("HUP");
    assert!(gateway.stop().await.1.success());
}
