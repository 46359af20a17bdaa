//! Ranges, sizes, and readers beside each other and the writer.

use std::sync::Arc;

use ngsi_ferry::record::Record;
use ngsi_ferry::store::{Config, ReadError};

use crate::support::{
    a_segment_a_commit, append, config, default_log, fill, folder, id_of, notification, open,
    read_on, seqs, settle,
};

#[tokio::test]
async fn a_range_is_cut_to_the_record() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    fill(&log, 4, 5, 100).await;
    for from in 0..20 {
        for until in [from, from + 1, from + 4, from + 11, 30] {
            let batch = log.read(from..until, usize::MAX).await.unwrap();
            let expected: Vec<_> = (from..until.min(20)).collect();
            assert_eq!(seqs(&batch.records().unwrap()), expected);
            assert_eq!(batch.next, until.min(20));
            for group in &batch.groups {
                assert_eq!(group.lines().unwrap().len(), group.header.lines_len as usize);
                assert_eq!(zstd::decode_all(&group.frame[..]).unwrap(), group.lines().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn bytes_bound_a_batch_but_one_record_always_comes() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    let sizes = [10, 3000, 500, 500, 20_000, 10, 10];
    let sent: Vec<_> = (0..).zip(sizes).map(|(id, len)| notification(id, len)).collect();
    append(&log, &sent[..4]).await;
    append(&log, &sent[4..]).await;
    for max_bytes in [0, 1, 300, 1000, 5000, 30_000, 100_000] {
        let mut at = 0;
        while at < 7 {
            let batch = log.read(at..u64::MAX, max_bytes).await.unwrap();
            let records = batch.records().unwrap();
            let bytes: usize = batch.groups.iter().map(|g| g.header.lines_len as usize).sum();
            assert!(bytes <= max_bytes || records.len() == 1);
            let end = at + records.len() as u64;
            assert_eq!(seqs(&records), (at..end).collect::<Vec<_>>());
            assert!(batch.next == end && end > at);
            at = end;
        }
    }
    assert_eq!(log.read_one(4).await.unwrap().unwrap().notification, sent[4]);
    assert!(matches!(log.read_one(8).await, Err(ReadError::Beyond { next: 7 })));
    assert!(log.read_one(7).await.unwrap().is_none());
    assert!(log.received_ms(3).await.is_some_and(|ms| ms > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_at_different_places_see_every_record_while_it_is_written() {
    let dir = folder();
    let store = open(dir.path(), &Config { segment_bytes: 600 << 10, ..config() });
    let log = default_log(&store);
    fill(&log, 5, 10, 4000).await;
    let mut readers = tokio::task::JoinSet::new();
    for from in [0, 0, 7, 33, 49] {
        let log = Arc::clone(&log);
        readers.spawn(async move {
            let mut end = log.watch_end();
            let mut at = from;
            while at < 1000 {
                end.wait_for(|end| *end > at).await.unwrap();
                let batch = log.read(at..u64::MAX, 50_000).await.unwrap();
                let records = batch.records().unwrap();
                assert_eq!(seqs(&records), (at..batch.next).collect::<Vec<_>>());
                assert!(records.iter().all(|r| r.seq == id_of(&r.notification)));
                at = batch.next;
            }
        });
    }
    fill(&log, 95, 10, 4000).await;
    readers.join_all().await;
    assert_eq!(log.status().lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleting_under_a_reader_is_never_a_loss() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    log.acknowledge("spark", None, 0, false).await.unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let log = Arc::clone(&log);
        readers.spawn(async move {
            let mut end = log.watch_end();
            let mut seen: Vec<Record> = Vec::new();
            let mut at = 0;
            while at < 120 {
                end.wait_for(|end| *end > at).await.unwrap();
                match log.read(at..u64::MAX, 3000).await {
                    Ok(batch) => {
                        seen.extend(batch.records().unwrap());
                        at = batch.next;
                    }
                    Err(ReadError::Gone { earliest, .. }) => at = earliest,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(seen.iter().all(|r| r.seq == id_of(&r.notification)));
        });
    }
    for round in 1..=60 {
        fill(&log, 1, 2, 500).await;
        log.acknowledge("spark", None, round * 2 - round % 7, false).await.unwrap();
    }
    readers.join_all().await;
    log.acknowledge("spark", None, 120, false).await.unwrap();
    settle(&log).await;
    let status = log.status();
    assert_eq!((status.lost, status.evicted.records, status.holes), (0, 0, vec![]));
    store.close().await;
    assert_eq!(crate::support::segments(dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_producers_get_one_number_each() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..40u64 {
        let log = Arc::clone(&log);
        producers.spawn(async move {
            let mut got = Vec::new();
            for n in 0..10 {
                let id = producer * 100 + n;
                got.push((append(&log, &[notification(id, 200)]).await.start, id));
            }
            got
        });
    }
    let mut got = producers.join_all().await.concat();
    got.sort_unstable();
    let records = read_on(&log, 0).await.0;
    let read: Vec<_> = records.iter().map(|r| (r.seq, id_of(&r.notification))).collect();
    assert_eq!(read, got);
}
