//! kill -9 under load, again and again: what was acknowledged is there, and
//! what was accepted reaches Orion.
//!
//! `NGSI_FERRY_KILL_ROUNDS` sets how often, `NGSI_FERRY_SEED` repeats a run as
//! far as chance allows: bodies, faults and the moments of the kills come from
//! it, the order in which tasks run does not.

mod common;

#[path = "kill/mod.rs"]
mod oracle;

use oracle::campaign::Campaign;
use oracle::kill_9::Kill9;
use oracle::seed;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_changed_or_reordered_whenever_the_gateway_is_killed() {
    let rounds = seed::setting("NGSI_FERRY_KILL_ROUNDS").unwrap_or(12);
    let seed = seed::chosen();
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(Kill9, seed).await;
    campaign.run(|_, round| round < rounds).await;
    eprintln!("{}", campaign.end().await);
}
