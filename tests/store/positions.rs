//! Consumers' positions, and what they hold and free.

use ngsi_ferry::store::{GoneReason, MAX_CONSUMERS, PositionError, ReadError};

use crate::support::{
    a_segment_a_commit, config, damage_state, default_log, fill, folder, log_folder, open, read_on,
    segments, seqs, settle,
};

#[tokio::test]
async fn what_every_consumer_acknowledged_is_deleted_and_nothing_else() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    log.acknowledge("slow", None, 0, false).await.unwrap();
    log.acknowledge("fast", None, 0, false).await.unwrap();
    fill(&log, 4, 2, 500).await;
    log.acknowledge("fast", None, 8, false).await.unwrap();
    settle(&log).await;
    assert_eq!((log.bounds().earliest, segments(dir.path()).len()), (0, 4));
    log.acknowledge("slow", None, 5, false).await.unwrap();
    settle(&log).await;
    // Number 4 goes with number 5.
    assert_eq!((log.bounds().earliest, segments(dir.path()).len()), (4, 2));
    let deleted = log.read(3..u64::MAX, 0).await.unwrap_err();
    assert_eq!(deleted, ReadError::Gone { earliest: 4, reason: GoneReason::Acknowledged });
    let (records, gone) = read_on(&log, 4).await;
    assert_eq!((seqs(&records), gone), ((4..8).collect(), vec![]));
    assert_eq!(log.forget("slow").await, Ok(true));
    settle(&log).await;
    assert_eq!((log.bounds().earliest, segments(dir.path()).len()), (8, 0));
    assert_eq!((log.status().evicted.records, log.status().lost), (0, 0));
}

/// A job that takes another name at each start would fill the state.
#[tokio::test]
async fn new_consumers_are_refused_where_there_are_too_many_and_known_ones_go_on() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    for n in 0..MAX_CONSUMERS {
        log.acknowledge(&format!("job-{n}"), None, 0, false).await.unwrap();
    }
    let refused = log.acknowledge("one-more", None, 0, false).await;
    assert_eq!(refused, Err(PositionError::TooMany));
    log.acknowledge("job-0", None, 0, false).await.unwrap();
    assert_eq!(log.forget("job-1").await, Ok(true));
    log.acknowledge("one-more", None, 0, false).await.unwrap();
}

#[tokio::test]
async fn a_lower_position_changes_nothing_without_rewind() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    fill(&log, 1, 10, 50).await;
    assert_eq!(log.acknowledge("spark", None, 7, false).await, Ok(7));
    assert_eq!(log.acknowledge("spark", None, 3, false).await, Ok(7));
    assert_eq!(log.position("spark"), Some(7));
    assert_eq!(log.acknowledge("spark", None, 3, true).await, Ok(3));
    assert_eq!(log.position("spark"), Some(3));
    assert_eq!(log.status().consumers[0].lag, 7);
    assert_eq!(log.forget("spark").await, Ok(true));
    assert_eq!(log.forget("spark").await, Ok(false));
    assert_eq!(log.position("spark"), None);
}

#[tokio::test]
async fn a_position_of_another_epoch_or_beyond_the_end_is_refused() {
    let dir = folder();
    let store = open(dir.path(), &config());
    let log = default_log(&store);
    fill(&log, 1, 10, 50).await;
    let epoch = log.epoch();
    let beyond = log.acknowledge("spark", Some(&epoch), 11, false).await;
    assert_eq!(beyond, Err(PositionError::Beyond { next: 10 }));
    for position in [5, 11] {
        let other = log.acknowledge("spark", Some("another"), position, false).await;
        assert_eq!(other, Err(PositionError::Epoch { epoch: epoch.clone() }), "{position}");
    }
    assert_eq!(log.position("spark"), None, "what was refused registers nobody");
    assert_eq!(log.acknowledge("spark", Some(&epoch), 10, false).await, Ok(10));
    assert_eq!(log.read(11..12, 0).await.unwrap_err(), ReadError::Beyond { next: 10 });
    let at_the_end = log.read(10..u64::MAX, 0).await.unwrap();
    assert_eq!((at_the_end.groups.len(), at_the_end.next), (0, 10));
}

