//! kill -9 of everyone, over three lines that fail: to the intake, to the
//! Spark API, and to Orion.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::line::{Line, Way, Weather};
use super::oracle::campaign::Mishap;
use super::oracle::kill_9::Kill9;
use super::oracle::life::Life;
use super::oracle::seed::Seed;
use crate::common::gateway::{Gateway, Setup};

/// How long clients wait for an answer. Lines hold bytes for less than that,
/// or for ever: none delivers what its sender has given up.
const PATIENCE: Duration = Duration::from_secs(2);
const LINES: [&str; 3] = ["intake", "spark", "orion"];
const FAULTS: [&str; 8] = [
    "stalls",
    "stalls for good",
    "resets",
    "half-open there",
    "half-open back",
    "down 30%",
    "crawls",
    "cuts answers",
];

pub struct Lines {
    each: [Line; 3],
    life: u64,
    /// Lives in which the line to Orion failed.
    rough_to_orion: BTreeSet<u64>,
    pub faults: Faults,
}

/// How often each fault was, by line.
#[derive(Default)]
pub struct Faults(BTreeMap<&'static str, [u64; 3]>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{:>8}{:>8}{:>8}", "fault", LINES[0], LINES[1], LINES[2])?;
        for (fault, [intake, spark, orion]) in &self.0 {
            writeln!(f, "{fault:<16}{intake:>8}{spark:>8}{orion:>8}")?;
        }
        Ok(())
    }
}

impl Lines {
    pub async fn new() -> Self {
        // Nobody is there yet.
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let each = [Line::to(nowhere).await, Line::to(nowhere).await, Line::to(nowhere).await];
        let (rough_to_orion, faults) = (BTreeSet::new(), Faults::default());
        Self { each, life: 0, rough_to_orion, faults }
    }

    /// Lets one line fail, for a moment; leaves it as it then is.
    async fn fail(&mut self, chance: &mut Seed) -> usize {
        let at = usize::try_from(chance.below(3)).unwrap();
        let fault = FAULTS[usize::try_from(chance.below(FAULTS.len() as u64)).unwrap()];
        self.faults.0.entry(fault).or_default()[at] += 1;
        if LINES[at] == "orion" {
            self.rough_to_orion.insert(self.life);
        }
        let line = &self.each[at];
        let lasts = |chance: &mut Seed, most: u64| Duration::from_millis(50 + chance.below(most));
        let lasting = lasts(chance, 350);
        match fault {
            "stalls" | "stalls for good" => line.set(Weather::Stalled),
            "resets" => line.reset(),
            "half-open there" => line.set(Weather::Swallows(Way::There)),
            "half-open back" => line.set(Weather::Swallows(Way::Back)),
            "crawls" => line.set(Weather::Crawls(8 << 10)),
            "cuts answers" => {
                let after = usize::try_from(chance.below(20_000)).unwrap();
                line.set(Weather::CutsAnswers(if chance.one_in(2) { after } else { after / 100 }));
            }
            "down 30%" => {
                for _ in 0..4 {
                    line.set(Weather::Stalled);
                    tokio::time::sleep(lasts(chance, 50) * 3 / 10).await;
                    line.set(Weather::Fair);
                    tokio::time::sleep(lasts(chance, 50) * 7 / 10).await;
                }
            }
            other => unreachable!("{other}"),
        }
        tokio::time::sleep(lasting).await;
        if fault == "stalls for good" {
            line.reset();
        }
        at
    }
}

impl Mishap for Lines {
    fn setup(&mut self) -> Setup {
        // Whoever is silent is given up about as fast as by its clients.
        Kill9
            .setup()
            .set("INTAKE__HEAD_TIMEOUT", "3s")
            .set("INTAKE__BODY_TIMEOUT", "3s")
            .set("SPARK__BODY_TIMEOUT", "3s")
            .set("SPARK__MAX_WAIT", "300ms")
            .set("ORION__TIMEOUT", "1s")
            // Orion itself is not to blame: nothing is given up for its sake.
            .set("ORION__MAX_ATTEMPTS", "100000")
    }

    async fn start(&mut self, setup: Setup, chance: &mut Seed) -> Result<Gateway, Setup> {
        self.life += 1;
        let orion = setup.get("ORION__URL").and_then(|url| url.strip_prefix("http://"));
        self.each[2].lead_to(orion.unwrap().parse().unwrap());
        let setup = setup.set("ORION__URL", &format!("http://{}", self.each[2].addr()));
        let mut gateway = Kill9.start(setup, chance).await?;
        self.each[0].lead_to(gateway.intake);
        self.each[1].lead_to(gateway.spark);
        (gateway.intake, gateway.spark) = (self.each[0].addr(), self.each[1].addr());
        Ok(gateway)
    }

    async fn disturb(&mut self, life: &Life, chance: &mut Seed) {
        for _ in 0..=chance.below(4) {
            let at = self.fail(chance).await;
            self.each[at].set(Weather::Fair);
            // Whatever it was, things go on once it is over.
            life.reaches(life.so_far() + 10).await;
        }
    }

    async fn strike(&mut self, gateway: Gateway, life: &Life, chance: &mut Seed) -> Setup {
        let setup = if chance.one_in(3) {
            // Killed while a line fails.
            self.fail(chance).await;
            gateway.kill().await
        } else {
            Kill9.strike(gateway, life, chance).await
        };
        for line in &self.each {
            line.set(Weather::Fair);
            line.reset();
        }
        setup
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn loses_answers_of_orion(&self, life: u64) -> bool {
        self.rough_to_orion.contains(&life)
    }
}
