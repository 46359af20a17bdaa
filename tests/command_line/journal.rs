//! What the journal reads from a service's standard error.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::common::gateway::Setup;

/// As systemd names the stream that the journal reads.
fn stream(file: &File) -> String {
    let stat = file.metadata().unwrap();
    format!("{}:{}", stat.dev(), stat.ino())
}

/// The log of a start, where standard error is that stream for the journal.
async fn log_of_a_start(named: impl FnOnce(&File) -> String) -> String {
    // With a configuration nothing is printed to paste.
    let setup = Setup::new();
    let configuration = setup.write("gateway.toml", "");
    let setup = setup.set("CONFIG", configuration.to_str().unwrap());
    let file = File::options().create(true).append(true).open(setup.log_file()).unwrap();
    let mut command = setup.command(["run"]);
    command.env("JOURNAL_STREAM", named(&file));
    let (setup, ended) = setup.start_as(command).await.stop().await;
    assert!(ended.success());
    setup.log()
}

#[tokio::test]
async fn every_line_carries_a_priority_and_no_time_where_the_journal_reads_them() {
    let log = log_of_a_start(stream).await;
    let ready = log.lines().find(|line| line.contains(" ready ") || line.starts_with("<6>ready"));
    let ready = ready.unwrap_or_else(|| panic!("{log}"));
    assert!(ready.contains("intake=127.0.0.1:"), "{ready}");
    for line in log.lines() {
        let priority = line.as_bytes();
        assert!(
            priority[0] == b'<' && priority[2] == b'>' && priority[1].is_ascii_digit(),
            "{log}"
        );
        let said = line[3..].trim_start();
        let has_time = said.starts_with(|first: char| first.is_ascii_digit());
        assert!(!has_time && !line.contains("INFO"), "a time or a level: {line}");
    }
}

#[tokio::test]
async fn a_service_whose_standard_error_goes_elsewhere_writes_for_people() {
    for other in ["1:1", "nonsense", ""] {
        let log = log_of_a_start(|_| other.to_owned()).await;
        assert!(log.contains("INFO ready") && !log.contains("<6>"), "{other}: {log}");
    }
}

#[tokio::test]
async fn each_line_of_an_event_has_its_priority_and_cannot_look_like_an_event() {
    let setup = Setup::new();
    let file = setup.write("gateway.toml", "[intake]\nlisen = \"127.0.0.1:8061\"\n");
    let log = File::create(setup.log_file()).unwrap();
    let mut command = setup.command(["check", "--startup"]);
    command.env("NGSI_FERRY_CONFIG", file).env("JOURNAL_STREAM", stream(&log)).stderr(log);
    assert_eq!(command.status().await.unwrap().code(), Some(1));
    let log = setup.log();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("<3>") && lines[0].contains("lisen is not a setting"), "{log}");
    assert!(lines.len() > 1 && lines[1].contains("lisen = "), "an excerpt: {log}");
    assert!(lines[1..].iter().all(|line| line.starts_with("<3>  ")), "{log}");
}

#[tokio::test]
async fn a_start_that_fails_is_told_as_an_error_and_not_repeated_at_once() {
    let setup = Setup::new().set("INTAKE__LISTEN", "everywhere");
    for command in [&["check", "--startup"][..], &["run"]] {
        let log = File::create(setup.log_file()).unwrap();
        let mut command = setup.command(command);
        command.env("JOURNAL_STREAM", stream(&log)).stderr(log);
        let begun = Instant::now();
        assert_eq!(command.status().await.unwrap().code(), Some(1));
        // systemd starts it again a second later, and each time is lines.
        assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
        let log = setup.log();
        assert!(log.starts_with("<3>") && log.contains("NGSI_FERRY_INTAKE__LISTEN"), "{log}");
    }
}