#[tokio::test]
async fn positions_and_marks_outlive_a_restart() {
    let dir = folder();
    let store = open(dir.path(), &config());
    fill(&default_log(&store), 1, 10, 50).await;
    default_log(&store).acknowledge("spark", None, 4, false).await.unwrap();
    default_log(&store).set_mark("committed", "42").await.unwrap();
    store.close().await;
    drop(store);
    let log = default_log(&open(dir.path(), &config()));
    assert_eq!(log.position("spark"), Some(4));
    assert_eq!(log.marks()["committed"], "42");
}

#[tokio::test]
async fn one_damaged_state_copy_is_harmless() {
    let dir = folder();
    let mut epoch = None;
    for (round, copy) in ["state.a", "state.b", "state.a", "state.b"].into_iter().enumerate() {
        let round = round as u64;
        let store = open(dir.path(), &config());
        let log = default_log(&store);
        assert_eq!(*epoch.get_or_insert(log.epoch()), log.epoch());
        fill(&log, 1, 10, 50).await;
        let position = 10 * round + 5;
        log.acknowledge("spark", None, position, false).await.unwrap();
        store.close().await;
        drop((log, store));

        damage_state(dir.path(), &[copy]);
        let store = open(dir.path(), &config());
        let log = default_log(&store);
        assert_eq!(log.position("spark"), Some(position));
        assert_eq!(log.bounds().next, 10 * (round + 1));
        store.close().await;
        drop((log, store));
        // The start has mended it: the other may break now.
        damage_state(dir.path(), &[if copy == "state.a" { "state.b" } else { "state.a" }]);
        let log = default_log(&open(dir.path(), &config()));
        assert_eq!(log.position("spark"), Some(position));
    }
}

#[tokio::test]
async fn both_copies_damaged_keep_the_epoch_and_delete_nothing() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    fill(&log, 5, 2, 50).await;
    log.acknowledge("spark", None, 4, false).await.unwrap();
    let epoch = log.epoch();
    store.close().await;
    drop((log, store));
    assert_eq!(segments(dir.path()).len(), 3, "two were acknowledged and deleted");

    damage_state(dir.path(), &["state.a", "state.b"]);
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    assert_eq!(log.epoch(), epoch);
    let bounds = log.bounds();
    assert_eq!(bounds.earliest, 4);
    assert!(bounds.next > 1 << 16, "{} may have been given out", bounds.next);
    assert_eq!(log.status().lost, 0, "what was deleted before is no loss");
    assert_eq!(seqs(&read_on(&log, 4).await.0), (4..10).collect::<Vec<_>>());
    log.acknowledge("other", None, 10, false).await.unwrap();
    store.close().await;
    assert_eq!(segments(dir.path()).len(), 3, "spark had no time to come back");
}

#[tokio::test]
async fn missing_state_files_count_as_damaged() {
    let dir = folder();
    let store = open(dir.path(), &a_segment_a_commit());
    let log = default_log(&store);
    fill(&log, 3, 2, 50).await;
    log.acknowledge("spark", None, 2, false).await.unwrap();
    let epoch = log.epoch();
    store.close().await;
    drop((log, store));
    for copy in ["state.a", "state.b"] {
        std::fs::remove_file(log_folder(dir.path()).join(copy)).unwrap();
    }
    let log = default_log(&open(dir.path(), &a_segment_a_commit()));
    assert_eq!((log.epoch(), log.bounds().earliest, log.status().lost), (epoch, 2, 0));
    assert!(log.bounds().next > 1 << 16);
}

#[tokio::test]
async fn no_number_comes_again_however_often_the_state_is_lost() {
    let dir = folder();
    let mut ends = vec![0];
    let mut epochs = std::collections::BTreeSet::new();
    for round in 0..4 {
        let store = open(dir.path(), &a_segment_a_commit());
        let log = default_log(&store);
        epochs.insert(log.epoch());
        let next = log.bounds().next;
        assert!(next >= *ends.last().unwrap(), "{next} of round {round} after {ends:?}");
        fill(&log, 1, 2, 50).await;
        ends.push(next + 2);
        store.close().await;
        drop((log, store));
        // Nothing is left that tells how far the numbers went.
        for segment in segments(dir.path()) {
            // It may still be being made ready for readers, who put files there.
            let mut left = 1000;
            while let Err(error) = std::fs::remove_dir_all(&segment) {
                left -= 1;
                assert!(left > 0, "{error}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        damage_state(dir.path(), &["state.a", "state.b"]);
    }
    assert_eq!(epochs.len(), 1);
}
