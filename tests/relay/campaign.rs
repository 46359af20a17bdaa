//! The relay is killed, or loses its power, or its disk fails for a while,
//! while gateways hand records over: what it said is on stable storage is
//! there, under its numbers, and no number has two contents.

use tokio::task::JoinSet;

use crate::common::gateway::{Gateway, Setup};
use crate::cuts::Cuts;
use crate::edge::{Edge, relay};
use crate::oracle::campaign::Mishap;
use crate::oracle::kill_9::Kill9;
use crate::oracle::life::Life;
use crate::oracle::seed::{self, Seed};
use crate::oracle::senders::STREAMS;
use crate::source::Source;
use crate::spark_api::Api;
use crate::writer::Writer;

const GATEWAYS: [&str; 2] = ["edge1", "edge2"];

struct Campaign<M> {
    // Dropped before the relay: what it is stuck in lets go of it.
    mishap: M,
    chance: Seed,
    relay: Option<Gateway>,
    life: Life,
    sources: Vec<Source>,
    writer: Writer,
    wiped: u64,
    rounds: u64,
}

/// As [`relay`], over what a mishap needs.
fn settings(setup: Setup) -> Setup {
    let names = ["CLIENT__0__NAME", "CLIENT__0__ALLOW", "CLIENT__1__NAME", "CLIENT__1__ALLOW"];
    let of_relay = relay();
    let setup = names
        .iter()
        .fold(setup, |setup, name| setup.set(name, of_relay.get(name).unwrap_or_default()));
    // Nothing is refused for room.
    setup.set("RELAY__MAX_BYTES", "8GiB").set("STORE__MAX_BYTES", "8GiB")
}

impl<M: Mishap> Campaign<M> {
    async fn new(mut mishap: M, seed: u64) -> Self {
        let setup = settings(mishap.setup());
        let sources = GATEWAYS
            .iter()
            .flat_map(|gateway| STREAMS.iter().map(move |stream| Source::new(gateway, stream)));
        let (chance, sources) = (Seed::new(seed), sources.collect());
        let (life, writer) = (Life::new(), Writer::default());
        let mut campaign =
            Self { mishap, chance, relay: None, life, sources, writer, wiped: 0, rounds: 0 };
        campaign.start(setup).await;
        // On a disk that loses nothing.
        for gateway in GATEWAYS {
            let relay = campaign.relay();
            Edge::of(relay, gateway).await;
            for kind in ["pem", "key"] {
                let file = format!("{gateway}.{kind}");
                let from = relay.setup().data_dir().join("pki").join(&file);
                std::fs::copy(from, relay.setup().folder().join(&file)).unwrap();
            }
        }
        let edge = campaign.edge(GATEWAYS[0]);
        assert_eq!(edge.api.get(&edge.path("write-backs")).await.status, 200);
        campaign
    }

    fn relay(&self) -> &Gateway {
        self.relay.as_ref().unwrap()
    }

    fn edge(&self, name: &str) -> Edge {
        let relay = self.relay();
        let file = |kind: &str| relay.setup().folder().join(format!("{name}.{kind}"));
        let (cert, key) = (file("pem"), file("key"));
        let api = Api::with(relay, relay.spark_client_with(Some((&cert, &key))));
        Edge { name: name.to_owned(), api }
    }

    async fn start(&mut self, mut setup: Setup) {
        loop {
            self.life = Life::new();
            match self.mishap.start(setup, &mut self.chance).await {
                Ok(relay) => return self.relay = Some(relay),
                Err(left) => setup = left,
            }
        }
    }

    async fn round(&mut self) {
        let mut handing_over = JoinSet::new();
        for source in std::mem::take(&mut self.sources) {
            let (edge, life) = (self.edge(&source.gateway), self.life.clone());
            let chance = self.chance.of(self.chance.clone().next());
            self.chance.next();
            handing_over.spawn(source.run(edge, chance, life));
        }
        let (api, life) = (Api::of(self.relay()), self.life.clone());
        let writer = std::mem::take(&mut self.writer);
        let writing = tokio::spawn(writer.run(GATEWAYS[0].to_owned(), api, life));
        // What has done nothing yet may end without changing anything.
        self.life.each_goes_on(&STREAMS).await;
        self.mishap.disturb(&self.life, &mut self.chance).await;
        let relay = self.relay.take().unwrap();
        let setup = self.mishap.strike(relay, &self.life, &mut self.chance).await;
        self.life.end();
        self.sources = handing_over.join_all().await;
        self.writer = writing.await.unwrap();
        self.start(setup).await;
        self.audit().await;
        self.rounds += 1;
        if self.chance.one_in(3) {
            let at = self.chance.below(self.sources.len() as u64);
            self.sources[usize::try_from(at).unwrap()].begin_anew();
            self.wiped += 1;
        }
    }

    async fn audit(&mut self) {
        let api = Api::of(self.relay());
        for source in &mut self.sources {
            source.audit(&api).await;
        }
        self.writer.audit(&self.edge(GATEWAYS[0])).await;
    }

    async fn end(mut self) -> String {
        // The way of an orderly end is walked too.
        let (setup, ended) = self.relay.take().unwrap().stop().await;
        assert!(ended.success(), "{ended:?}\n{}", setup.log());
        self.start(setup).await;
        self.audit().await;
        let setup = self.relay.take().unwrap().kill().await;
        drop(self.mishap);
        drop(setup);
        let sum = |of: fn(&Source) -> u64| self.sources.iter().map(of).sum::<u64>();
        format!(
            "{} rounds, {} gateways wiped: {} numbers handed over ({} of them again), {} writes \
             accepted; 0 missing, 0 changed, 0 twice",
            self.rounds,
            self.wiped,
            sum(|source| source.handed_over),
            sum(|source| source.repeated),
            self.writer.count(),
        )
    }
}

fn rounds(default: u64) -> u64 {
    seed::setting("NGSI_FERRY_RELAY_ROUNDS").unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_acknowledged_is_there_whenever_it_is_killed() {
    let (rounds, seed) = (rounds(4), seed::chosen());
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(Kill9, seed).await;
    for _ in 0..rounds {
        campaign.round().await;
    }
    eprintln!("kill -9: {}", campaign.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_acknowledged_is_there_wherever_its_power_goes() {
    let (rounds, seed) = (rounds(6), seed::chosen());
    let cuts = match Cuts::new(seed) {
        Ok(cuts) => cuts,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(cuts, seed).await;
    for _ in 0..rounds {
        campaign.round().await;
    }
    let table = campaign.mishap.table.to_string();
    eprintln!("{table}power cuts: {}", campaign.end().await);
}
