//! The rate at which write-backs reach Orion.

use std::time::{Duration, Instant};

use super::helpers::{attrs, create, n, replayed, towards, until, values};
use crate::common::orion::OrionStandIn;
use crate::common::spark::Spark;

#[tokio::test]
async fn a_backlog_of_write_backs_reaches_orion_no_faster_than_its_rate_and_in_order() {
    let mut orion = OrionStandIn::start().await;
    create(&orion, "urn:a").await;
    create(&orion, "urn:b").await;
    orion.stop().await;
    let gateway = towards(&orion).set("ORION__MAX_RATE", "40").start().await;
    let spark = Spark::of(&gateway);
    for value in 1..=40 {
        spark.set("urn:a", "n", value).await;
        spark.set("urn:b", "n", value).await;
    }
    orion.restart().await;
    let before = orion.requests().len();
    replayed(&gateway).await;
    for id in ["urn:a", "urn:b"] {
        assert_eq!(values(&orion, id), (1..=40).collect::<Vec<_>>(), "{id}");
    }
    let at: Vec<Instant> = orion.requests().iter().skip(before).map(|request| request.at).collect();
    assert!(at.len() >= 80);
    // In any second: forty, what a tenth of one allows at once, and one that
    // was on its way for longer than the others.
    let most = at.iter().map(|begin| {
        at.iter().filter(|at| **at >= *begin && **at < *begin + Duration::from_secs(1)).count()
    });
    let most = most.max().unwrap_or_default();
    assert!(most <= 40 + 4 + 4, "{most} in a second");
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
