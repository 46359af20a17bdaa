//! An orderly end: with work in flight, within its deadline, and nothing lost.

mod common;

#[path = "shutdown/idlers.rs"]
mod idlers;
#[path = "shutdown/under_load.rs"]
mod under_load;
#[path = "shutdown/unexpected.rs"]
mod unexpected;

use std::time::{Duration, Instant};

use common::gateway::{Gateway, Setup};

/// Stops it, and fails where it does not end well within `most`.
async fn stops_within(gateway: Gateway, most: Duration) -> Setup {
    let begun = Instant::now();
    let (setup, ended) = gateway.stop().await;
    let took = begun.elapsed();
    assert!(ended.success(), "{ended:?}\n{}", setup.log());
    assert!(took < most, "{took:?}\n{}", setup.log());
    setup
}
