//! What was acknowledged is there, byte for byte, and numbered once.

use std::fs;

use ngsi_ferry::record::Line;
use ngsi_ferry::store::{AppendError, Config, Metrics, OpenError, Store};

use crate::support::{
    a_segment_a_commit, append, config, copy_folder, default_log, files, fill, folder, noise,
    notification, open, read_on, segments, seqs,
};

#[tokio::test]
async fn a_record_acknowledged_is_read_back_byte_for_byte() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let sent: Vec<_> = (0..20).map(|id| notification(id, 1 << (id % 14))).collect();
    assert_eq!(append(&default_log(&store), &sent).await, 0..20);
    let (before, _) = read_on(&default_log(&store), 0).await;
    store.close().await;
    drop(store);

    let store = open(dir.path(), &config());
    let (records, gone) = read_on(&default_log(&store), 0).await;
    assert_eq!(gone, []);
    assert!(before == records, "closing must change nothing");
    let read: Vec<_> = records.into_iter().map(|record| record.notification).collect();
    assert!(read == sent, "what came back is not what was sent");
}

#[tokio::test]
async fn a_folder_belongs_to_one_store() {
    let dir = folder();
    let _store = open(dir.path(), &config());
    let second = Store::open(dir.path(), config(), Vec::new(), Metrics::default());
    assert!(matches!(second, Err(OpenError::InUse(_))));
}

#[tokio::test]
async fn a_closed_log_refuses() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    store.close().await;
    let refused = log.append(vec![Line::from(&notification(0, 1))]).await;
    assert_eq!(refused, Err(AppendError::Closed));
}

#[tokio::test]
async fn a_clean_stop_leaves_no_hole() {
    let dir = folder();
    let mut epochs = Vec::new();
    for round in 0..3 {
        let store = open(dir.path(), &config());
        let log = default_log(&store);
        assert_eq!(log.bounds().next, round * 5);
        assert_eq!(log.status().holes, []);
        fill(&log, 1, 5, 100).await;
        epochs.push(log.epoch());
        store.close().await;
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
    let (records, gone) = read_on(&default_log(&open(dir.path(), &config())), 0).await;
    assert_eq!((seqs(&records), gone), ((0..15).collect(), vec![]));
}

#[tokio::test]
async fn a_copied_store_has_a_new_epoch() {
    let dir = folder();
    let store = open(&dir.path().join("a"), &config());
    fill(&default_log(&store), 2, 5, 100).await;
    let epoch = default_log(&store).epoch();
    store.close().await;
    drop(store);

    copy_folder(&dir.path().join("a"), &dir.path().join("b"));
    let copy = open(&dir.path().join("b"), &config());
    assert_ne!(default_log(&copy).epoch(), epoch);
    assert_eq!(seqs(&read_on(&default_log(&copy), 0).await.0).len(), 10);

    fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
    let moved = open(&dir.path().join("c"), &config());
    assert_eq!(default_log(&moved).epoch(), epoch, "a moved store is the same store");
}

#[tokio::test]
async fn a_restored_backup_has_a_new_epoch_even_where_its_files_get_the_old_inodes() {
    let dir = folder();
    let (live, backup) = (dir.path().join("live"), dir.path().join("backup"));
    let store = open(&live, &config());
    let epoch = default_log(&store).epoch();
    store.close().await;
    drop(store);
    // A restore into the emptied file system often reuses inodes in order.
    for _ in 0..20 {
        copy_folder(&live, &backup);
        fs::remove_dir_all(&live).unwrap();
        copy_folder(&backup, &live);
        let restored = open(&live, &config());
        assert_ne!(default_log(&restored).epoch(), epoch);
        restored.close().await;
        drop(restored);
        fs::remove_dir_all(&live).unwrap();
        fs::rename(&backup, &live).unwrap();
    }
}

#[tokio::test]
async fn no_record_is_too_large_or_too_awkward_for_a_value() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    let mut sent = Vec::new();
    // Base64 of noise packs to a little more than the noise.
    for len in (5800..6300).step_by(7).chain([12_200, 12_288, 131_072, 8 << 20]) {
        sent.push(notification(sent.len() as u64, len));
        append(&log, &sent[sent.len() - 1..]).await;
    }
    // Valid UTF-8 that does not compress well: close to the chunk limit as it is.
    for len in 6900..7200usize {
        let mut hard = notification(sent.len() as u64, 0);
        hard.body = noise(len as u64, len).iter().map(|byte| byte & 0x7f).collect();
        sent.push(hard);
    }
    for each in sent[sent.len() - 300..].chunks(3) {
        append(&log, each).await;
    }
    for _ in 0..2 {
        sent.push(notification(sent.len() as u64, 8 << 20));
        append(&log, &sent[sent.len() - 1..]).await;
    }
    store.close().await;
    drop((log, store));
    let log = default_log(&open(dir.path(), &config()));
    let (records, gone) = read_on(&log, 0).await;
    assert_eq!(gone, []);
    assert!(records.into_iter().map(|record| record.notification).eq(sent));
    let blobs: Vec<_> = segments(dir.path()).iter().flat_map(|s| files(&s.join("blobs"))).collect();
    assert!(blobs.is_empty(), "sled never syncs {blobs:?}");
}

#[tokio::test]
async fn a_new_folder_is_opened_where_an_empty_one_stands() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    fill(&default_log(&store), 2, 1, 10).await;
    store.close().await;
    drop(store);
    // As a power cut within the making of a segment leaves it.
    let torn = segments(dir.path())[0].with_file_name(format!("{:020}", 2));
    fs::create_dir(&torn).unwrap();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    assert_eq!(log.bounds().next, 2);
    assert_eq!((log.status().lost, log.status().holes), (0, vec![]));
    fill(&log, 1, 1, 10).await;
    assert_eq!(seqs(&read_on(&log, 0).await.0), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_and_closing_leaves_nothing_behind() {
    let dir = folder();
    let mut first = None;
    for round in 0..50 {
        let store = open(dir.path(), &config());
        let log = default_log(&store);
        fill(&log, 1, 3, 2000).await;
        read_on(&log, round * 2).await;
        store.close().await;
        drop((log, store));
        let open_files = fs::read_dir("/proc/self/fd").unwrap().count();
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        if round == 10 {
            first = Some((open_files, threads));
        }
        if let Some((files_then, threads_then)) = first {
            // The runtime's blocking threads come and go.
            assert!(threads <= threads_then + 8, "{threads_then} threads became {threads}");
            assert!(open_files <= files_then + 8, "{files_then} files became {open_files}");
        }
    }
}

#[tokio::test]
async fn records_that_come_while_a_commit_gathers_share_its_write() {
    let dir = folder();
    let gather = std::time::Duration::from_millis(100);
    let store = open(dir.path(), &Config { gather, ..config() });
    let log = default_log(&store);
    let begun = std::time::Instant::now();
    let mut waiting = Vec::new();
    for id in 0..3 {
        waiting.push(log.submit(vec![(&notification(id, 10)).into()]).await.unwrap());
    }
    for (id, stored) in (0..).zip(waiting) {
        assert_eq!(stored.await.unwrap(), id..id + 1);
    }
    assert!(begun.elapsed() >= gather);
    let groups = log.read(0..3, usize::MAX).await.unwrap().groups;
    assert_eq!(groups.iter().map(|group| group.header.count).collect::<Vec<_>>(), [3]);
    store.close().await;
}
