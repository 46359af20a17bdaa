//! The rate at which write-backs reach Orion.

use std::time::{Duration, Instant};

use super::helpers::{attrs, create, n, replayed, towards, until, values};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

#[tokio::test]
async fn a_backlog_of_write_backs_reaches_orion_no_faster_than_its_rate_and_in_order() {
    let mut orion = OrionStandIn::start().await;
    let ids: Vec<String> = (0..8).map(|number| format!("urn:{number}")).collect();
    for id in &ids {
        create(&orion, id).await;
    }
    orion.stop().await;
    let gateway = towards(&orion).set("ORION__MAX_RATE", "10").start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=4 {
        for id in &ids {
            spark.set(id, "n", value).await;
        }
    }
    let before = orion.requests().len();
    orion.restart().await;
    replayed(&gateway).await;
    for id in &ids {
        assert_eq!(values(&orion, id), [1, 2, 3, 4], "{id}");
    }
    let at: Vec<Instant> = orion.requests().iter().skip(before).map(|request| request.at).collect();
    assert!(at.len() >= 32);
    // One goes at once, and the first and the last may have been on their way
    // for long. What a moment's rate is, the replay's own tests tell.
    let took = at[at.len() - 1].duration_since(at[0]);
    let least = Duration::from_millis(100) * u32::try_from(at.len() - 3).unwrap();
    assert!(took >= least, "{} in {took:?}", at.len());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_rate() {
    let orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    let gateway = towards(&orion).set("ORION__MAX_RATE", "0.01").start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=3 {
        spark.write("PATCH", &attrs("urn:a"), &n(value)).await;
    }
    until("the first is written", async || values(&orion, "urn:a") == [1]).await;
    let began = Instant::now();
    let (setup, ended) = gateway.stop().await;
    assert!(ended.success() && began.elapsed() < Duration::from_secs(10), "{ended}");
    // A restart fills the bucket: one more goes.
    let _gateway = setup.start().await;
    until("the second is written", async || values(&orion, "urn:a") == [1, 2]).await;
}
