//! Sums that 32 bits do not hold: a board that has no more must count them all
//! the same.

use std::fs::File;

use ngsi_ferry::store::Config;
use rustix::fs::{FallocateFlags, fallocate};

use crate::support::{
    a_segment_a_commit, append, default_log, fill, folder, notification, open, read_on, segments,
    seqs,
};

/// Beyond what 32 bits count.
const LEN: u64 = (4 << 30) + (512 << 10);

fn within(max_bytes: u64) -> Config {
    Config { max_bytes, ..a_segment_a_commit() }
}

#[tokio::test]
async fn a_segment_of_over_four_gib_is_counted_and_evicted() {
    let dir = folder();
    let store = open(dir.path(), &within(5 << 30));
    fill(&default_log(&store), 3, 2, 300).await;
    store.close().await;
    drop(store);
    // Has its blocks, though nothing was written into them. Not the data file,
    // whose empty end is cut when it is opened.
    let large = File::create(segments(dir.path())[0].join("large")).unwrap();
    fallocate(&large, FallocateFlags::empty(), 0, LEN).unwrap();

    let store = open(dir.path(), &within(5 << 30));
    let log = default_log(&store);
    append(&log, &[notification(6, 300)]).await;
    let (bytes, earliest) = (log.status().bytes, log.bounds().earliest);
    assert!(bytes > LEN && earliest == 0, "{bytes} bytes, from {earliest}");
    store.close().await;
    drop((log, store));

    let store = open(dir.path(), &within(LEN));
    let log = default_log(&store);
    append(&log, &[notification(7, 300)]).await;
    let (bytes, earliest) = (log.status().bytes, log.bounds().earliest);
    assert!(bytes < 64 << 20 && earliest == 2, "{bytes} bytes, from {earliest}");
    assert_eq!(seqs(&read_on(&log, earliest).await.0), (2..8).collect::<Vec<_>>());
    store.close().await;
}
