//! A small disk that is filled by others and by ourselves, and freed, again
//! and again: nothing acknowledged is lost, what cannot be kept is refused or
//! evicted as configured, and the intake comes back by itself.
//!
//! `NGSI_FERRY_FULL_DISK_CYCLES` sets how often, `NGSI_FERRY_SEED` repeats a
//! run as far as chance allows. Needs root, for a file system of its own.

mod common;

#[path = "full_disk/cycles.rs"]
mod cycles;
// Its bodies are for another campaign.
#[allow(dead_code)]
#[path = "kill/seed.rs"]
mod seed;
#[path = "full_disk/streams.rs"]
mod streams;

use cycles::Cycles;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_nothing_acknowledged_and_the_intake_comes_back_by_itself() {
    let cycles = seed::setting("NGSI_FERRY_FULL_DISK_CYCLES").unwrap_or(3);
    let seed = seed::chosen();
    let mut campaign = match Cycles::new(seed).await {
        Ok(campaign) => campaign,
        Err(why) => return eprintln!("skipped: no file system of its own: {why}"),
    };
    eprintln!("{cycles} cycles; again with NGSI_FERRY_SEED={seed}");
    for cycle in 0..cycles {
        campaign.cycle(cycle).await;
    }
    eprintln!("{}", campaign.end().await);
}
