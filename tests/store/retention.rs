//! What limits evict, refuse and count.

use std::time::{Duration, SystemTime};

use ngsi_ferry::record::Line;
use ngsi_ferry::store::{AppendError, Config, GoneReason, Log, ReadError, StreamConfig, WhenFull};

use crate::support::{
    a_segment_a_commit, append, config, default_log, fill, folder, notification, notification_of,
    open, open_with, read_on, segments, seqs, settle,
};

fn small(when_full: WhenFull) -> Config {
    Config { max_bytes: 3 << 20, segment_bytes: 1, when_full, ..config() }
}

/// Appends incompressible groups until one is refused or something is gone.
async fn fill_up(log: &Log) -> Result<(), AppendError> {
    while log.bounds().earliest == 0 {
        let id = log.bounds().next;
        log.append(vec![Line::from(&notification(id, 200_000))]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn drop_oldest_counts_what_it_evicts() {
    let dir = folder();
    let store = open(dir.path(), &small(WhenFull::DropOldest));
    let log = default_log(&store);
    log.acknowledge("spark", None, 0, false).await.unwrap();
    for id in 0..30 {
        if id == 10 {
            log.acknowledge("spark", None, 9, false).await.unwrap();
        }
        append(&log, &[notification(id, 200_000)]).await;
    }
    settle(&log).await;
    let status = log.status();
    let earliest = status.earliest;
    assert!(status.bytes <= status.max_bytes + (2 << 20), "{} bytes", status.bytes);
    assert!(earliest > 9);
    assert!(status.evicted.records > 0 && status.evicted.records <= earliest);
    assert_eq!(status.evicted.until, earliest);
    assert_eq!(status.records, 30 - earliest);
    let evicted = log.read(earliest - 1..u64::MAX, 0).await.unwrap_err();
    assert_eq!(evicted, ReadError::Gone { earliest, reason: GoneReason::Evicted });
    assert_eq!(seqs(&read_on(&log, earliest).await.0), (earliest..30).collect::<Vec<_>>());

    store.close().await;
    drop((log, store));
    let log = default_log(&open(dir.path(), &small(WhenFull::DropOldest)));
    assert_eq!(log.status().evicted, status.evicted);
}

#[tokio::test]
async fn reject_refuses_and_accepts_again_after_an_acknowledgement() {
    let dir = folder();
    let store = open(dir.path(), &small(WhenFull::Reject));
    let log = default_log(&store);
    log.acknowledge("spark", None, 0, false).await.unwrap();
    assert_eq!(fill_up(&log).await, Err(AppendError::Full));
    let next = log.bounds().next;
    let line = Line::from(&notification(next, 10));
    assert_eq!(log.append(vec![line.clone()]).await, Err(AppendError::Full));
    assert_eq!(log.bounds().next, next, "a refused record takes no number");

    let share = std::sync::Arc::default();
    let waiting = log.append_patiently(line, &share, Duration::from_mins(1));
    let acknowledged = async {
        log.acknowledge("spark", None, next, false).await.unwrap();
    };
    let (appended, ()) = tokio::join!(waiting, acknowledged);
    assert_eq!(appended, Ok(next..next + 1));
    assert_eq!(log.status().evicted.records, 0);
}

#[tokio::test]
async fn patience_ends_when_the_limit_is_raised_or_the_time_is_over() {
    let dir = folder();
    let store = open(dir.path(), &small(WhenFull::Reject));
    let log = default_log(&store);
    assert_eq!(fill_up(&log).await, Err(AppendError::Full));
    let line = Line::from(&notification(0, 10));
    let refused = log
        .append_patiently(line.clone(), &std::sync::Arc::default(), Duration::from_millis(1))
        .await;
    assert_eq!(refused, Err(AppendError::Full));
    let share = std::sync::Arc::default();
    let waiting = log.append_patiently(line, &share, Duration::from_mins(1));
    let raised = async { store.reload(config(), Vec::new()) };
    let (appended, ()) = tokio::join!(waiting, raised);
    assert!(appended.is_ok());
}

#[tokio::test]
async fn what_is_being_written_is_given_up_too_where_everyone_has_it() {
    let dir = folder();
    // One segment that never fills is all there is.
    let config = Config { max_bytes: 1 << 20, when_full: WhenFull::Reject, ..config() };
    let store = open(dir.path(), &config);
    let log = default_log(&store);
    log.acknowledge("spark", None, 0, false).await.unwrap();
    let refused = loop {
        let next = log.bounds().next;
        match log.append(vec![Line::from(&notification(next, 100_000))]).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::Full);
    let next = log.bounds().next;
    let line = Line::from(&notification(next, 10));
    let share = std::sync::Arc::default();
    let waiting = log.append_patiently(line, &share, Duration::from_mins(1));
    let acknowledged = async { log.acknowledge("spark", None, next, false).await };
    let (appended, _) = tokio::join!(waiting, acknowledged);
    assert_eq!(appended, Ok(next..next + 1));
}

#[tokio::test]
async fn max_age_evicts_only_what_a_set_clock_stamped() {
    let dir = folder();
    let max_age = Some(Duration::from_hours(1));
    let aged = Config { max_age, ..a_segment_a_commit() };
    let store = open(dir.path(), &aged);
    let log = default_log(&store);
    let now = SystemTime::now();
    let of = |id, received| notification_of(id, 10, received);
    append(&log, &[of(0, now - Duration::from_hours(2))]).await;
    append(&log, &[of(1, now - Duration::from_hours(2)), of(2, now)]).await;
    append(&log, &[of(3, SystemTime::UNIX_EPOCH + Duration::from_secs(5))]).await;
    append(&log, &[of(4, now)]).await;
    settle(&log).await;
    assert_eq!(log.bounds().earliest, 0, "whatever the stamps say, they were written just now");
    store.close().await;
    drop((log, store));

    // After a start there is nothing but the stamps.
    let store = open(dir.path(), &aged);
    let log = default_log(&store);
    log.acknowledge("anyone", None, 0, false).await.unwrap();
    settle(&log).await;
    assert_eq!(log.bounds().earliest, 1, "a segment is as old as its newest record");
    assert_eq!(log.status().evicted.records, 1);
    store.close().await;
    drop((log, store));

    // Later, all that a set clock stamped is too old: up to the first it did not.
    let aged = Config { max_age: Some(Duration::ZERO), ..aged };
    let log = default_log(&open(dir.path(), &aged));
    log.acknowledge("anyone", None, 0, false).await.unwrap();
    settle(&log).await;
    assert_eq!(log.bounds().earliest, 3);
    assert_eq!(log.status().evicted.records, 3);
    assert_eq!(seqs(&read_on(&log, 3).await.0), [3, 4]);
}

#[tokio::test]
async fn an_old_trickle_is_evicted_though_it_never_fills_a_segment() {
    let dir = folder();
    let config = Config { max_age: Some(Duration::from_millis(20)), ..config() };
    let log = default_log(&open(dir.path(), &config));
    // Stamped by a clock that is far ahead: it ages all the same.
    let ahead = SystemTime::now() + Duration::from_hours(24);
    append(&log, &[notification_of(0, 10, ahead)]).await;
    let evicted = async {
        while log.bounds().earliest == 0 {
            log.acknowledge("anyone", None, 0, false).await.unwrap();
            settle(&log).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), evicted).await.expect("it is kept for ever");
    assert_eq!(log.bounds().earliest, 1);
    assert_eq!(segments(dir.path()).len(), 0);
}

#[tokio::test]
async fn a_slow_consumer_of_one_stream_does_not_hold_another_streams_disk() {
    let dir = folder();
    let streams = ["a", "b"].map(|name| StreamConfig { name: name.to_owned(), ..<_>::default() });
    let store = open_with(dir.path(), &a_segment_a_commit(), streams.into());
    let (a, b) = (store.stream("a").unwrap(), store.stream("b").unwrap());
    a.acknowledge("slow", None, 0, false).await.unwrap();
    b.acknowledge("quick", None, 0, false).await.unwrap();
    for log in [&a, &b] {
        fill(log, 5, 10, 1000).await;
    }
    b.acknowledge("quick", None, 50, false).await.unwrap();
    settle(&b).await;
    assert_eq!((a.bounds().earliest, b.bounds().earliest), (0, 50));
    assert_eq!(b.status().bytes, 0);
    assert_eq!(seqs(&read_on(&a, 0).await.0).len(), 50);
}

#[tokio::test]
async fn a_consumer_that_is_silent_for_too_long_holds_nothing() {
    let dir = folder();
    let config = Config { consumer_expiry: Some(Duration::from_hours(1)), ..config() };
    let store = open(dir.path(), &config);
    let log = default_log(&store);
    fill(&log, 1, 3, 10).await;
    log.acknowledge("spark", None, 3, false).await.unwrap();
    let first = log.status().consumers[0].moved_ms;
    assert!(first > 0);
    store.close().await;
    drop((log, store));
    let quick = Config { consumer_expiry: Some(Duration::ZERO), ..config };
    let log = default_log(&open(dir.path(), &quick));
    while SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
        <= u128::from(first)
    {
        std::thread::yield_now();
    }
    fill(&log, 1, 1, 10).await;
    log.acknowledge("other", None, 4, false).await.unwrap();
    settle(&log).await;
    assert_eq!(log.position("spark"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_beyond_the_limit_share_the_default_stream() {
    let dir = folder();
    let store = open(dir.path(), &Config { max_streams: 4, ..config() });
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..20 {
        let store = std::sync::Arc::clone(&store);
        asked.spawn(async move { store.stream_for(&format!("s{n}")).await.unwrap() });
    }
    asked.join_all().await;
    assert_eq!(store.streams().len(), 4);
    assert_eq!(store.stream_for("../evil").await.unwrap().name(), "default");
    assert_eq!(store.stream_for("..").await.unwrap().name(), "default");
}
