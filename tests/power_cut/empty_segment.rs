//! A segment was begun and the power went before anything was in it; at the
//! next start it goes once more, before the state has forgotten that segment.
//! Nothing is lost, and nothing is told as lost.

use super::content::Cut;
use super::volume::Volume;
use crate::common::gateway::Setup;
use crate::common::http::{Client, once, request};

const SEGMENT: &str = "streams/default/segments/";
const STATE: &str = "streams/default/state.";

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_power_ends_before_it_has_forgotten_an_empty_segment_reports_no_loss() {
    let setup = Setup::new();
    let volume = match Volume::mount(&setup.data_dir(), 256 << 20, 1) {
        Ok(volume) => volume,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let machine = volume.machine();
    let gateway = setup.start().await;
    assert!(machine.is_up());
    // Made, named by the state, and not written yet.
    machine.aim_along(&[(SEGMENT, "/made"), (STATE, "b"), (SEGMENT, "/db")]);
    let mut client = Client::connect(gateway.intake).await.unwrap();
    client.send(&request("POST", "/notify", &[], b"never answered")).await.unwrap();
    machine.frozen().await;
    let setup = gateway.kill_and(|| machine.power_off()).await;
    machine.cut(Cut::All, 1);
    let segments = setup.data_dir().join(SEGMENT);
    assert_eq!(std::fs::read_dir(&segments).unwrap().count(), 1, "{}", machine.trail());

    machine.aim_along(&[(STATE, "")]);
    let command = setup.command(["run"]);
    let Err(starting) = setup.start_unless(command, machine.frozen()).await else {
        panic!("a start that writes no state: {}", machine.trail());
    };
    let setup = starting.kill_and(|| machine.power_off()).await;
    machine.cut(Cut::All, 2);

    let gateway = setup.start().await;
    let streams = gateway.status().await["streams"].clone();
    assert!(streams.as_array().unwrap().iter().all(|log| log["lost"] == 0), "{streams}");
    assert!(!gateway.log().contains("records lost"), "{}", gateway.log());
    let raw = request("POST", "/notify", &[], b"first");
    assert_eq!(once(gateway.intake, &raw).await.status, 204);
    assert_eq!(gateway.records("default", 0).await.len(), 1);
    assert_eq!(std::fs::read_dir(&segments).unwrap().count(), 1, "the empty one is gone");
}
