//! Rounds of load, kill and audit, on one data directory.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::drivers::Driver;
use super::life::{Life, until};
use super::orion_side::{self, Counts, LIFE};
use super::seed::Seed;
use super::senders::{self, Ledger, STREAMS};
use super::streams::Stream;
use super::writers::{self, Written};
use crate::common::gateway::{Gateway, Setup};
use crate::common::http;
use crate::common::orion::{Fault, OrionStandIn};
use crate::common::spark::Spark;

const SENDERS: u64 = 6;
const WRITERS: u64 = 2;
const DRIVERS: u64 = 2;
/// Rounds with one Orion; what was written to it is checked at their end.
const LEG: u64 = 4;

/// What happens to the gateway, again and again.
pub trait Mishap {
    /// The settings to begin with, and where the data lies.
    fn setup(&mut self) -> Setup;

    /// Starts it; where it did not even come that far: what is left of it.
    async fn start(&mut self, setup: Setup, chance: &mut Seed) -> Result<Gateway, Setup>;

    /// Something that it survives, under load.
    async fn disturb(&mut self, life: &Life, chance: &mut Seed);

    /// Ends it under load.
    async fn strike(&mut self, gateway: Gateway, life: &Life, chance: &mut Seed) -> Setup;

    /// Where lines fail too: how long an exchange over one may take.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Whether the line to Orion failed in that life: an answer may be lost.
    fn loses_answers_of_orion(&self, _life: u64) -> bool {
        false
    }
}

pub struct Campaign<M> {
    // Dropped before the gateway: what it is stuck in lets go of it.
    pub mishap: M,
    chance: Seed,
    contents: Seed,
    gateway: Option<Gateway>,
    lives: u64,
    life: Life,
    streams: Vec<Stream>,
    ledger: Ledger,
    leg: Leg,
    legs: u64,
    tasks: u64,
    report: Report,
}

/// One Orion and what is written to it.
struct Leg {
    orion: OrionStandIn,
    written: Written,
    writers: Vec<Vec<String>>,
    drivers: Vec<Driver>,
}

/// What a campaign has to tell.
#[derive(Default)]
pub struct Report {
    kills: u64,
    sent: usize,
    acknowledged: usize,
    stored: usize,
    batches: u64,
    write_backs: Counts,
    read_once: usize,
    read_again: u64,
    reader_crashes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, sent, acknowledged, stored, batches, write_backs, .. } = self;
        let Self { read_once, read_again, reader_crashes, .. } = self;
        let Counts { accepted, applied, repeated, ambiguous } = write_backs;
        write!(
            f,
            "{kills} kills; notifications: {sent} sent, {acknowledged} acknowledged, {stored} \
             stored, 0 missing, 0 corrupted; {read_once} read, each once ({read_again} sent again \
             after {reader_crashes} crashes of the reader); write-backs: {accepted} accepted (in {batches} \
             batches and singly), {applied} at Orion, {repeated} repeated after a lost answer, \
             {ambiguous} dead letters (ambiguous), 0 lost, 0 reordered"
        )
    }
}

impl Leg {
    async fn new(number: u64, chance: &Seed) -> Self {
        let orion = OrionStandIn::start().await;
        let names = |kind: &str, of: u64, count: u64| -> Vec<String> {
            (0..count).map(|entity| format!("urn:L{number}:{kind}{of}:{entity}")).collect()
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| names("W", writer, 3)).collect();
        let never = format!("urn:L{number}:never");
        let drivers: Vec<Driver> = (0..DRIVERS)
            .map(|at| {
                let query = format!("leg{number}-query{at}");
                let chance = chance.of(number * DRIVERS + at);
                Driver::new(query, names("D", at, 3), never.clone(), chance)
            })
            .collect();
        let of_drivers = drivers.iter().flat_map(|driver| &driver.entities);
        for id in writers.iter().flatten().chain(of_drivers).chain([&never]) {
            let list = json!({"type": "StructuredValue", "value": []});
            let entity = json!({"id": id, "type": "T", "once": list,
                "number": {"type": "Number", "value": 0}});
            let raw = http::json_request("POST", "/v2/entities", &entity);
            assert_eq!(http::once(orion.addr(), &raw).await.status, 201);
        }
        Self { orion, written: Written::default(), writers, drivers }
    }
}

