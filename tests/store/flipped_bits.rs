//! Bits flipped anywhere: the store opens, and for each number it serves the
//! right record or says that there is none. Never another, and no panic.

use std::path::Path;

use ngsi_ferry::store::{Config, GoneReason, ReadError};

use crate::support::{
    append, config, copy_folder, default_log, files, fill, flip, folder, id_of, log_folder, noise,
    notification, open, segments,
};

fn number(seed: u64) -> u64 {
    u64::from_le_bytes(noise(seed, 8).try_into().unwrap())
}

/// Four sealed segments and one that is being written, as a kill leaves them.
/// Returns how many records are in sealed ones, and in all.
async fn template(data: &Path) -> (u64, u64) {
    let writing = data.with_extension("writing");
    let store = open(&writing, &Config { segment_bytes: 600 << 10, ..config() });
    let log = default_log(&store);
    while segments(&writing).len() < 5 {
        fill(&log, 1, 3, 30_000).await;
    }
    fill(&log, 2, 3, 30_000).await;
    let name = segments(&writing)[4].file_name().unwrap().to_str().unwrap().to_owned();
    copy_folder(&writing, data);
    (name.parse().unwrap(), log.bounds().next)
}

#[derive(Default, Debug)]
struct Tally {
    right: u64,
    lost: u64,
    unused: u64,
}

async fn check(data: &Path, sealed: u64, end: u64, what: &str) -> Tally {
    let store = open(data, &config());
    let log = default_log(&store);
    let mut tally = Tally::default();
    for seq in 0..end {
        match log.read_one(seq).await {
            Ok(Some(record)) => {
                let same = record.notification.body == notification(seq, 30_000).body;
                assert!(record.seq == seq && same, "{what}: {seq} came back as another");
                tally.right += 1;
            }
            Ok(None) => {
                assert!(seq >= sealed, "{what}: {seq} is lost and nothing says so");
                tally.unused += 1;
            }
            Err(ReadError::Gone { reason: GoneReason::Lost, earliest }) if earliest > seq => {
                tally.lost += 1;
            }
            Err(error) => panic!("{what}: {seq}: {error}"),
        }
    }
    let next = log.bounds().next;
    assert!(next >= end, "{what}: the numbers went back to {next}");
    append(&log, &[notification(next, 10)]).await;
    assert_eq!(id_of(&log.read_one(next).await.unwrap().unwrap().notification), next, "{what}");
    store.close().await;
    tally
}

#[tokio::test]
async fn a_flipped_bit_never_makes_a_record_another() {
    let dir = folder();
    let origin = dir.path().join("origin");
    let (sealed, end) = template(&origin).await;
    let cases = std::env::var("FERRY_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let mut total = Tally::default();
    for seed in 0..cases {
        let data = dir.path().join(format!("case-{seed}"));
        copy_folder(&origin, &data);
        let files = files(&log_folder(&data));
        let mut flipped = Vec::new();
        for n in 0..=seed % 3 {
            let dice = seed * 10 + n;
            let file = &files[usize::try_from(number(dice) % files.len() as u64).unwrap()];
            let bits = std::fs::metadata(file).unwrap().len() * 8;
            if bits > 0 {
                let bit = number(dice + 5) % bits;
                flip(file, bit);
                flipped.push(format!("{} bit {bit}", file.display()));
            }
        }
        let tally = check(&data, sealed, end, &flipped.join(", ")).await;
        total.right += tally.right;
        total.lost += tally.lost;
        total.unused += tally.unused;
        std::fs::remove_dir_all(&data).unwrap();
    }
    eprintln!("{cases} cases of {end} records: {total:?}");
    assert!(total.right > total.lost);
}
