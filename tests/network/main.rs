//! Lines that fail under load, while the gateway, its readers and Orion are
//! killed: what was acknowledged is there, once and in order.
//!
//! `NGSI_FERRY_NETWORK_ROUNDS` sets how often the gateway is killed,
//! `NGSI_FERRY_SEED` repeats a run as far as chance allows.

#[path = "../common/mod.rs"]
mod common;
mod consumers;
mod line;
mod lines;
#[path = "../kill/mod.rs"]
mod oracle;

use lines::Lines;
use oracle::campaign::Campaign;
use oracle::seed;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_read_twice_however_the_lines_fail() {
    let rounds = seed::setting("NGSI_FERRY_NETWORK_ROUNDS").unwrap_or(6);
    let seed = seed::chosen();
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(Lines::new().await, seed).await;
    campaign.run(|_, round| round < rounds).await;
    eprint!("{}", campaign.mishap.faults);
    eprintln!("{}", campaign.end().await);
}
