//! The power goes during the very first start, which makes everything there
//! is: folders, states, epochs, the authority and its certificates.

use super::content::Cut;
use super::machine::Aim;
use super::oracle::seed::{self, Seed};
use super::volume::Volume;
use crate::common::gateway::Setup;
use crate::common::http::{once, request};

const CAPACITY: u64 = 256 << 20;
/// As many changes as the first start makes, about.
const OF_A_START: u64 = 140;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_the_power_ended_anywhere_is_followed_by_one_that_works() {
    let rounds = seed::setting("NGSI_FERRY_CUT_ROUNDS").unwrap_or(8).min(OF_A_START);
    let seed = seed::chosen();
    eprintln!("{rounds} first starts; again with NGSI_FERRY_SEED={seed}");
    let mut chance = Seed::new(seed);
    let mut ended = 0;
    for round in 0..rounds {
        let setup = Setup::new();
        let volume = match Volume::mount(&setup.data_dir(), CAPACITY, chance.next()) {
            Ok(volume) => volume,
            Err(why) => return eprintln!("skipped: {why}"),
        };
        let machine = volume.machine();
        // Spread over all of the start, not where chance heaps them.
        let width = OF_A_START / rounds;
        let after = round * width + chance.below(width);
        let how = [Cut::All, Cut::Some, Cut::Torn][usize::try_from(chance.below(3)).unwrap()];
        machine.aim(Some(Aim { place: None, after }));
        let command = setup.command(["run"]);
        let setup = match setup.start_unless(command, machine.frozen()).await {
            Ok(gateway) => {
                machine.freeze();
                gateway.kill_and(|| machine.power_off()).await
            }
            Err(starting) => {
                ended += 1;
                starting.kill_and(|| machine.power_off()).await
            }
        };
        machine.cut(how, chance.next());
        let gateway = setup.start().await;
        let raw = request("POST", "/notify", &[], b"first");
        assert_eq!(once(gateway.intake, &raw).await.status, 204, "after {after} changes, {how:?}");
        let records = gateway.records("default", 0).await;
        assert_eq!(records.len(), 1, "after {after} changes, {how:?}: {records:?}");
        assert_eq!(records[0]["body"], "first");
        // Far above are the numbers of a log that takes its state for lost.
        let log = gateway.log();
        assert!(!log.contains("state are gone"), "after {after} changes, {how:?}: {log}");
        let (_setup, stopped) = gateway.stop().await;
        assert!(stopped.success(), "after {after} changes, {how:?}: {stopped:?}");
        drop(volume);
    }
    eprintln!("{ended} of {rounds} first starts were ended by a power cut; the next one worked");
    assert!(ended > 0, "no start made so many changes");
}
