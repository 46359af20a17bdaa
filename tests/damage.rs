//! Damaged stores: every file and folder of one, harmed in every way that a
//! failing disk, a careless hand or a bad cable knows.
//!
//! `NGSI_FERRY_DAMAGE_ROUNDS` sets how many damages, `NGSI_FERRY_SEED` repeats
//! them. Each starts, loses only what was damaged, and says exactly that.

mod common;

#[path = "damage/bed.rs"]
mod bed;
#[path = "damage/campaign.rs"]
mod campaign;
#[path = "damage/gateway.rs"]
mod gateway;
#[path = "damage/harm.rs"]
mod harm;
#[path = "write_backs/helpers.rs"]
#[allow(dead_code, reason = "shared with the tests of the write-backs")]
mod helpers;
#[path = "damage/image.rs"]
mod image;
#[path = "damage/own_logs.rs"]
mod own_logs;
#[path = "damage/panics.rs"]
mod panics;
#[path = "damage/picture.rs"]
mod picture;
#[path = "kill/seed.rs"]
#[allow(dead_code, reason = "shared with the kill campaign")]
mod seed;
#[path = "store/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the promises")]
mod support;
#[path = "damage/table.rs"]
mod table;
#[path = "damage/weak.rs"]
mod weak;

use std::time::SystemTime;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// How many damages, and the seed that they come from.
fn rounds(default: u64) -> (u64, seed::Seed) {
    let rounds = setting("NGSI_FERRY_DAMAGE_ROUNDS").unwrap_or(default);
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = setting("NGSI_FERRY_SEED").unwrap_or_else(now);
    eprintln!("{rounds} damages; again with NGSI_FERRY_SEED={seed}");
    (rounds, seed::Seed::new(seed))
}
