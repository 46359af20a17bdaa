//! What holds whatever happens to a log, in whatever order: kill -9, power
//! cuts, damage, refused writes, clean restarts, acknowledgements.
//!
//! Not how much is left, which depends on the damage, but: no number ever has
//! two contents within an epoch, no number is given out twice, nobody's
//! position moves by itself, and what is gone is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ngsi_ferry::record::{Line, Sequence};
use ngsi_ferry::store::{Config, Log, ReadError, Store};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::harm::{HARMS, VICTIMS, Victim, harm};
use crate::image::Image;
use crate::seed::Seed;
use crate::support::{
    config, default_log, folder, id_of, log_folder, notification, open, segments,
};

#[derive(Debug, Clone)]
pub enum Event {
    Append {
        records: u64,
        len: usize,
    },
    Acknowledge {
        consumer: u8,
        at: u64,
    },
    Restart,
    Kill,
    /// A commit is under way: of the pages that it writes each reaches the
    /// disk or not.
    PowerCut {
        seed: u64,
    },
    /// Of the closed or killed store.
    Damage {
        seed: u64,
        killed: bool,
    },
    RefusedWrite,
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let length = prop_oneof![4 => 0usize..600, 1 => 6000usize..60_000];
    let event = prop_oneof![
        8 => (1..6u64, length).prop_map(|(records, len)| Event::Append { records, len }),
        3 => (0..2u8, 0..=16u64).prop_map(|(consumer, at)| Event::Acknowledge { consumer, at }),
        1 => Just(Event::Restart),
        2 => Just(Event::Kill),
        2 => any::<u64>().prop_map(|seed| Event::PowerCut { seed }),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, killed)| Event::Damage { seed, killed }),
        1 => Just(Event::RefusedWrite),
    ];
    proptest::collection::vec(event, 1..24)
}

/// What must be served, or told to be gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    Acknowledged,
    /// Never answered, or taken by a damage whose traces went with it.
    Perhaps,
}

struct Model {
    dir: TempDir,
    config: Config,
    store: Option<Arc<Store>>,
    epoch: String,
    /// The content of each number of each epoch, as soon as anybody was told.
    meaning: BTreeMap<(String, Sequence), u64>,
    lengths: BTreeMap<u64, usize>,
    /// Numbers of this epoch.
    owed: BTreeMap<Sequence, Owed>,
    /// Above every number that was ever given out in this epoch.
    above: Sequence,
    consumers: BTreeMap<u8, Sequence>,
    /// Records below may have been deleted: every consumer had them.
    deletable: Sequence,
}

pub fn run(config: Config, events: Vec<Event>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(config);
        for event in events {
            model.apply(&event).await;
            model.check(&format!("{event:?}")).await;
        }
    });
}

impl Model {
    fn new(config: Config) -> Self {
        let dir = folder();
        let store = open(dir.path(), &config);
        let epoch = default_log(&store).epoch();
        Self {
            dir,
            config,
            store: Some(store),
            epoch,
            meaning: BTreeMap::new(),
            lengths: BTreeMap::new(),
            owed: BTreeMap::new(),
            above: 0,
            consumers: BTreeMap::new(),
            deletable: 0,
        }
    }

    fn log(&self) -> Arc<Log> {
        default_log(self.store.as_ref().unwrap())
    }

    async fn apply(&mut self, event: &Event) {
        match *event {
            Event::Append { records, len } => {
                self.append(records, len).await.unwrap();
            }
            Event::Acknowledge { consumer, at } => {
                let bounds = self.log().bounds();
                let position = bounds.earliest + (bounds.next - bounds.earliest) * at / 16;
                let name = consumer.to_string();
                let now = self.log().acknowledge(&name, None, position, false).await.unwrap();
                assert!(now >= position);
                self.consumers.insert(consumer, now);
                let lowest = self.consumers.values().min().copied().unwrap();
                self.deletable = self.deletable.max(lowest);
            }
            Event::Restart => {
                self.stop(true).await;
                self.start();
            }
            Event::Kill => {
                self.stop(false).await;
                self.start();
            }
            Event::PowerCut { seed } => self.power_cut(&mut Seed::new(seed)).await,
            Event::Damage { seed, killed } => self.damage(&mut Seed::new(seed), killed).await,
            Event::RefusedWrite => self.refused_write().await,
        }
    }

