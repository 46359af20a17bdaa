//! A disk that fails for a moment: what was answered is kept, and the gateway
//! takes notifications again by itself.

use std::collections::BTreeSet;

use http::Method;
use rustix::io::Errno;
use serde_json::json;

use super::content::Cut;
use super::machine::Fault;
use super::oracle::life::until;
use super::oracle::seed::Seed;
use super::place::Place;
use super::volume::Volume;
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{Client, json_request, once, request};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

const CAPACITY: u64 = 1 << 30;

/// The volume first: it is let go of before the folder that it is mounted in.
struct Plant {
    volume: Volume,
    gateway: Option<Gateway>,
    sent: u64,
    acknowledged: BTreeSet<u64>,
}

impl Plant {
    async fn new(setup: Setup) -> Option<Self> {
        match Volume::mount(&setup.data_dir(), CAPACITY, 1) {
            Ok(volume) => {
                let gateway = Some(setup.start().await);
                volume.machine().is_up();
                let (sent, acknowledged) = (0, BTreeSet::new());
                Some(Self { volume, gateway, sent, acknowledged })
            }
            Err(why) => {
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// Sends one notification; `true` where it was acknowledged.
    async fn send(&mut self) -> bool {
        self.sent += 1;
        // Some pages of their own: what a later write covers is not lost.
        let mut chance = Seed::new(self.sent);
        let letter = |_| char::from(b'a' + u8::try_from(chance.below(26)).unwrap());
        let noise: String = (0..16_000).map(letter).collect();
        let body = format!("{:08}{noise}", self.sent);
        let raw = request("POST", "/notify", &[], body.as_bytes());
        let mut client = Client::connect(self.gateway().intake).await.unwrap();
        let answer = client.exchange(&raw).await.unwrap();
        assert!([204, 503].contains(&answer.status), "{}", answer.text());
        let acknowledged = answer.status == 204;
        if acknowledged {
            self.acknowledged.insert(self.sent);
        }
        acknowledged
    }

    async fn send_some(&mut self) {
        for _ in 0..20 {
            assert!(self.send().await, "{}", self.gateway().log());
        }
    }

    async fn takes_again(&mut self) {
        until("the gateway takes notifications again", async || self.send().await).await;
        self.send_some().await;
        self.holds_all(self.gateway()).await;
    }

    async fn holds_all(&self, gateway: &Gateway) {
        let records = gateway.records("default", 0).await;
        let number = |body: &str| body[..8].parse::<u64>().unwrap();
        let found: BTreeSet<u64> =
            records.iter().map(|record| number(record["body"].as_str().unwrap())).collect();
        let missing: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(missing.is_empty(), "acknowledged, and lost: {missing:?}\n{}", gateway.log());
        let status = gateway.status().await;
        let logs = status["streams"].as_array().unwrap();
        assert!(logs.iter().all(|log| log["lost"] == 0), "{status}");
    }

    /// The power goes; everything acknowledged is there afterwards.
    async fn audit_after_cut(mut self) {
        let machine = self.volume.machine().clone();
        machine.freeze();
        let setup = self.gateway.take().unwrap().kill_and(|| machine.power_off()).await;
        machine.cut(Cut::All, 1);
        let gateway = setup.start().await;
        self.holds_all(&gateway).await;
        self.gateway = Some(gateway);
    }
}

/// Fails so often, in that place, in the middle of a segment and then with
/// its first group.
async fn fails(of_syncs: bool, errno: Errno, place: Place, times: u64) {
    let Some(mut plant) = Plant::new(Setup::new()).await else { return };
    for has_segment in [false, true] {
        if has_segment {
            plant.send_some().await;
        }
        let mut failed = plant.volume.machine().failed();
        failed.mark_unchanged();
        let fault = Fault { of_syncs, place: Some(place), after: 0, times, errno };
        plant.volume.machine().set_fault(Some(fault));
        while !failed.has_changed().unwrap() {
            plant.send().await;
        }
        for _ in 0..5 {
            plant.send().await;
        }
        plant.volume.machine().set_fault(None);
        plant.takes_again().await;
    }
    plant.audit_after_cut().await;
}

const FOR_GOOD: u64 = u64::MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_once_loses_nothing_and_ends_nothing() {
    fails(true, Errno::IO, Place::Intake, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_fail_for_a_while_are_refused_and_taken_again_afterwards() {
    fails(true, Errno::IO, Place::Intake, FOR_GOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_once_loses_nothing_and_ends_nothing() {
    fails(false, Errno::IO, Place::Intake, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_for_a_while_is_written_again_afterwards() {
    fails(false, Errno::NOSPC, Place::Intake, FOR_GOOD).await;
}

/// What cannot be opened because the disk takes no writes now is not damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_not_given_up_because_the_disk_cannot_be_written_now() {
    let places = [None, Some(Place::Intake)];
    for (of_syncs, place) in [true, false].map(|of| places.map(|place| (of, place))).concat() {
        let Some(mut plant) = Plant::new(Setup::new()).await else { return };
        plant.send_some().await;
        // Sealed by the end, and opened again by whoever reads it.
        let (setup, ended) = plant.gateway.take().unwrap().stop().await;
        assert!(ended.success(), "{ended:?}");
        plant.gateway = Some(setup.start().await);
        let machine = plant.volume.machine();
        let errno = Errno::IO;
        machine.set_fault(Some(Fault { of_syncs, place, after: 0, times: FOR_GOOD, errno }));
        let spark = Spark::of(plant.gateway());
        for _ in 0..3 {
            let path = "/v1/streams/default/records?from=0";
            let answer = spark.request(Method::GET, path, &[], Vec::new()).await.unwrap();
            assert!([200, 503].contains(&answer.status), "{answer:?}\n{}", plant.gateway().log());
        }
        machine.set_fault(None);
        plant.takes_again().await;
    }
}

/// The replay notes what became of each write-back: where it cannot, for a
/// while, each still reaches Orion, in order, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn write_backs_reach_orion_though_their_outcomes_could_not_be_written_for_a_while() {
    for of_syncs in [true, false] {
        let orion = OrionStandIn::start().await;
        let setup = Setup::new()
            .set("ORION__URL", &orion.url())
            .set("ORION__BACKOFF_MIN", "20ms")
            .set("ORION__BACKOFF_MAX", "200ms");
        let Some(plant) = Plant::new(setup).await else { return };
        let entity = json!({"id": "e", "type": "T", "n": {"type": "Number", "value": 0}});
        let raw = json_request("POST", "/v2/entities", &entity);
        assert_eq!(once(orion.addr(), &raw).await.status, 201);
        let spark = Spark::of(plant.gateway());
        let machine = plant.volume.machine();
        let mut failed = machine.failed();
        failed.mark_unchanged();
        let (place, errno) = (Some(Place::Replay), Errno::IO);
        machine.set_fault(Some(Fault { of_syncs, place, after: 1, times: FOR_GOOD, errno }));
        for value in 1..=10 {
            spark.set("e", "n", value).await;
        }
        // Each entity's next write waits for the outcome of the one before.
        let struck = tokio::time::timeout(DEADLINE, failed.changed()).await;
        assert!(struck.is_ok(), "no outcome was written");
        machine.set_fault(None);
        for value in 11..=20 {
            spark.set("e", "n", value).await;
        }
        until("the write-backs are replayed", async || {
            let replay = &plant.gateway().status().await["replay"];
            replay["waiting"] == 0 && replay["in_flight"] == 0
        })
        .await;
        let state = orion.state();
        let history = state.entities.history("", "e");
        let values = history.iter().filter(|applied| applied.operation != "create");
        let mut values: Vec<u64> =
            values.map(|applied| applied.sent["n"]["value"].as_u64().unwrap()).collect();
        assert!(values.is_sorted(), "{values:?}");
        values.dedup();
        assert_eq!(values, (1..=20).collect::<Vec<_>>());
    }
}
