//! A disk that is full. Needs a small one of its own, such as
//! `mount -t tmpfs -o size=24m tmpfs /tmp/small`:
//! `FERRY_SMALL_DISK=/tmp/small cargo test --test store full_disk -- --ignored`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use ngsi_ferry::record::Line;
use ngsi_ferry::store::{AppendError, Config, WhenFull};

use crate::support::{config, default_log, id_of, noise, notification, open, read_on};

/// Fills the disk to its last byte.
fn stuff(disk: &Path) {
    let mut file = File::create(disk.join("stuffing")).unwrap();
    for len in [1 << 20, 4096, 1] {
        while file.write_all(&noise(1, len)).and_then(|()| file.sync_data()).is_ok() {}
    }
}

#[tokio::test]
#[ignore = "needs a small disk"]
async fn a_full_disk_refuses_and_takes_nothing_that_was_acknowledged() {
    let Ok(disk) = std::env::var("FERRY_SMALL_DISK") else { panic!("set FERRY_SMALL_DISK") };
    let disk = Path::new(&disk);
    for clean in [false, true] {
        let folder = tempfile::tempdir_in(disk).unwrap();
        let config = Config { when_full: WhenFull::Reject, segment_bytes: 3 << 20, ..config() };
        let store = open(folder.path(), &config);
        let log = default_log(&store);
        let mut acknowledged = Vec::new();
        let mut refused = 0;
        for round in 0.. {
            if round == 120 {
                stuff(disk);
            }
            let line = Line::from(&notification(round, 20_000));
            match log.append(vec![line]).await {
                Ok(range) => acknowledged.push((range.start, round)),
                Err(AppendError::Disk(_)) => {
                    refused += 1;
                    if refused == 5 {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Only what is read and acknowledged makes room.
        let last = acknowledged.last().unwrap().0;
        assert!(log.read(0..u64::MAX, usize::MAX).await.unwrap().next > last);
        log.acknowledge("spark", None, 1, false).await.unwrap();
        if clean {
            store.close().await;
        }
        drop((log, store));

        let store = open(folder.path(), &config);
        let log = default_log(&store);
        assert!(log.read(0..u64::MAX, usize::MAX).await.unwrap().next > last);
        log.acknowledge("spark", None, 2, false).await.unwrap();
        let refused = log.append(vec![Line::from(&notification(0, 2_000_000))]).await;
        assert!(matches!(refused, Err(AppendError::Disk(_))), "{refused:?}");
        fs::remove_file(disk.join("stuffing")).unwrap();
        assert!(log.append(vec![Line::from(&notification(1 << 40, 10))]).await.is_ok());
        let (records, gone) = read_on(&log, 0).await;
        assert_eq!((gone, log.status().lost), (vec![], 0));
        let read: Vec<_> = records.iter().map(|r| (r.seq, id_of(&r.notification))).collect();
        assert!(acknowledged.iter().all(|each| read.contains(each)), "an acknowledged one is gone");
        store.close().await;
        let blocked = folder.path().join("quarantine");
        assert!(!blocked.exists(), "a full disk is no reason for quarantine");
    }
}