    async fn append(&mut self, records: u64, len: usize) -> Option<()> {
        let from = self.lengths.len() as u64;
        let new: Vec<_> = (from..from + records).map(|id| notification(id, len)).collect();
        self.lengths.extend((from..from + records).map(|id| (id, len)));
        let range = self.log().append(new.iter().map(Line::from).collect()).await.ok()?;
        assert!(range.start >= self.above, "{} was given out before", range.start);
        for (seq, id) in range.clone().zip(from..) {
            self.told(seq, id);
            self.owed.insert(seq, Owed::Acknowledged);
        }
        self.above = range.end;
        Some(())
    }

    /// Somebody knows that this number is this content.
    fn told(&mut self, seq: Sequence, id: u64) {
        let before = *self.meaning.entry((self.epoch.clone(), seq)).or_insert(id);
        assert_eq!(before, id, "number {seq} means two contents");
    }

    async fn stop(&mut self, clean: bool) {
        let store = self.store.take().unwrap();
        if clean {
            store.close().await;
        }
        drop(store);
        self.until_let_go();
    }

    /// The committers end by themselves: nobody may write any more.
    fn until_let_go(&self) {
        for segment in segments(self.dir.path()) {
            let Ok(db) = fs::File::open(segment.join("db")) else { continue };
            db.lock().unwrap();
        }
    }

    fn start(&mut self) {
        let store = open(self.dir.path(), &self.config);
        assert_eq!(default_log(&store).epoch(), self.epoch);
        self.store = Some(store);
    }

    async fn power_cut(&mut self, seed: &mut Seed) {
        let before = Image::of(self.dir.path());
        let owed = self.owed.clone();
        let above = self.above;
        self.append(1 + seed.below(4), usize::try_from(seed.below(20_000)).unwrap()).await.unwrap();
        let after = Image::of(self.dir.path());
        self.stop(false).await;
        // Nobody was answered: each of them is there, or is not. Below them may be a
        // hole of 2^32, where both states were lost.
        let appended: Vec<_> = self.owed.range(above..).map(|(seq, _)| *seq).collect();
        for seq in appended {
            self.owed.insert(seq, Owed::Perhaps);
            self.meaning.remove(&(self.epoch.clone(), seq));
        }
        self.owed.extend(owed);
        self.above = above;
        let changed: Vec<&PathBuf> = after
            .files
            .keys()
            .filter(|path| before.files.get(*path) != after.files.get(*path))
            .collect();
        let mut cut = if seed.one_in(3) { before.clone() } else { after.clone() };
        // Within one file any of its pages; between files there is an order.
        if let [path] = changed[..]
            && let Some(old) = before.files.get(path)
        {
            let mut torn = after.files[path].clone();
            for (page, bytes) in torn.chunks_mut(512).enumerate() {
                let old = old.get(page * 512..).unwrap_or_default();
                if seed.one_in(2) {
                    bytes.fill(0);
                    let len = old.len().min(bytes.len());
                    bytes[..len].copy_from_slice(&old[..len]);
                }
            }
            cut.files.insert(path.clone(), torn);
        }
        cut.restore();
        self.start();
    }

