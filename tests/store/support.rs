//! A store in a folder of its own, and notifications to put into it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ngsi_ferry::record::{Line, Notification, Record, Sequence};
use ngsi_ferry::store::{Config, DEFAULT_STREAM, Log, Metrics, ReadError, Store, StreamConfig};
use tempfile::TempDir;

/// A folder on the disk that the build uses, not one in memory.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Settings without a floor of free space, so that a full disk fails no test.
pub fn config() -> Config {
    Config { min_free: 0, ..Config::default() }
}

/// As [`config`], and every commit seals its segment.
pub fn a_segment_a_commit() -> Config {
    Config { segment_bytes: 1, ..config() }
}

pub fn open(folder: &Path, config: &Config) -> Arc<Store> {
    open_with(folder, config, Vec::new())
}

pub fn open_with(folder: &Path, config: &Config, streams: Vec<StreamConfig>) -> Arc<Store> {
    Arc::new(Store::open(folder, config.clone(), streams, Metrics::default()).unwrap())
}

pub fn default_log(store: &Store) -> Arc<Log> {
    store.stream(DEFAULT_STREAM).unwrap()
}

/// Bytes that zstd cannot make smaller; the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A notification that can be told from every other by its body.
pub fn notification(id: u64, len: usize) -> Notification {
    notification_of(id, len, SystemTime::now())
}

pub fn notification_of(id: u64, len: usize, received: SystemTime) -> Notification {
    let mut body = format!("{id} ").into_bytes();
    body.extend_from_slice(&noise(id, len));
    let micros = received.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let micros = std::time::Duration::from_micros(u64::try_from(micros).unwrap());
    Notification {
        received: SystemTime::UNIX_EPOCH + micros,
        method: "POST".to_owned(),
        path: format!("/notify?id={id}"),
        headers: vec![("fiware-service".to_owned(), Bytes::from_static(b"plant1"))],
        body: body.into(),
    }
}

/// What [`notification`] numbered it with.
pub fn id_of(notification: &Notification) -> u64 {
    notification.path.rsplit('=').next().unwrap().parse().unwrap()
}

pub async fn append(log: &Log, notifications: &[Notification]) -> Range<Sequence> {
    log.append(notifications.iter().map(Line::from).collect()).await.unwrap()
}

/// Returns when the committer has done what was asked of it before.
pub async fn settle(log: &Log) {
    append(log, &[]).await;
}

/// Appends `commits` groups of `each` small notifications; ids and numbers
/// are the same in a new log.
pub async fn fill(log: &Log, commits: u64, each: u64, len: usize) {
    for _ in 0..commits {
        let next = log.bounds().next;
        let group: Vec<_> = (next..next + each).map(|id| notification(id, len)).collect();
        assert_eq!(append(log, &group).await, next..next + each);
    }
}

/// Everything from a number on, as a consumer would read it; goes on behind
/// what is gone, and tells it.
pub async fn read_on(log: &Log, from: Sequence) -> (Vec<Record>, Vec<ReadError>) {
    let (mut at, mut records, mut gone) = (from, Vec::new(), Vec::new());
    while at < log.bounds().next {
        match log.read(at..Sequence::MAX, 100_000).await {
            Ok(batch) => {
                records.extend(batch.records().unwrap());
                assert!(batch.next > at, "reading must get on");
                at = batch.next;
            }
            Err(ReadError::Gone { earliest, reason }) => {
                assert!(earliest > at, "reading must get on");
                gone.push(ReadError::Gone { earliest, reason });
                at = earliest;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (records, gone)
}

pub fn seqs(records: &[Record]) -> Vec<Sequence> {
    records.iter().map(|record| record.seq).collect()
}

/// The folder of a stream's log.
pub fn log_folder(data: &Path) -> PathBuf {
    data.join("streams").join(DEFAULT_STREAM)
}

/// Its segments' folders, in order.
pub fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(log_folder(data).join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Flips a bit; the file keeps its inode, as under a failing disk.
pub fn flip(path: &Path, bit: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

pub fn damage_state(data: &Path, copies: &[&str]) {
    for copy in copies {
        flip(&log_folder(data).join(copy), 100);
    }
}

/// Every file under a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
