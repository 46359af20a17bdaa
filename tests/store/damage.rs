//! Damaged files: exactly what is gone is reported, the rest is served.

use std::fs;

use ngsi_ferry::store::{GoneReason, HoleReason, ReadError};

use crate::support::{
    a_segment_a_commit, config, copy_folder, default_log, files, fill, flip, folder, open, read_on,
    segments, seqs,
};

fn lost(earliest: u64) -> ReadError {
    ReadError::Gone { earliest, reason: GoneReason::Lost }
}

/// Five segments of two records each, cleanly closed.
async fn five_segments(data: &std::path::Path) {
    let store = open(data, &a_segment_a_commit());
    fill(&default_log(&store), 5, 2, 300).await;
    store.close().await;
}

#[tokio::test]
async fn a_removed_segment_is_a_lost_range() {
    for removed in [0, 2, 4] {
        let dir = folder();
        five_segments(dir.path()).await;
        fs::remove_dir_all(&segments(dir.path())[removed]).unwrap();
        for _ in 0..2 {
            let store = open(dir.path(), &a_segment_a_commit());
            let log = default_log(&store);
            let from = 2 * removed as u64;
            let status = log.status();
            assert_eq!((status.lost, status.next, status.records), (2, 10, 8));
            let (records, gone) = read_on(&log, 0).await;
            let expected: Vec<_> = (0..10).filter(|seq| !(from..from + 2).contains(seq)).collect();
            assert_eq!((seqs(&records), gone), (expected, vec![lost(from + 2)]));
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_opened_is_quarantined_and_the_rest_is_served() {
    let dir = folder();
    five_segments(dir.path()).await;
    let segment = &segments(dir.path())[1];
    fs::write(segment.join("db"), b"not a database").unwrap();
    fs::remove_file(segment.join("seal")).unwrap();
    fs::write(segments(dir.path())[3].join("db"), vec![0xa5; 1 << 20]).unwrap();
    let log = default_log(&open(dir.path(), &a_segment_a_commit()));
    let (records, gone) = read_on(&log, 0).await;
    assert_eq!(seqs(&records), [0, 1, 4, 5, 8, 9]);
    assert_eq!(gone, [lost(4), lost(8)]);
    assert_eq!(log.status().lost, 4);
    fill(&log, 1, 2, 10).await;
    assert_eq!(seqs(&read_on(&log, 8).await.0), [8, 9, 10, 11]);
}

#[tokio::test]
async fn a_damaged_snapshot_or_configuration_of_sled_costs_nothing() {
    for file in ["conf", "snap."] {
        let dir = folder();
        five_segments(dir.path()).await;
        drop(read_on(&default_log(&open(dir.path(), &config())), 0).await);
        for segment in segments(dir.path()) {
            for path in files(&segment) {
                if path.file_name().unwrap().to_string_lossy().starts_with(file) {
                    flip(&path, 21);
                }
            }
        }
        let log = default_log(&open(dir.path(), &a_segment_a_commit()));
        let (records, gone) = read_on(&log, 0).await;
        assert_eq!((seqs(&records), gone), ((0..10).collect(), vec![]), "{file}");
    }
}

/// One segment of twenty groups of two records; returns its data folder.
async fn one_segment(data: &std::path::Path, clean: bool) -> std::path::PathBuf {
    let writing = data.join("writing");
    let store = open(&writing, &config());
    fill(&default_log(&store), 20, 2, 20_000).await;
    if clean {
        store.close().await;
        return writing;
    }
    // A copy of it while it is open is what a power cut leaves.
    let left = data.join("left");
    copy_folder(&writing, &left);
    left
}

#[tokio::test]
async fn a_truncated_sealed_segment_loses_exactly_its_missing_records_and_says_so() {
    let mut partly = false;
    for part in [1u64, 5, 10, 15, 19] {
        let dir = folder();
        let data = one_segment(dir.path(), true).await;
        let db = segments(&data)[0].join("db");
        for file in files(&segments(&data)[0]) {
            if file.to_string_lossy().contains("snap.") {
                fs::remove_file(file).unwrap();
            }
        }
        let len = fs::metadata(&db).unwrap().len();
        fs::File::options().write(true).open(&db).unwrap().set_len(len * part / 20).unwrap();
        let log = default_log(&open(&data, &config()));
        let (records, gone) = read_on(&log, 0).await;
        let kept = records.len() as u64;
        assert_eq!(seqs(&records), (0..kept).collect::<Vec<_>>());
        if kept < 40 {
            assert_eq!(gone, [lost(40)], "{kept} of 40 are left");
            let holes = log.status().holes;
            assert_eq!(holes.len(), 1);
            assert_eq!((holes[0].from, holes[0].until), (kept, 40));
            assert_eq!(holes[0].reason, HoleReason::Lost);
            assert_eq!(log.status().lost, 40 - kept);
            partly |= kept > 0;
        }
    }
    assert!(partly, "no case kept some and lost some");
}

#[tokio::test]
async fn an_unsealed_segment_gives_back_all_it_holds() {
    let dir = folder();
    let data = one_segment(dir.path(), false).await;
    let log = default_log(&open(&data, &config()));
    let (records, gone) = read_on(&log, 0).await;
    assert_eq!((seqs(&records), gone), ((0..40).collect(), vec![]));
}

#[tokio::test]
async fn a_segment_that_is_locked_at_the_start_is_no_loss() {
    let dir = folder();
    let data = one_segment(dir.path(), false).await;
    let db = fs::File::open(segments(&data)[0].join("db")).unwrap();
    db.try_lock().unwrap();
    let log = default_log(&open(&data, &config()));
    drop(db);
    let next = log.bounds().next;
    assert!(next >= 1 << 16);
    fill(&log, 1, 2, 10).await;
    let (records, gone) = read_on(&log, 0).await;
    let expected: Vec<_> = (0..40).chain(next..next + 2).collect();
    assert_eq!((seqs(&records), gone), (expected, vec![]));
    assert_eq!((log.status().lost, segments(&data).len()), (0, 2));
}

#[tokio::test]
async fn an_unreadable_segment_at_the_end_costs_at_most_what_was_reserved() {
    let dir = folder();
    let data = one_segment(dir.path(), false).await;
    fs::remove_file(segments(&data)[0].join("db")).unwrap();
    let log = default_log(&open(&data, &config()));
    let (records, gone) = read_on(&log, 0).await;
    let next = log.bounds().next;
    assert_eq!((records, gone), (vec![], vec![lost(next)]));
    assert_eq!(log.status().lost, next);
    assert!(!files(&data.join("quarantine")).is_empty());
}