    async fn damage(&mut self, seed: &mut Seed, killed: bool) {
        let last = segments(self.dir.path()).pop();
        self.stop(!killed).await;
        let victim = VICTIMS[usize::try_from(seed.below(VICTIMS.len() as u64)).unwrap()];
        let harms = victim.harms();
        let how = HARMS[usize::try_from(seed.below(HARMS.len() as u64)).unwrap()];
        let how = if harms.contains(&how) { how } else { harms[0] };
        let paths: Vec<PathBuf> =
            victim.choose(self.dir.path(), seed).into_iter().filter(|path| path.exists()).collect();
        for path in &paths {
            eprintln!("{}", harm(path, how, seed));
        }
        // A segment without a seal is known only by what is in it: see
        // `what_damage_took_from_the_segment_being_written_is_reported_lost`.
        let in_the_last = last.is_some_and(|last| paths.iter().any(|path| path.starts_with(&last)));
        let traces_are_gone = match victim {
            Victim::SegmentsFolder | Victim::BothStates => true,
            _ => killed && in_the_last,
        };
        if traces_are_gone {
            self.owed.values_mut().for_each(|owed| *owed = Owed::Perhaps);
        }
        let store = open(self.dir.path(), &self.config);
        let log = default_log(&store);
        self.store = Some(store);
        if matches!(victim, Victim::LogFolder | Victim::StreamsFolder) && !paths.is_empty() {
            assert!(log.epoch() != self.epoch && log.bounds().next == 0);
            self.epoch = log.epoch();
            (self.above, self.deletable) = (0, 0);
            self.owed.clear();
            self.consumers.clear();
        }
        assert_eq!(log.epoch(), self.epoch, "{victim:?} {how:?}");
        if victim == Victim::BothStates {
            if log.status().consumers.is_empty() {
                self.consumers.clear();
            }
            // What tells deleted from lost went with the state.
            self.deletable = Sequence::MAX;
        }
    }

    /// Where the next segment should be made, something stands in the way.
    async fn refused_write(&mut self) {
        let next = self.log().bounds().next;
        let place = log_folder(self.dir.path()).join("segments").join(format!("{next:020}"));
        if place.exists() {
            return;
        }
        fs::write(&place, b"in the way").unwrap();
        let written = self.append(2, 100).await;
        // It went into the segment being written, or nowhere.
        fs::remove_file(&place).unwrap();
        if written.is_none() {
            assert_eq!(self.log().bounds().next, next);
        }
        self.append(1, 50).await.unwrap();
    }

    async fn check(&mut self, what: &str) {
        let log = self.log();
        log.append(Vec::new()).await.unwrap();
        let bounds = log.bounds();
        assert!(bounds.next >= self.above, "{what}: the numbers went back");
        let (mut at, mut served, mut gone) = (0, BTreeSet::new(), Vec::new());
        while at < bounds.next {
            match log.read(at..bounds.next, 100_000).await {
                Ok(batch) => {
                    for record in batch.records().unwrap() {
                        let id = id_of(&record.notification);
                        let right = notification(id, self.lengths[&id]);
                        assert!(record.notification.body == right.body, "{what}: changed");
                        self.told(record.seq, id);
                        served.insert(record.seq);
                    }
                    assert!(batch.next > at, "{what}: reading must get on");
                    at = batch.next;
                }
                Err(ReadError::Gone { earliest, .. }) => {
                    assert!(earliest > at, "{what}: reading must get on");
                    gone.push(at..earliest);
                    at = earliest;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
        for (seq, owed) in &self.owed {
            let is_told = gone.iter().any(|range| range.contains(seq));
            let is_there = served.contains(seq) || is_told || *owed == Owed::Perhaps;
            assert!(is_there, "{what}: {seq} was acknowledged and is skipped without a word");
        }
        let status = log.status();
        assert!(status.earliest <= self.deletable, "{what}: deleted, and not everybody had it");
        let positions: BTreeMap<u8, Sequence> =
            status.consumers.iter().map(|c| (c.name.parse().unwrap(), c.position)).collect();
        assert_eq!(positions, self.consumers, "{what}: positions moved");
        self.above = self.above.max(served.last().map_or(0, |seq| seq + 1));
    }
}

/// For a log whose every commit is a segment, and for one of few.
pub fn configs() -> impl Strategy<Value = Config> {
    prop_oneof![Just(1), Just(100 << 10), Just(8 << 20)]
        .prop_map(|segment_bytes| Config { segment_bytes, ..config() })
}