impl<M: Mishap> Campaign<M> {
    pub async fn new(mut mishap: M, seed: u64) -> Self {
        let chance = Seed::new(seed);
        let (contents, leg) = (chance.of(1), Leg::new(0, &chance.of(2)).await);
        let mut setup = mishap
            .setup()
            .set("STORE__MAX_BYTES", "8GiB")
            .set("ORION__BACKOFF_MIN", "20ms")
            .set("ORION__BACKOFF_MAX", "200ms");
        for (at, stream) in STREAMS.iter().enumerate() {
            setup = setup.set(&format!("STREAM__{at}__NAME"), stream);
        }
        let streams = STREAMS.map(|name| Stream::new(name, contents.clone())).to_vec();
        let mut campaign = Self {
            mishap,
            chance,
            contents,
            gateway: None,
            lives: 0,
            life: Life::new(),
            streams,
            ledger: Ledger::default(),
            leg,
            legs: 0,
            tasks: 0,
            report: Report::default(),
        };
        campaign.start(setup).await;
        let spark = Spark::of(campaign.gateway());
        for stream in &campaign.streams {
            stream.register(&spark).await;
        }
        campaign
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    async fn start(&mut self, setup: Setup) {
        let life = format!("ORION__HEADERS__{}", LIFE.to_uppercase());
        let mut setup = setup.set("ORION__URL", &self.leg.orion.url());
        loop {
            self.lives += 1;
            self.life = Life::with(self.mishap.patience());
            setup = setup.set(&life, &self.lives.to_string());
            match self.mishap.start(setup, &mut self.chance).await {
                Ok(gateway) => return self.gateway = Some(gateway),
                Err(left) => setup = left,
            }
        }
    }

    /// Round after round, as long as `goes_on` says so of the mishaps and of
    /// how many rounds there were.
    pub async fn run(&mut self, goes_on: impl Fn(&M, u64) -> bool) {
        let mut round = 0;
        while goes_on(&self.mishap, round) {
            self.round(round).await;
            round += 1;
        }
    }

    async fn round(&mut self, round: u64) {
        if round > 0 && round.is_multiple_of(LEG) {
            self.end_leg().await;
            // The way of an orderly end is walked too.
            let (setup, ended) = self.gateway.take().unwrap().stop().await;
            assert!(ended.success(), "{ended:?}\n{}", setup.log());
            self.legs += 1;
            self.leg = Leg::new(self.legs, &self.chance.of(2)).await;
            self.start(setup).await;
        }
        let is_down = self.trouble().await;
        let mut load = JoinSet::new();
        let mut driving = JoinSet::new();
        self.load(&mut load, &mut driving);
        self.mishap.disturb(&self.life, &mut self.chance).await;
        let gateway = self.gateway.take().unwrap();
        let setup = self.mishap.strike(gateway, &self.life, &mut self.chance).await;
        self.life.end();
        self.report.kills += 1;
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        self.leg.drivers = driving.join_all().await;
        self.leg.drivers.sort_by(|a, b| a.query.cmp(&b.query));
        self.leg.orion.heal();
        if is_down {
            self.leg.orion.restart().await;
        }
        self.start(setup).await;
        let spark = Spark::of(self.gateway());
        for stream in self.streams.clone() {
            stream.audit(&spark, &self.ledger, &self.life).await;
            if self.chance.one_in(2) {
                stream.catch_up(&spark, &self.life).await;
            }
        }
    }

    /// What is wrong with Orion in this round; true where it is down.
    async fn trouble(&mut self) -> bool {
        let orion = &mut self.leg.orion;
        match self.chance.below(6) {
            0 => {
                orion.stop().await;
                return true;
            }
            1 => orion.inject(&Fault::delayed(Duration::from_millis(4))),
            2 => orion.inject(&Fault::answer(503).times(20)),
            3 => orion.inject(&Fault::apply_then_close().times(5)),
            4 => orion.inject(&Fault::close_before_apply().times(5)),
            _ => {}
        }
        false
    }

    fn load(&mut self, load: &mut JoinSet<()>, driving: &mut JoinSet<Driver>) {
        let to = self.gateway().intake;
        let spark = Spark::patient(self.gateway(), self.mishap.patience());
        for sender in 0..SENDERS {
            let (ledger, contents) = (self.ledger.clone(), self.contents.clone());
            let (chance, life) = (self.chance_of_task(), self.life.clone());
            load.spawn(senders::send(to, sender, chance, contents, ledger, life));
        }
        for stream in self.streams.clone() {
            let mut chance = self.chance_of_task();
            let acknowledges = chance.one_in(2);
            load.spawn(stream.follow(spark.clone(), chance, acknowledges, self.life.clone()));
        }
        for entities in self.leg.writers.clone() {
            let (spark, written) = (spark.clone(), self.leg.written.clone());
            let (chance, life) = (self.chance_of_task(), self.life.clone());
            load.spawn(writers::write(spark, entities, chance, written, life));
        }
        for driver in std::mem::take(&mut self.leg.drivers) {
            let (spark, written) = (spark.clone(), self.leg.written.clone());
            driving.spawn(driver.run(spark, written, self.life.clone()));
        }
    }

    fn chance_of_task(&mut self) -> Seed {
        self.tasks += 1;
        self.chance.of(self.lives << 8 | self.tasks)
    }

    /// Everything accepted comes to its end, and is compared.
    async fn end_leg(&mut self) {
        let spark = Spark::of(self.gateway());
        for driver in &mut self.leg.drivers {
            driver.finish(&spark, &self.leg.written, &self.life).await;
            self.report.batches += driver.batches;
        }
        until("the write-backs are replayed", async || {
            let replay = &self.gateway().status().await["replay"];
            replay["waiting"] == 0 && replay["in_flight"] == 0
        })
        .await;
        let letters = dead_letters(self.gateway()).await;
        let excused = |life| self.mishap.loses_answers_of_orion(life);
        let counts = orion_side::check(&self.leg.orion, &self.leg.written, &letters, &excused);
        if !letters.is_empty() {
            let mut drop = self.gateway().setup().command(["dead-letters", "drop", "--all"]);
            assert!(drop.output().await.unwrap().status.success());
        }
        let all = &mut self.report.write_backs;
        all.accepted += counts.accepted;
        all.applied += counts.applied;
        all.repeated += counts.repeated;
        all.ambiguous += counts.ambiguous;
    }

    pub async fn end(mut self) -> Report {
        self.end_leg().await;
        let spark = Spark::of(self.gateway());
        for stream in self.streams.clone() {
            stream.catch_up(&spark, &self.life).await;
            let (once, again, crashes) = stream.taken_once(&self.ledger);
            self.report.read_once += once;
            self.report.read_again += again;
            self.report.reader_crashes += crashes;
        }
        let (setup, ended) = self.gateway.take().unwrap().stop().await;
        assert!(ended.success(), "{ended:?}\n{}", setup.log());
        // What the data lies on goes first: no folder can be removed under it.
        drop(self.mishap);
        drop(setup);
        let sent = self.ledger.lock();
        self.report.sent = sent.len();
        self.report.acknowledged = sent.values().filter(|sent| sent.acknowledged).count();
        self.report.stored = sent.values().filter(|sent| sent.seq.is_some()).count();
        drop(sent);
        self.report
    }
}

pub async fn dead_letters(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.setup().command(["dead-letters", "list", "--json"]).output().await;
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
