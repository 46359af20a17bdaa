//! A process that is killed while it writes: what it said was kept is kept,
//! and no number is given out twice.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use ngsi_ferry::store::HoleReason;

use crate::support::{append, config, default_log, folder, id_of, notification, open, read_on};

const FOLDER: &str = "NGSI_FERRY_CRASH_TEST_FOLDER";
const SEGMENT_BYTES: &str = "NGSI_FERRY_CRASH_TEST_SEGMENT_BYTES";

/// Not a test: the process that is killed. It appends for ever and tells the
/// number of each record that was acknowledged to it.
#[tokio::test]
#[ignore = "the child of the tests below"]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let segment_bytes = std::env::var(SEGMENT_BYTES).unwrap().parse().unwrap();
    let store = open(Path::new(&folder), &ngsi_ferry::store::Config { segment_bytes, ..config() });
    let log = default_log(&store);
    let mut out = std::io::stdout().lock();
    for id in log.bounds().next.. {
        let range = append(&log, &[notification(id, 300)]).await;
        writeln!(out, "\nacknowledged {}", range.start).unwrap();
    }
}

/// This program again; one that was built for another machine is started by
/// what runs it here.
fn this_program() -> Command {
    let this = std::env::current_exe().unwrap();
    let Some(runner) = std::env::var_os("FERRY_TEST_RUNNER") else {
        return Command::new(this);
    };
    let mut command = Command::new(runner);
    command.arg(this);
    command
}

/// Runs the child until it told of `records`, and kills it. Returns the
/// numbers it told of.
fn run_and_kill(folder: &Path, segment_bytes: u64, records: usize) -> Vec<u64> {
    let mut child = this_program()
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(SEGMENT_BYTES, segment_bytes.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
        .take(records)
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    told
}

#[tokio::test]
async fn numbers_go_on_above_the_reserved_block_after_an_unclean_end() {
    let dir = folder();
    let told = run_and_kill(dir.path(), 16 << 20, 20);
    assert_eq!(told, (0..20).collect::<Vec<_>>());

    let store = open(dir.path(), &config());
    let log = default_log(&store);
    let next = log.bounds().next;
    assert!(next >= 1 << 16, "{next} may have been given out");
    let status = log.status();
    assert_eq!((status.lost, status.holes.len()), (0, 1));
    assert_eq!((status.holes[0].reason, status.holes[0].until), (HoleReason::Unused, next));

    append(&log, &[notification(next, 10)]).await;
    let (records, gone) = read_on(&log, 0).await;
    assert_eq!(gone, [], "a number that was never used is no loss");
    assert!(records.iter().all(|record| record.seq == id_of(&record.notification)));
    assert!(told.iter().all(|told| records.iter().any(|record| record.seq == *told)));
    assert_eq!(records.last().unwrap().seq, next);
    let read_over_the_hole = log.read(status.holes[0].from..u64::MAX, 0).await.unwrap();
    assert_eq!(read_over_the_hole.groups[0].header.first, next);
}

#[tokio::test]
async fn killed_again_and_again_it_keeps_all_it_acknowledged() {
    let dir = folder();
    let mut told = Vec::new();
    for (round, segment_bytes) in [1u64, 64 << 10, 16 << 20, 1, 1 << 20].into_iter().enumerate() {
        told.extend(run_and_kill(dir.path(), segment_bytes, 5 + round * 7));
    }
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    let (records, gone) = read_on(&log, 0).await;
    assert_eq!(gone, []);
    assert_eq!(log.status().lost, 0);
    assert!(records.is_sorted_by(|a, b| a.seq < b.seq), "a number was given out twice");
    assert!(records.iter().all(|record| record.seq == id_of(&record.notification)));
    for told in told {
        assert!(records.iter().any(|record| record.seq == told), "{told} was acknowledged");
    }
}
