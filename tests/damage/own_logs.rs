//! The gateway's own logs: what damage takes there is reported, and the rest
//! goes on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::gateway::{Gateway, Setup};
use crate::common::orion::{Fault, OrionStandIn};
use crate::common::spark::Spark;
use crate::harm::{Harm, harm};
use crate::helpers::{create, dead_letters, replayed, towards, until, values};
use crate::seed::Seed;

const HARMS: [Harm; 3] = [Harm::Removed, Harm::Emptied, Harm::OtherKind];

/// The data files of a log's segments, in order: one for each life.
fn data_files(data: &Path, log: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join(log).join("segments")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path().join("db")).collect();
    files.sort();
    files
}

/// Writes these values of `n`, one after the other, and ends cleanly.
async fn life(setup: Setup, values: std::ops::RangeInclusive<u64>) -> Setup {
    let gateway = setup.start().await;
    let spark = Spark::of(&gateway);
    for value in values {
        spark.set("urn:a", "n", value).await;
    }
    gateway.stop().await.0
}

/// How many records of a log `/status` says are lost.
async fn lost(gateway: &Gateway, log: &str) -> u64 {
    let status = gateway.status().await;
    let damaged = status["damaged"].as_array().unwrap();
    let of_log = damaged.iter().find(|damaged| damaged["log"] == log);
    of_log.and_then(|damaged| damaged["lost"].as_u64()).unwrap_or(0)
}

fn said(gateway: &Gateway, what: &str) -> bool {
    gateway.log().lines().any(|line| line.contains("ERROR") && line.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn write_backs_that_damage_took_are_reported_and_the_rest_reaches_orion() {
    for how in HARMS {
        let mut orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        orion.stop().await;
        let mut setup = towards(&orion);
        for first in [1, 6, 11] {
            setup = life(setup, first..=first + 4).await;
        }
        let files = data_files(&setup.data_dir(), "write-backs");
        assert_eq!(files.len(), 3);
        let what = harm(&files[1], how, &mut Seed::new(1));

        orion.restart().await;
        let gateway = setup.start().await;
        Spark::of(&gateway).set("urn:a", "n", 16).await;
        replayed(&gateway).await;
        let expected: Vec<u64> = (1..=5).chain(11..=16).collect();
        orion.wait_for(|state| state.entities.history("", "urn:a").len() > expected.len()).await;
        assert_eq!(values(&orion, "urn:a"), expected, "{what}");
        assert_eq!(lost(&gateway, "write-backs").await, 5, "{what}");
        assert!(said(&gateway, "records lost log=\"write-backs\" from=5 until=10"), "{what}");
        assert!(said(&gateway, "write-backs are gone and cannot be applied from=5 until=10"));
        assert!(dead_letters(&gateway).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_damage_took_stop_nothing_and_no_write_back_is_missing() {
    for how in HARMS {
        let orion = OrionStandIn::start().await;
        create(&orion, "urn:a").await;
        let gateway = towards(&orion).start().await;
        let spark = Spark::of(&gateway);
        for value in 1..=5 {
            spark.set("urn:a", "n", value).await;
        }
        replayed(&gateway).await;
        // Killed, so that the journal is still there.
        let setup = gateway.kill().await;
        let mut what = String::new();
        for file in data_files(&setup.data_dir(), "outcomes") {
            what = harm(&file, how, &mut Seed::new(1));
        }
        let gateway = setup.start().await;
        Spark::of(&gateway).set("urn:a", "n", 6).await;
        until("the new write is applied", async || values(&orion, "urn:a").last() == Some(&6))
            .await;
        replayed(&gateway).await;
        let values = values(&orion, "urn:a");
        // What was settled but not yet below the mark may come once more, in
        // order; nothing is missing, and the newest stands at the end.
        let mut firsts = values.clone();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts, [1, 2, 3, 4, 5, 6], "{what}: {values:?}");
        assert_eq!(values.last(), Some(&6), "{what}: {values:?}");
        assert!(dead_letters(&gateway).await.is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_damage_took_are_reported_and_the_others_can_be_retried() {
    for how in HARMS {
        let orion = OrionStandIn::start().await;
        for entity in ["urn:a", "urn:b"] {
            create(&orion, entity).await;
        }
        let mut setup = towards(&orion);
        for entity in ["urn:a", "urn:b"] {
            orion.inject(&Fault::answer(400).times(1));
            let gateway = setup.start().await;
            Spark::of(&gateway).set(entity, "n", 1).await;
            until("the dead letter is there", async || {
                let status = gateway.status().await;
                status["write_backs"]["dead_letters"].as_u64()
                    >= Some(1 + u64::from(entity == "urn:b"))
            })
            .await;
            setup = gateway.stop().await.0;
        }
        let files = data_files(&setup.data_dir(), "dead-letters");
        assert_eq!(files.len(), 2);
        let what = harm(&files[0], how, &mut Seed::new(1));
        let gateway = setup.start().await;
        let letters: Vec<Value> = dead_letters(&gateway).await;
        let [letter] = letters.as_slice() else { panic!("{what}: {letters:?}") };
        assert!(letter["request"]["path"].as_str().unwrap().contains("urn:b"), "{letter}");
        assert_eq!(lost(&gateway, "dead-letters").await, 1, "{what}");
        assert!(said(&gateway, "records lost log=\"dead-letters\" from=0 until=1"), "{what}");
        let id = letter["id"].to_string();
        let retried = crate::helpers::command(&gateway, &["dead-letters", "retry", &id]).await;
        assert!(retried.0, "{what}: {}", retried.1);
        until("it is applied", async || values(&orion, "urn:b") == [1]).await;
    }
}
