//! sled panics on some damaged files: that is caught, and costs one segment.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ngsi_ferry::store::Config;

use crate::bed::{content, end};
use crate::common::gateway::Setup;
use crate::gateway::picture_of;
use crate::picture::Numbers;
use crate::support::{self, append, default_log, open, segments};

const SLED_SEGMENT_LEN: usize = 512 * 1024;

/// Three segments of several of sled's each; returns where they begin, and
/// the log's end.
async fn three_segments(data: &Path) -> Vec<u64> {
    let store = open(data, &Config { segment_bytes: 1 << 20, ..support::config() });
    let log = default_log(&store);
    while segments(data).len() < 3 {
        let next = log.bounds().next;
        let group: Vec<_> = (next..next + 10).map(content).collect();
        append(&log, &group).await;
    }
    let name = |path: &std::path::PathBuf| path.file_name()?.to_str()?.parse().ok();
    let mut firsts: Vec<u64> = segments(data).iter().filter_map(name).collect();
    firsts.push(log.bounds().next);
    drop(log);
    end(store).await;
    firsts
}

/// A block that a confused disk wrote to another place: two parts of the file
/// say that they are the same one, at which sled's recovery panics.
fn write_a_part_twice(db: &Path) {
    // What was opened before has a snapshot, and its recovery begins behind.
    for entry in fs::read_dir(db.parent().unwrap()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let file = fs::File::options().read(true).write(true).open(db).unwrap();
    let mut part = vec![0; SLED_SEGMENT_LEN];
    file.read_exact_at(&mut part, 0).unwrap();
    file.write_all_at(&part, SLED_SEGMENT_LEN as u64).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_within_sleds_open_costs_one_segment_and_not_the_gateway() {
    // Sealed it is opened by a reader, without a seal by the start.
    for sealed in [true, false] {
        let setup = Setup::new().set("STORE__MIN_FREE", "0B");
        let data = setup.data_dir();
        let firsts = three_segments(&data).await;
        let damaged = segments(&data).swap_remove(1);
        write_a_part_twice(&damaged.join("db"));
        if !sealed {
            fs::remove_file(damaged.join("seal")).unwrap();
        }
        let gateway = setup.start().await;
        let picture = picture_of(&gateway, "default", "a part written twice").await;
        assert_eq!(picture.lost, Numbers::one(firsts[1]..firsts[2]));
        assert_eq!(picture.served.0, [firsts[0]..firsts[1], firsts[2]..firsts[3]]);
        let log = gateway.log();
        let panicked = log.lines().any(|line| {
            line.contains("a thread panicked")
                && line.contains("sled-")
                && line.contains("duplicate")
        });
        assert!(panicked, "sled did not panic: it is another test now\n{log}");
        let name = damaged.file_name().unwrap().to_str().unwrap();
        let kept = data.join("quarantine").join(format!("default-{name}-0"));
        assert!(kept.join("db").is_file() && !damaged.exists(), "{log}");
        let (setup, ended) = gateway.stop().await;
        assert!(ended.success(), "{ended:?}");
        let gateway = setup.start().await;
        assert_eq!(picture_of(&gateway, "default", "again").await, picture);
    }
}
