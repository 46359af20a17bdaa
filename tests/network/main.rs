//! Lines that fail under load, while the gateway, its readers and Orion are
//! killed: what was acknowledged is there, once and in order.
//!
//! `NGSI_FERRY_NETWORK_ROUNDS` sets how often the gateway is killed,
//! `NGSI_FERRY_SEED` repeats a run as far as chance allows.

#[path = "../kill/campaign.rs"]
mod campaign;
#[path = "../common/mod.rs"]
mod common;
mod consumers;
#[path = "../kill/drivers.rs"]
mod drivers;
#[path = "../kill/kill_9.rs"]
mod kill_9;
#[path = "../kill/life.rs"]
mod life;
mod line;
mod lines;
#[path = "../kill/orion_side.rs"]
mod orion_side;
#[path = "../kill/seed.rs"]
mod seed;
#[path = "../kill/senders.rs"]
mod senders;
#[path = "../kill/streams.rs"]
mod streams;
#[path = "../kill/writers.rs"]
mod writers;

use campaign::Campaign;
use lines::Lines;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_read_twice_however_the_lines_fail() {
    let rounds = seed::setting("NGSI_FERRY_NETWORK_ROUNDS").unwrap_or(6);
    let seed = seed::chosen();
    eprintln!("{rounds} rounds; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(Lines::new().await, seed).await;
    for round in 0..rounds {
        campaign.round(round).await;
    }
    eprint!("{}", campaign.mishap.faults);
    eprintln!("{}", campaign.end().await);
}
