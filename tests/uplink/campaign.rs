//! Gateway and relay are killed, or lose their power, and the line between
//! them fails, under load from Orion's side and from Spark's.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use ngsi_ferry::record::Record;

use crate::common::gateway::{Gateway, Setup};
use crate::common::http::{self, Client};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;
use crate::cuts::Cuts;
use crate::edge;
use crate::line::{Line, Way, Weather};
use crate::oracle::campaign::{Mishap, dead_letters};
use crate::oracle::drivers::Driver;
use crate::oracle::kill_9::Kill9;
use crate::oracle::life::Life;
use crate::oracle::orion_side::{self, LIFE};
use crate::oracle::seed::{self, Seed};
use crate::oracle::senders::{self, Ledger, STREAMS};
use crate::oracle::writers::{self, Written};
use crate::pair::{EDGE, lines, next_of, status, until, uplink};
use crate::spark_api::Api;

const SENDERS: u64 = 3;

struct Campaign<M> {
    // Dropped before what is stuck in them.
    of_edge: M,
    of_relay: M,
    chance: Seed,
    contents: Seed,
    orion: OrionStandIn,
    line: Line,
    edge: Option<Gateway>,
    relay: Option<Gateway>,
    ledger: Ledger,
    written: Written,
    driver: Option<Driver>,
    lives: u64,
    rounds: u64,
}

fn entity(name: &str) -> Value {
    json!({"id": name, "type": "T", "number": {"type": "Number", "value": 0},
           "once": {"type": "StructuredValue", "value": []}})
}

impl<M: Mishap> Campaign<M> {
    async fn new(of_edge: M, of_relay: M, seed: u64) -> Self {
        let orion = OrionStandIn::start().await;
        for name in ["staged", "never", "passed"] {
            let raw = http::json_request("POST", "/v2/entities", &entity(name));
            let made = Client::connect(orion.addr()).await.unwrap().exchange(&raw).await.unwrap();
            assert_eq!(made.status, 201, "{made:?}");
        }
        let chance = Seed::new(seed);
        let entities = vec!["staged".to_owned()];
        let driver = Driver::new("q".to_owned(), entities, "never".to_owned(), chance.of(99));
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let mut campaign = Self {
            of_edge,
            of_relay,
            contents: chance.of(1),
            chance,
            orion,
            line: Line::to(nowhere).await,
            edge: None,
            relay: None,
            ledger: Ledger::default(),
            written: Written::default(),
            driver: Some(driver),
            lives: 0,
            rounds: 0,
        };
        let grants = ["CLIENT__0__NAME", "CLIENT__0__ALLOW", "CLIENT__1__NAME", "CLIENT__1__ALLOW"];
        let of_relay = edge::relay();
        let with_grants =
            |setup: Setup, name: &&str| setup.set(name, of_relay.get(name).unwrap_or_default());
        let relay = grants.iter().fold(campaign.of_relay.setup(), with_grants);
        campaign.start_relay(relay.set("RELAY__MAX_BYTES", "8GiB")).await;
        let edge = uplink(campaign.of_edge.setup(), campaign.relay(), campaign.line.addr(), EDGE);
        let edge = edge.await.set("UPLINK__TIMEOUT", "2s").set("STORE__MAX_BYTES", "8GiB");
        let edge = edge.set("ORION__URL", &campaign.orion.url());
        campaign.start_edge(edge).await;
        campaign
    }

    fn relay(&self) -> &Gateway {
        self.relay.as_ref().unwrap()
    }

    fn edge(&self) -> &Gateway {
        self.edge.as_ref().unwrap()
    }

    async fn start_relay(&mut self, mut setup: Setup) {
        let relay = loop {
            match self.of_relay.start(setup, &mut self.chance).await {
                Ok(relay) => break relay,
                Err(left) => setup = left,
            }
        };
        self.line.lead_to(relay.spark);
        self.relay = Some(relay);
    }

    async fn start_edge(&mut self, mut setup: Setup) {
        self.edge = Some(loop {
            self.lives += 1;
            let life = format!("ORION__HEADERS__{}", LIFE.to_uppercase());
            setup = setup.set(&life, &self.lives.to_string());
            match self.of_edge.start(setup, &mut self.chance).await {
                Ok(edge) => break edge,
                Err(left) => setup = left,
            }
        });
    }

    fn spark(&self) -> Spark {
        Spark::through(self.relay(), EDGE)
    }

    async fn round(&mut self) {
        let spark = self.spark();
        let known = async || {
            self.spark().try_abort(("nothing", 0)).await.is_ok_and(|reply| reply.status == 200)
        };
        until("the relay has an outbox for the gateway", known).await;
        let (of_edge, of_relay) = (Life::new(), Life::new());
        let mut tasks = JoinSet::new();
        for sender in 0..SENDERS {
            let chance = self.chance.of(self.chance.clone().next() ^ sender);
            let (to, contents) = (self.edge().intake, self.contents.clone());
            let (ledger, life) = (self.ledger.clone(), of_edge.clone());
            tasks.spawn(senders::send(to, sender, chance, contents, ledger, life));
        }
        self.chance.next();
        let passed = vec!["passed".to_owned()];
        let (chance, written) = (self.chance.of(5), self.written.clone());
        tasks.spawn(writers::write(spark.clone(), passed, chance, written, of_relay.clone()));
        let driver = self.driver.take().unwrap();
        let driving = tokio::spawn(driver.run(spark, self.written.clone(), of_relay.clone()));
        of_edge.reaches(30).await;
        self.disturb_line();
        let which = self.chance.below(3);
        if which != 1 {
            let edge = self.edge.take().unwrap();
            let setup = self.of_edge.strike(edge, &of_edge, &mut self.chance).await;
            of_edge.end();
            self.start_edge(setup).await;
        }
        if which != 0 {
            let relay = self.relay.take().unwrap();
            let setup = self.of_relay.strike(relay, &of_relay, &mut self.chance).await;
            of_relay.end();
            self.start_relay(setup).await;
        }
        // Who is left works against one that lives on: it must stop too.
        if which == 1 {
            of_edge.stopping();
            let setup = self.edge.take().unwrap().kill().await;
            of_edge.end();
            self.start_edge(setup).await;
        }
        if which == 0 {
            let setup = self.relay.take().unwrap().kill().await;
            of_relay.end();
            self.start_relay(setup).await;
        }
        while tasks.join_next().await.is_some() {}
        self.driver = Some(driving.await.unwrap());
        self.line.set(Weather::Fair);
        self.rounds += 1;
    }

