//! A disk that hangs: the data directory on a file system that is frozen
//! (`fsfreeze`), whose writes and syncs then block in the kernel, where not
//! even kill -9 reaches them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::held_socket::HeldSocket;
use super::manager::Manager;
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::notification::Notification;

/// An ext4 file system in a file, mounted on a loop device.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// None, and why, where this may not mount.
    fn new() -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = tempfile::Builder::new().prefix("disk").tempdir_in(target).unwrap();
        let disk = Self { folder };
        let (image, mounted) = (disk.folder.path().join("image"), disk.mounted());
        std::fs::create_dir(&mounted).unwrap();
        std::fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).unwrap();
        let made = run("mkfs.ext4", &["-q", "-F"], &[&image])
            .and_then(|()| run("mount", &["-o", "loop"], &[&image, &mounted]))
            .and_then(|()| disk.thaws_after_freezing());
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("skipped: needs root, mkfs.ext4, a loop device and fsfreeze: {why}");
                None
            }
        }
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn thaws_after_freezing(&self) -> Result<(), String> {
        self.freeze("-f")?;
        self.freeze("-u")
    }

    fn freeze(&self, how: &str) -> Result<(), String> {
        run("fsfreeze", &[how], &[&self.mounted()])
    }

    fn setup(&self) -> Setup {
        let data = self.mounted().join("data");
        let setup = Setup::new().set("DATA_DIR", data.to_str().unwrap());
        // Free space is none of this test's business.
        setup.set("STORE__MIN_FREE", "1MiB").set("STORE__STUCK_AFTER", "4s")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.freeze("-u");
        let _ = run("umount", &["-l"], &[&self.mounted()]);
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).args(paths).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {text}")) }
}

/// Waits until something is so, which nobody tells of.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn notification(gateway: &Gateway, number: u64) -> Vec<u8> {
    Notification::reading(number).to_bytes(gateway.intake, "/notify", &number.to_string())
}

#[tokio::test]
async fn a_log_that_stands_still_is_told_of_and_ends_the_process() {
    let Some(disk) = Disk::new() else { return };
    let mut manager = Manager::new();
    let gateway = manager.start(disk.setup()).await;
    for number in 0..3 {
        assert_eq!(http::once(gateway.intake, &notification(&gateway, number)).await.status, 204);
    }
    manager.waits_for("WATCHDOG=1").await;

    disk.freeze("-f").unwrap();
    let mut waiting = Client::connect(gateway.intake).await.unwrap();
    waiting.send(&notification(&gateway, 3)).await.unwrap();
    // Told of by /ready, with the log's name, while it still runs.
    let mut problems = String::new();
    until("/ready is 503", async || {
        let ready = http::once(gateway.admin, &http::bare_request("GET", "/ready")).await;
        problems = ready.text();
        ready.status == 503
    })
    .await;
    assert!(problems.contains("the writing of log default"), "{problems}");
    // From here on systemd hears no more that all is well.
    manager.drain();
    let live = http::once(gateway.admin, &http::bare_request("GET", "/live")).await;
    assert_eq!(live.status, 200);

    // Then it ends: an ERROR line, and nobody is kept waiting, though the
    // kernel keeps the process until the disk answers.
    until("nobody listens", async || Client::connect(gateway.intake).await.is_err()).await;
    assert!(waiting.try_answer().await.is_ok_and(|answer| answer.is_none()));
    assert_eq!(manager.drain(), 0, "systemd was told that all is well");
    let log = gateway.log();
    let last_words = log.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    assert!(
        last_words.contains("the writing of log default") && last_words.contains("dmesg"),
        "{log}"
    );

    disk.freeze("-u").unwrap();
    let (setup, ended) = gateway.ends().await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let gateway = manager.start(setup).await;
    let records = gateway.records("default", 0).await.len();
    assert!(records >= 3, "{records} of the 3 that were acknowledged");
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_socket_that_systemd_holds_outlives_a_gateway_that_stands_still() {
    let Some(disk) = Disk::new() else { return };
    let held = HeldSocket::new();
    let gateway = held.start(disk.setup()).await;
    let to = held.address();
    assert_eq!(http::once(to, &notification(&gateway, 0)).await.status, 204);
    disk.freeze("-f").unwrap();
    let mut waiting = Client::connect(to).await.unwrap();
    waiting.send(&notification(&gateway, 1)).await.unwrap();
    let admin = gateway.admin;
    until("nobody listens", async || Client::connect(admin).await.is_err()).await;
    // Its own connections ended; whoever comes now waits for the next one.
    assert!(waiting.try_answer().await.is_ok_and(|answer| answer.is_none()));
    let mut next = Client::connect(to).await.expect("shut for the next gateway too");
    next.send(&notification(&gateway, 2)).await.unwrap();

    disk.freeze("-u").unwrap();
    let (setup, ended) = gateway.ends().await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let gateway = held.start(setup).await;
    assert_eq!(next.answer().await.unwrap().status, 204);
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_disk_that_answers_again_in_time_ends_nothing() {
    let Some(disk) = Disk::new() else { return };
    let mut manager = Manager::new();
    let gateway = manager.start(disk.setup().set("STORE__STUCK_AFTER", "20s")).await;
    assert_eq!(http::once(gateway.intake, &notification(&gateway, 0)).await.status, 204);
    disk.freeze("-f").unwrap();
    let mut waiting = Client::connect(gateway.intake).await.unwrap();
    waiting.send(&notification(&gateway, 1)).await.unwrap();
    let ready = http::bare_request("GET", "/ready");
    until("/ready is 503", async || http::once(gateway.admin, &ready).await.status == 503).await;
    disk.freeze("-u").unwrap();
    assert_eq!(waiting.answer().await.unwrap().status, 204);
    until("/ready is 200", async || http::once(gateway.admin, &ready).await.status == 200).await;
    manager.drain();
    manager.waits_for("WATCHDOG=1").await;
    assert!(gateway.stop().await.1.success());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_also_while_the_logs_are_sealed() {
    let Some(disk) = Disk::new() else { return };
    let gateway = disk.setup().set("STORE__STUCK_AFTER", "50s").start().await;
    assert_eq!(http::once(gateway.intake, &notification(&gateway, 0)).await.status, 204);
    disk.freeze("-f").unwrap();
    gateway.signal("TERM");
    // Nothing is in flight: once nobody listens, the logs are being sealed.
    until("nobody listens", async || Client::connect(gateway.intake).await.is_err()).await;
    let begun = Instant::now();
    gateway.signal("TERM");
    until("the end is said", async || gateway.log().contains("ending at once")).await;
    // The sealing would have been waited for 10 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{}", gateway.log());
    disk.freeze("-u").unwrap();
    let (_, ended) = gateway.ends().await;
    assert_eq!(ended.code(), Some(1));
}
