//! Any sequence of what may happen to a log, against a plain list of what it
//! was given. More cases with `PROPTEST_CASES`.

#[path = "damage/harm.rs"]
mod harm;
#[path = "store_model/harmed.rs"]
mod harmed;
#[path = "damage/image.rs"]
mod image;
#[path = "kill/seed.rs"]
#[expect(dead_code, reason = "shared with the kill campaign")]
mod seed;
#[path = "store/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the promises")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ngsi_ferry::record::{Line, Sequence};
use ngsi_ferry::store::{Config, GoneReason, HoleReason, Log, ReadError, Store};
use proptest::prelude::*;
use support::{config, default_log, folder, id_of, notification, open};
use tempfile::TempDir;

#[derive(Debug, Clone)]
enum Operation {
    /// Lines of these lengths in one step.
    Append(Vec<usize>),
    /// From a part of the log, in 1/16, over so many records and bytes.
    Read {
        from: u64,
        records: u64,
        max_bytes: usize,
    },
    Acknowledge {
        consumer: u8,
        at: u64,
        rewind: bool,
    },
    Forget {
        consumer: u8,
    },
    Close,
    /// Nothing is sealed, as when the process ends.
    End,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let length = prop_oneof![6 => 0usize..400, 3 => 400usize..9000, 1 => 9000usize..300_000];
    let append = proptest::collection::vec(length, 1..8).prop_map(Operation::Append);
    let max_bytes = prop_oneof![Just(0), 1usize..3000, Just(usize::MAX)];
    let read = (0..=16u64, 0..40u64, max_bytes)
        .prop_map(|(from, records, max_bytes)| Operation::Read { from, records, max_bytes });
    let acknowledge = (0..3u8, 0..=16u64, prop::bool::weighted(0.2))
        .prop_map(|(consumer, at, rewind)| Operation::Acknowledge { consumer, at, rewind });
    let forget = (0..3u8).prop_map(|consumer| Operation::Forget { consumer });
    let operation = prop_oneof![
        10 => append,
        8 => read,
        4 => acknowledge,
        1 => forget,
        1 => Just(Operation::Close),
        1 => Just(Operation::End),
    ];
    proptest::collection::vec(operation, 1..40)
}

/// The log under test, and what it must hold.
struct Model {
    folder: TempDir,
    config: Config,
    store: Option<Arc<Store>>,
    /// What was acknowledged, by number; the id tells the content.
    given: BTreeMap<Sequence, (u64, usize)>,
    consumers: BTreeMap<u8, Sequence>,
    earliest: Sequence,
    next: Sequence,
    epoch: String,
    ids: u64,
}

impl Model {
    fn new(config: Config) -> Self {
        let folder = folder();
        let store = open(folder.path(), &config);
        let epoch = default_log(&store).epoch();
        Self {
            folder,
            config,
            store: Some(store),
            given: BTreeMap::new(),
            consumers: BTreeMap::new(),
            earliest: 0,
            next: 0,
            epoch,
            ids: 0,
        }
    }

    fn log(&self) -> Arc<Log> {
        default_log(self.store.as_ref().unwrap())
    }

