//! What comes out of a stream: read while it is written, and audited after
//! each kill.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use ngsi_ferry::record::Record;
use serde_json::{Value, json};

use super::life::{Ended, Going, Life};
use super::seed::{self, Seed};
use super::senders::Ledger;
use crate::common::spark::{Reply, Spark};

/// What is known of one stream, over all lives.
#[derive(Clone)]
pub struct Stream {
    pub name: &'static str,
    contents: Seed,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    epoch: Option<String>,
    /// Id by number: no number may ever carry another one.
    seen: BTreeMap<u64, u64>,
    /// Where the reader goes on.
    read: u64,
    /// All below was audited, and may be deleted.
    audited: u64,
    /// The highest position that the reader asked for, and that it was told.
    asked: u64,
    told: u64,
    /// What the reader took over, by number, together with `read`.
    taken: BTreeMap<u64, u64>,
    /// How often the reader lost what it knew, and what it was sent again.
    pub crashes: u64,
    pub again: u64,
}

impl Stream {
    pub fn new(name: &'static str, contents: Seed) -> Self {
        Self { name, contents, known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the gateway is gone; acknowledges now and then.
    pub async fn follow(self, spark: Spark, mut chance: Seed, acknowledges: bool, life: Life) {
        let mut from = self.lock().read;
        loop {
            match self.read(&spark, from, "10s", &life).await {
                Ok((next, records)) if life.has_rough_lines() && chance.one_in(12) => {
                    // Killed with all this in its hands.
                    drop((next, records));
                    from = self.recover(&spark, &mut chance).await;
                    continue;
                }
                Ok((next, records)) => from = self.take_over(next, records),
                Err(_) if life.tries_again().await => continue,
                Err(_) => return,
            }
            if acknowledges
                && chance.one_in(2)
                && self.acknowledge(&spark, "reader", &life).await.is_err()
                && !life.tries_again().await
            {
                return;
            }
        }
    }

    /// The reader's one durable step: records together with where it goes on.
    fn take_over(&self, next: u64, records: Vec<(u64, u64)>) -> u64 {
        let mut known = self.lock();
        for (seq, id) in records {
            if seq < known.read {
                known.again += 1;
                continue;
            }
            let twice = known.taken.insert(seq, id);
            assert!(twice.is_none(), "{} {seq} is taken over twice", self.name);
        }
        known.read = known.read.max(next);
        next
    }

    /// A reader started anew goes on from its own checkpoint, or from where
    /// the gateway says; then it is sent again what it has.
    async fn recover(&self, spark: &Spark, chance: &mut Seed) -> u64 {
        let own = {
            let mut known = self.lock();
            known.crashes += 1;
            known.read
        };
        if chance.one_in(2) {
            return own;
        }
        let path = format!("/v1/streams/{}", self.name);
        let answer = spark.request(Method::GET, &path, &[], Vec::new()).await;
        let Ok(answer) = answer else { return own };
        let status = answer.json();
        let consumers = status["consumers"].as_array().cloned().unwrap_or_default();
        let reader = consumers.iter().find(|consumer| consumer["name"] == "reader");
        let position = reader.and_then(|reader| reader["position"].as_u64()).unwrap();
        assert!(position <= own, "{}: at {position}, but it has only to {own}", self.name);
        position
    }

    /// At the end: the reader has everything that is there, once. Answers how
    /// many that is, what it was sent again, and how often it crashed.
    pub fn taken_once(&self, ledger: &Ledger) -> (usize, u64, u64) {
        let known = self.lock();
        let sent = ledger.lock();
        let of_this = sent.iter().filter(|(_, sent)| sent.stream == self.name);
        let stored: BTreeMap<u64, u64> =
            of_this.filter_map(|(id, sent)| Some((sent.seq?, *id))).collect();
        assert_eq!(known.taken, stored, "{}: the reader has something else", self.name);
        (known.taken.len(), known.again, known.crashes)
    }

    /// Reads once, checks each record, and remembers what it is.
    async fn read(
        &self,
        spark: &Spark,
        from: u64,
        wait: &str,
        life: &Life,
    ) -> Going<(u64, Vec<(u64, u64)>)> {
        let epoch = self.lock().epoch.clone().map(|epoch| format!("&epoch={epoch}"));
        let path = format!(
            "/v1/streams/{}/records?from={from}&wait={wait}{}",
            self.name,
            epoch.unwrap_or_default()
        );
        let answer = spark.request(Method::GET, &path, &[], Vec::new()).await?;
        if answer.status == 503 {
            life.refused(&answer.body);
            return Err(Ended);
        }
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let next: u64 = header("ngsi-ferry-next").parse().unwrap();
        let mut records = Vec::new();
        for line in answer.body.split_inclusive('\n') {
            let record = Record::decode(line.as_bytes()).unwrap();
            records.push((record.seq, self.check(&record)));
        }
        let rises = records.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let within = records.iter().all(|(seq, _)| (from..next).contains(seq));
        assert!(rises && within, "{path}: {records:?}, next {next}");
        let mut known = self.lock();
        known.epoch.get_or_insert(header("ngsi-ferry-epoch"));
        for (seq, id) in &records {
            let before = *known.seen.entry(*seq).or_insert(*id);
            assert_eq!(before, *id, "{} {seq} has two contents", self.name);
        }
        Ok((next, records))
    }

    /// The body is exactly what was sent under its id.
    fn check(&self, record: &Record) -> u64 {
        let body = &record.notification.body;
        let id = seed::id_of(body);
        let id =
            id.unwrap_or_else(|| panic!("{} {} is corrupted: {body:?}", self.name, record.seq));
        let same = *body == seed::body(&self.contents, id);
        assert!(same, "{} {} (id {id}) is corrupted", self.name, record.seq);
        id
    }

    async fn put(&self, spark: &Spark, consumer: &str, position: u64) -> reqwest::Result<Reply> {
        let path = format!("/v1/streams/{}/consumers/{consumer}", self.name);
        let body = json!({ "epoch": self.lock().epoch, "position": position });
        spark.request(Method::PUT, &path, &[], body.to_string().into_bytes()).await
    }

    async fn acknowledge(&self, spark: &Spark, consumer: &str, life: &Life) -> Going<()> {
        let position = {
            let mut known = self.lock();
            known.asked = known.asked.max(known.read);
            known.read
        };
        let answer = self.put(spark, consumer, position).await?;
        if answer.status == 503 {
            life.refused(&answer.body);
            return Err(Ended);
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["position"].as_u64(), Some(position), "{}", answer.body);
        let mut known = self.lock();
        known.told = known.told.max(position);
        Ok(())
    }

    /// Both consumers exist before anything is sent: nothing is deleted that
    /// was not audited.
    pub async fn register(&self, spark: &Spark) {
        self.put(spark, "auditor", 0).await.unwrap();
        self.put(spark, "reader", 0).await.unwrap();
    }

    /// After a kill: everything that was acknowledged or read before is there,
    /// once, in the order of sending, and is what it was.
    pub async fn audit(&self, spark: &Spark, ledger: &Ledger, life: &Life) {
        self.audit_position(spark).await;
        let mut from = self.lock().audited;
        let begun = from;
        let mut found = BTreeMap::new();
        loop {
            let (next, records) = self.read(spark, from, "0s", life).await.unwrap();
            found.extend(records);
            if next == from {
                break;
            }
            from = next;
        }
        for (seq, id) in self.lock().seen.range(begun..) {
            assert!(found.contains_key(seq), "{} {seq} (id {id}) was read before", self.name);
        }
        self.compare(found, ledger, life);
        self.lock().audited = from;
        let audited = self.put(spark, "auditor", from).await.unwrap();
        assert_eq!(audited.status, 200, "{}", audited.body);
    }

    /// What was found is what was sent, once and in the order of each sender,
    /// and all of it that was acknowledged.
    fn compare(&self, found: BTreeMap<u64, u64>, ledger: &Ledger, life: &Life) {
        let mut sent = ledger.lock();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for (seq, id) in found {
            let Some(sent) = sent.get_mut(&id).filter(|sent| sent.stream == self.name) else {
                panic!("{} {seq}: id {id} was never sent here", self.name);
            };
            let before = sent.seq.replace(seq);
            assert!(before.is_none_or(|before| before == seq), "id {id} is in {} twice", self.name);
            let acknowledged = sent.acknowledged;
            let earlier = last.entry(sent.sender).or_insert(id);
            // What was not answered may still be under way when the next is.
            let in_order = *earlier <= id || life.has_rough_lines() && !acknowledged;
            assert!(in_order, "{earlier} is before {id}");
            *earlier = id.max(*earlier);
        }
        let of_this = sent.iter().filter(|(_, sent)| sent.stream == self.name);
        let missing: Vec<u64> =
            of_this.filter(|(_, s)| s.acknowledged && s.seq.is_none()).map(|(id, _)| *id).collect();
        assert!(missing.is_empty(), "acknowledged, and not in {}: {missing:?}", self.name);
    }

    /// The reader's position is one that it asked for, and none lower than it
    /// was told.
    async fn audit_position(&self, spark: &Spark) {
        let path = format!("/v1/streams/{}", self.name);
        let status = spark.request(Method::GET, &path, &[], Vec::new()).await.unwrap().json();
        let consumers = status["consumers"].as_array().unwrap();
        let position = |name: &str| {
            let known: Option<&Value> = consumers.iter().find(|known| known["name"] == name);
            known.unwrap_or_else(|| panic!("no {name} in {status}"))["position"].as_u64().unwrap()
        };
        let known = self.lock();
        let reader = position("reader");
        assert!((known.told..=known.asked).contains(&reader), "{reader}: {status}");
        assert_eq!(position("auditor"), known.audited, "{status}");
        assert_eq!(status["evicted"]["records"], 0, "{status}");
        assert_eq!(status["lost"], 0, "{status}");
    }

    /// The reader has what was audited too, so that segments can go.
    pub async fn catch_up(&self, spark: &Spark, life: &Life) {
        loop {
            let (from, audited) = {
                let known = self.lock();
                (known.read, known.audited)
            };
            if from >= audited {
                break;
            }
            let (next, records) = self.read(spark, from, "0s", life).await.unwrap();
            assert!(next > from, "{}: nothing from {from} to {audited}", self.name);
            self.take_over(next, records);
        }
        self.acknowledge(spark, "reader", life).await.unwrap();
    }
}
