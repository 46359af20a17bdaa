//! Many gateways on one relay. `NGSI_FERRY_RELAY_GATEWAYS` sets how many,
//! `NGSI_FERRY_RELAY_ROUNDS` how often each hands something over.

use std::time::{Duration, Instant};

use ngsi_ferry::pki;
use tokio::task::JoinSet;

use crate::common::gateway::Gateway;
use crate::edge::{Edge, SMALL, frames, relay};
use crate::oracle::seed::setting;
use crate::spark_api::Api;

/// Records that each hands over at a time, in frames of so many.
const AT_A_TIME: u64 = 25;
const IN_A_FRAME: usize = 5;

fn resident_kib(relay: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Of the relay so far.
fn cpu_seconds(relay: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_kept_apart_listed_at_once_and_read_whole() {
    let count = setting("NGSI_FERRY_RELAY_GATEWAYS").unwrap_or(12);
    let rounds = setting("NGSI_FERRY_RELAY_ROUNDS").unwrap_or(4);
    let relay = relay()
        .set("SPARK__MAX_CONNECTIONS", "1000")
        .set("RELAY__MAX_GATEWAYS", &count.to_string())
        .start()
        .await;
    let pki_dir = relay.setup().data_dir().join("pki");
    let before = resident_kib(&relay);
    let mut edges = Vec::new();
    for at in 0..count {
        let name = format!("edge{at:03}");
        pki::issue_client(&pki_dir, &name).unwrap();
        let edge = Edge::of(&relay, &name).await;
        assert_eq!(edge.api.get(&edge.path("write-backs")).await.status, 200);
        // Made before the time is taken: that is the relay's.
        let epoch = format!("{SMALL}-{name}");
        let bodies: Vec<_> = (0..rounds)
            .map(|round| {
                let numbers = round * AT_A_TIME..(round + 1) * AT_A_TIME;
                (numbers.clone(), frames(&epoch, numbers, IN_A_FRAME))
            })
            .collect();
        edges.push((edge, bodies));
    }
    let idle = resident_kib(&relay);
    let (begun, cpu) = (Instant::now(), cpu_seconds(&relay));
    let mut sending = JoinSet::new();
    for (edge, bodies) in edges {
        sending.spawn(async move {
            let epoch = format!("{SMALL}-{}", edge.name);
            for (numbers, body) in bodies {
                let stored = edge.hand_over("press", &epoch, numbers.clone(), &[], body).await;
                assert_eq!(stored.json()["next"], numbers.end, "{stored:?}");
            }
            edge
        });
    }
    let edges = sending.join_all().await;
    let took = begun.elapsed();
    let after = resident_kib(&relay);
    let records = count * rounds * AT_A_TIME;

    let api = Api::of(&relay);
    let begun = Instant::now();
    let listed = api.get("/v1/gateways?stream=press").await.json();
    let listing = begun.elapsed();
    let listed = listed["gateways"].as_array().unwrap();
    assert_eq!(listed.len() as u64, count);
    assert!(listed.iter().all(|one| one["streams"][0]["next"] == rounds * AT_A_TIME));
    assert!(listing < Duration::from_secs(2), "{listing:?}");
    for edge in edges.iter().step_by(edges.len().div_ceil(10)) {
        let epoch = format!("{SMALL}-{}", edge.name);
        let path = edge.path("streams/press");
        let (came, gone) = crate::edge::read_all(&api, &path, &epoch, 0).await;
        assert_eq!((came.len() as u64, gone), (rounds * AT_A_TIME, vec![]));
    }
    // One more than there may be.
    pki::issue_client(&pki_dir, "surplus").unwrap();
    let surplus = Edge::of(&relay, "surplus").await;
    let body = frames("e", 0..1, 1);
    assert_eq!(surplus.hand_over("press", "e", 0..1, &[], body).await.status, 503);
    eprintln!(
        "{count} gateways: {records} records in {:.1} s, {:.0}/s; listed in {listing:?}; {} KiB \
         resident before, {idle} with their outboxes and connections, {after} after, {} for each; \
         {:.1} s of CPU",
        took.as_secs_f64(),
        f64::from(u32::try_from(records).unwrap()) / took.as_secs_f64(),
        before,
        after.saturating_sub(before) / count,
        cpu_seconds(&relay) - cpu,
    );
}