    fn disturb_line(&mut self) {
        match self.chance.below(6) {
            0 => self.line.reset(),
            1 => self.line.set(Weather::Stalled),
            2 => self.line.set(Weather::Swallows(Way::There)),
            3 => self.line.set(Weather::Swallows(Way::Back)),
            4 => self.line.set(Weather::CutsAnswers(200)),
            _ => {}
        }
        if self.chance.one_in(2) {
            self.line.set(Weather::Fair);
        }
    }

    /// Everything that was acknowledged is at the relay, once, in the order of
    /// each sender, byte for byte.
    async fn audit_records(&self) -> usize {
        let api = Api::of(self.relay());
        let mut found = 0;
        for stream in STREAMS {
            if self.edge().status().await["streams"].to_string().contains(&format!("\"{stream}\""))
            {
                let next = next_of(self.edge(), stream).await;
                let path = format!("/v1/gateways/{EDGE}/streams/{stream}");
                let level = async || {
                    let answer = api.get(&path).await;
                    answer.status == 200 && answer.json()["next"].as_u64() >= Some(next)
                };
                if next > 0 {
                    until("the relay has everything", level).await;
                    found += self.audit(stream, &lines(&api, &path, None).await);
                }
            }
        }
        for (id, sent) in self.ledger.lock().iter() {
            assert!(!sent.acknowledged || sent.seq.is_some(), "{id} is lost: {sent:?}");
        }
        found
    }

    fn audit(&self, stream: &str, lines: &[Vec<u8>]) -> usize {
        let mut sent = self.ledger.lock();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last_seq = None;
        for line in lines {
            let record = Record::decode(line).unwrap();
            assert!(last_seq < Some(record.seq), "{stream}: {} after {last_seq:?}", record.seq);
            last_seq = Some(record.seq);
            let body = &record.notification.body;
            let id = seed::id_of(body).unwrap();
            assert!(*body == seed::body(&self.contents, id), "{id} came out changed");
            let one = sent.get_mut(&id).unwrap();
            assert!(one.stream == stream && one.seq.is_none(), "{id} is there twice: {one:?}");
            one.seq = Some(record.seq);
            let before = last.insert(one.sender, id);
            assert!(before < Some(id), "{id} came after {before:?}");
        }
        lines.len()
    }

    async fn end(mut self) -> String {
        let life = Life::new();
        let spark = self.spark();
        let mut driver = self.driver.take().unwrap();
        driver.finish(&spark, &self.written, &life).await;
        let found = self.audit_records().await;
        let outbox = edge::Edge::of(self.relay(), EDGE).await;
        let drained = async || {
            let next = outbox.api.get(&outbox.path("write-backs")).await.json();
            let consumers = next["consumers"].as_array().cloned().unwrap_or_default();
            let pulled = consumers
                .iter()
                .any(|one| one["name"] == "uplink" && one["position"] == next["next"]);
            pulled && self.edge().status().await["replay"]["waiting"] == 0
        };
        until("every write-back has an outcome", drained).await;
        let letters = dead_letters(self.edge()).await;
        let counts = orion_side::check(&self.orion, &self.written, &letters, &|_| false);
        let sent = status(self.edge()).await["sent_records"].clone();
        let acknowledged = self.ledger.lock().values().filter(|sent| sent.acknowledged).count();
        format!(
            "{} rounds: {acknowledged} notifications acknowledged, {found} at the relay ({sent} \
             sent in the last life), {} writes accepted, {} applied, {} repeated, {} ambiguous; \
             0 lost, 0 twice, 0 changed",
            self.rounds, counts.accepted, counts.applied, counts.repeated, counts.ambiguous,
        )
    }
}

fn rounds(default: u64) -> u64 {
    seed::setting("NGSI_FERRY_UPLINK_ROUNDS").unwrap_or(default)
}

async fn run<M: Mishap>(what: &str, of_edge: M, of_relay: M, rounds: u64, seed: u64) {
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(of_edge, of_relay, seed).await;
    for _ in 0..rounds {
        campaign.round().await;
    }
    eprintln!("{what}: {}", campaign.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_acknowledged_is_at_its_relay_once_whoever_is_killed() {
    run("kill -9", Kill9, Kill9, rounds(3), seed::chosen()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_acknowledged_is_at_its_relay_once_wherever_the_power_goes() {
    let seed = seed::chosen();
    match (Cuts::new(seed), Cuts::new(seed ^ 1)) {
        (Ok(edge), Ok(relay)) => run("power cuts", edge, relay, rounds(3), seed).await,
        (Err(why), _) | (_, Err(why)) => eprintln!("skipped: {why}"),
    }
}
