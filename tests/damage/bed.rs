//! A store of twenty segments, and how to have it back as it was.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ngsi_ferry::record::{Notification, Sequence};
use ngsi_ferry::store::{Config, Log, Store};

use crate::image::Image;
use crate::support::{self, append, default_log, notification, open, read_on};

/// Segments of the stream `default`.
pub const SEGMENTS: usize = 20;
/// A stream beside it that nothing happens to; its records are these.
pub const OTHER: &str = "other";
const OTHER_RECORDS: Range<Sequence> = 0..12;
/// Registered consumers of `default`, with their positions.
pub const CONSUMERS: [(&str, Sequence); 2] = [("slow", 1), ("fast", 40)];

/// How the store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// By a clean end: every segment is sealed.
    Closed,
    /// By kill -9, the last segment without a seal; and once before, so that
    /// there is a hole of unused numbers in the middle.
    Killed,
}

/// The store, and all that is known of it.
pub struct Bed {
    pub data: PathBuf,
    pub left: Left,
    /// The numbers of its records, by segment. Each record's content is told
    /// by its number.
    pub segments: Vec<Range<Sequence>>,
    pub epoch: String,
    /// The end of the numbers that may have been given out.
    pub reserved: Sequence,
    image: Option<Image>,
    /// Names for the `epoch` files that no damage reaches: a file made anew
    /// would be a copy's.
    kept: PathBuf,
}

/// Most segments are small.
pub fn config() -> Config {
    Config { segment_bytes: 96 << 10, ..support::config() }
}

/// Some hold several of sled's own segments, as in use.
fn large() -> Config {
    Config { segment_bytes: 1200 << 10, ..support::config() }
}

/// The record of that number: a few hundred bytes, or some with many chunks.
pub fn content(seq: Sequence) -> Notification {
    let len = if seq % 23 == 7 { 30_000 } else { 200 + seq * 7919 % 6000 };
    notification(seq, usize::try_from(len).unwrap())
}

async fn commit(log: &Log, records: u64) {
    let next = log.bounds().next;
    let group: Vec<_> = (next..next + records).map(content).collect();
    append(log, &group).await;
}

async fn until_there_are(segments: usize, data: &Path, log: &Log) {
    while support::segments(data).len() < segments {
        commit(log, 3).await;
    }
}

/// One large segment, and small ones up to so many.
async fn fill(store: &Store, data: &Path, upto: usize) {
    let log = default_log(store);
    let before = support::segments(data).len();
    store.reload(large(), Vec::new());
    until_there_are(before + 2, data, &log).await;
    store.reload(config(), Vec::new());
    until_there_are(upto, data, &log).await;
}

impl Bed {
    /// Makes it in `data`, with a folder `kept` beside it.
    pub async fn make(data: PathBuf, left: Left) -> Self {
        let mut store = open(&data, &config());
        {
            let other = store.stream_for(OTHER).await.unwrap();
            while other.bounds().next < OTHER_RECORDS.end {
                commit(&other, 3).await;
            }
            fill(&store, &data, SEGMENTS / 2).await;
        }
        if left == Left::Killed {
            drop(store);
            store = open(&data, &config());
        }
        fill(&store, &data, SEGMENTS).await;
        let log = default_log(&store);
        // So that the last one, too, may lose a part and keep another.
        commit(&log, 3).await;
        commit(&log, 3).await;
        for (name, position) in CONSUMERS {
            log.acknowledge(name, None, position, false).await.unwrap();
        }
        // Reading leaves sled's snapshots beside the sealed ones.
        let (records, gone) = read_on(&log, 0).await;
        assert_eq!(gone, []);
        fs::write(data.join("ballast.0"), vec![0xb5; 64 << 10]).unwrap();
        let mut bed = Self {
            left,
            segments: segments_of(&data, records.iter().map(|record| record.seq)),
            epoch: log.epoch(),
            reserved: log.bounds().next + if left == Left::Killed { 1 << 16 } else { 0 },
            image: None,
            kept: data.with_extension("kept"),
            data,
        };
        assert_eq!(bed.segments.len(), SEGMENTS);
        if left == Left::Closed {
            drop(log);
            end(store).await;
            bed.remember();
        } else {
            bed.remember();
            drop(log);
            drop(store);
            bed.restore();
        }
        bed
    }

    /// Every number that has a record.
    pub fn records(&self) -> impl Iterator<Item = Sequence> + '_ {
        self.segments.iter().cloned().flatten()
    }

    /// One past the last number that has a record.
    pub fn end(&self) -> Sequence {
        self.segments.last().unwrap().end
    }

    /// The records of the segment that a path lies in.
    pub fn segment_of(&self, path: &Path) -> Option<Range<Sequence>> {
        let mut parts = path.strip_prefix(&self.data).unwrap().components();
        let number = parts.find_map(|part| part.as_os_str().to_str()?.parse::<u64>().ok())?;
        self.segments.iter().find(|records| records.start == number).cloned()
    }

    fn remember(&mut self) {
        fs::create_dir_all(&self.kept).unwrap();
        self.image = Some(Image::of(&self.data));
        for path in self.epochs() {
            fs::hard_link(&path, self.kept_name(&path)).unwrap();
        }
    }

    /// Everything as it was, the `epoch` files the very same ones.
    pub fn restore(&self) {
        let image = self.image.as_ref().unwrap();
        image.restore();
        for path in self.epochs() {
            fs::remove_file(&path).unwrap();
            fs::hard_link(self.kept_name(&path), &path).unwrap();
            fs::write(&path, &image.files[&path]).unwrap();
        }
    }

    fn epochs(&self) -> Vec<PathBuf> {
        let paths = self.image.iter().flat_map(|image| image.files.keys());
        paths.filter(|path| path.ends_with("epoch")).cloned().collect()
    }

    fn kept_name(&self, path: &Path) -> PathBuf {
        let name = path.strip_prefix(&self.data).unwrap().to_str().unwrap().replace('/', "-");
        self.kept.join(name)
    }
}

/// The records of the stream [`OTHER`].
pub fn other_records() -> Range<Sequence> {
    OTHER_RECORDS
}

/// Ends a store cleanly.
pub async fn end(store: Arc<Store>) {
    store.close().await;
    drop(store);
}

fn segments_of(data: &Path, records: impl Iterator<Item = Sequence>) -> Vec<Range<Sequence>> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let firsts: Vec<Sequence> = support::segments(data).iter().map(name).collect();
    let mut segments: Vec<Range<Sequence>> = firsts.iter().map(|first| *first..*first).collect();
    for seq in records {
        let at = firsts.partition_point(|first| *first <= seq) - 1;
        assert_eq!(segments[at].end, seq, "numbers in a segment have no gaps");
        segments[at].end = seq + 1;
    }
    segments
}