    async fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Append(lengths) => self.append(lengths).await,
            Operation::Read { from, records, max_bytes } => {
                let from = self.earliest + (self.next - self.earliest) * from / 16;
                self.read(from, from.saturating_add(records), max_bytes).await;
            }
            Operation::Acknowledge { consumer, at, rewind } => {
                // Only to where a record or the end is, as a consumer does.
                let wanted = self.earliest + (self.next - self.earliest) * at / 16;
                let position = self.given.range(wanted..).next().map_or(self.next, |(seq, _)| *seq);
                let name = consumer.to_string();
                let now = self.log().acknowledge(&name, None, position, rewind).await;
                let known = self.consumers.entry(consumer).or_insert(position);
                if rewind || position > *known {
                    *known = position;
                }
                assert_eq!(now, Ok(*known));
            }
            Operation::Forget { consumer } => {
                let known = self.consumers.remove(&consumer).is_some();
                assert_eq!(self.log().forget(&consumer.to_string()).await, Ok(known));
            }
            Operation::Close => self.reopen(true).await,
            Operation::End => self.reopen(false).await,
        }
        self.check().await;
    }

    async fn append(&mut self, lengths: Vec<usize>) {
        let ids = self.ids..;
        let new: Vec<_> = ids.zip(&lengths).map(|(id, len)| notification(id, *len)).collect();
        let range = self.log().append(new.iter().map(Line::from).collect()).await.unwrap();
        assert_eq!(range, self.next..self.next + lengths.len() as u64);
        for (seq, len) in range.clone().zip(lengths) {
            assert!(self.given.insert(seq, (self.ids, len)).is_none());
            self.ids += 1;
        }
        self.next = range.end;
        self.log().append(Vec::new()).await.unwrap();
        let bytes = self.log().status().bytes;
        assert!(bytes < self.config.max_bytes + (3 << 20), "{bytes} bytes");
    }

    async fn read(&self, from: Sequence, until: Sequence, max_bytes: usize) {
        let batch = match self.log().read(from..until, max_bytes).await {
            Ok(batch) => batch,
            // A tidying that was under way.
            Err(ReadError::Gone { earliest, reason }) => {
                assert!(from < earliest && reason != GoneReason::Lost);
                assert!(from < self.log().bounds().earliest);
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let mut expected = self.given.range(from..until.max(from));
        let records = batch.records().unwrap();
        for record in &records {
            let (seq, (id, len)) = expected.next().expect("more came than there is");
            assert_eq!((record.seq, id_of(&record.notification)), (*seq, *id));
            assert!(record.notification.body == notification(*id, *len).body);
        }
        let bytes: u64 = batch.groups.iter().map(|group| u64::from(group.header.lines_len)).sum();
        assert!(bytes <= max_bytes as u64 || records.len() == 1);
        match expected.next() {
            Some((seq, _)) => assert!(!records.is_empty() && batch.next <= *seq),
            None => assert!(batch.next >= until.min(self.next)),
        }
    }

    async fn reopen(&mut self, clean: bool) {
        let store = self.store.take().unwrap();
        if clean {
            store.close().await;
        }
        drop(store);
        let store = open(self.folder.path(), &self.config);
        let bounds = default_log(&store).bounds();
        assert!(bounds.next >= self.next);
        assert!(!clean || bounds.next == self.next, "a clean end leaves no hole");
        self.next = bounds.next;
        self.store = Some(store);
    }

    /// What holds at any time.
    async fn check(&mut self) {
        let log = self.log();
        // Not before the committer has deleted what it was going to.
        log.append(Vec::new()).await.unwrap();
        let status = log.status();
        assert_eq!((&status.epoch, status.next, status.lost), (&self.epoch, self.next, 0));
        assert!(status.earliest >= self.earliest && status.earliest <= status.next);
        assert!(status.holes.iter().all(|hole| hole.reason == HoleReason::Unused));
        let kept = self.given.split_off(&status.earliest);
        let deleted = std::mem::replace(&mut self.given, kept);
        let acknowledged = self.consumers.values().min().copied().unwrap_or(0);
        let is_limited = self.config.max_bytes < 1 << 30;
        let unread = deleted.range(acknowledged..).count();
        assert!(unread == 0 || is_limited, "{unread} were deleted unread");
        assert!(unread == 0 || status.evicted.records >= unread as u64);
        self.earliest = status.earliest;
        assert_eq!(status.records, self.given.len() as u64);
        let consumers: BTreeMap<u8, Sequence> =
            status.consumers.iter().map(|c| (c.name.parse().unwrap(), c.position)).collect();
        assert_eq!(consumers, self.consumers);
        for consumer in &status.consumers {
            assert_eq!(consumer.lag, self.given.range(consumer.position..).count() as u64);
        }
    }

    async fn check_all(&self) {
        let mut at = self.earliest;
        let mut seen = 0;
        while at < self.next {
            let batch = self.log().read(at..Sequence::MAX, 200_000).await.unwrap();
            for record in batch.records().unwrap() {
                assert_eq!(id_of(&record.notification), self.given[&record.seq].0);
                seen += 1;
            }
            assert!(batch.next > at);
            at = batch.next;
        }
        assert_eq!(seen, self.given.len());
    }
}

fn run(config: Config, operations: Vec<Operation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(config);
        for operation in operations {
            model.apply(operation).await;
        }
        model.check_all().await;
    });
}

fn cases(few: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { default.cases } else { few },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_log_with_room_is_a_list(operations in operations()) {
        run(config(), operations);
    }

    #[test]
    fn a_log_of_small_segments_is_a_list(
        operations in operations(),
        segment_bytes in prop_oneof![Just(1), Just(600 << 10)],
    ) {
        run(Config { segment_bytes, ..config() }, operations);
    }

    #[test]
    fn a_log_that_drops_its_oldest_is_the_end_of_a_list(operations in operations()) {
        run(Config { max_bytes: 2 << 20, segment_bytes: 1, ..config() }, operations);
    }
}

proptest! {
    // Each of its events opens the store anew.
    #![proptest_config(cases(8))]

    #[test]
    fn no_number_means_two_contents_whatever_happens_in_whatever_order(
        events in harmed::events(),
        config in harmed::configs(),
    ) {
        harmed::run(config, events);
    }
}
