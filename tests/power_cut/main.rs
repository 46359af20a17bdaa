//! Power cuts: the gateway's data on a file system that forgets what was not
//! synced, and on real ones whose disk is copied while the gateway is frozen.
//!
//! `NGSI_FERRY_CUT_ROUNDS` sets how often the power goes, `NGSI_FERRY_SEED`
//! repeats a run as far as chance allows. `NGSI_FERRY_CUT_FILE_SYSTEMS` names
//! the real ones: `ext4,xfs,btrfs,f2fs`, as far as the kernel has them and
//! their mkfs is installed; each is cut as often.

#[path = "../common/mod.rs"]
mod common;
#[path = "../kill/mod.rs"]
mod oracle;

mod attributes;
mod content;
mod cuts;
mod empty_segment;
mod failing_disk;
mod file_system;
mod first_start;
mod frozen;
mod fuse;
mod image;
mod journal;
mod machine;
mod place;
mod real_disk;
mod volume;

use common::image::FileSystem;
use cuts::Cuts;
use frozen::Frozen;
use oracle::campaign::Campaign;
use oracle::seed;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_changed_or_reordered_wherever_the_power_goes() {
    let wanted = seed::setting("NGSI_FERRY_CUT_ROUNDS").unwrap_or(24);
    let seed = seed::chosen();
    let cuts = match Cuts::new(seed) {
        Ok(cuts) => cuts,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    eprintln!("{wanted} cuts; again with NGSI_FERRY_SEED={seed}");
    let mut campaign = Campaign::new(cuts, seed).await;
    campaign.run(|mishap, _| mishap.table.cuts < wanted).await;
    let table = campaign.mishap.table.to_string();
    eprintln!("{table}{}", campaign.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_a_real_file_system_that_loses_power() {
    let wanted = seed::setting("NGSI_FERRY_CUT_ROUNDS").unwrap_or(6);
    let seed = seed::chosen();
    for kind in file_systems() {
        let frozen = match Frozen::new(kind) {
            Ok(frozen) => frozen,
            Err(why) => {
                eprintln!("{kind}: skipped: {why}");
                continue;
            }
        };
        eprintln!("{kind}: {wanted} cuts; again with NGSI_FERRY_SEED={seed}");
        let mut campaign = Campaign::new(frozen, seed).await;
        campaign.run(|mishap, _| mishap.table.cuts < wanted).await;
        let table = campaign.mishap.table.to_string();
        eprintln!("{table}{}", campaign.end().await);
    }
}

/// The real ones that the power is cut on.
fn file_systems() -> Vec<FileSystem> {
    let names = std::env::var("NGSI_FERRY_CUT_FILE_SYSTEMS").unwrap_or_else(|_| "ext4".to_owned());
    let kind = |name| FileSystem::named(name).unwrap_or_else(|| panic!("{name:?} is not known"));
    names.split(',').map(kind).collect()
}
