//! A gateway and its relay, each the real binary: what the gateway
//! acknowledged is at the relay, byte for byte and once, and what was
//! committed at the relay is at Orion once.
//!
//! `NGSI_FERRY_UPLINK_ROUNDS` sets how often a campaign strikes;
//! `NGSI_FERRY_SEED` repeats a run as far as chance allows.

#[path = "../common/mod.rs"]
mod common;
#[path = "../kill/mod.rs"]
mod oracle;
#[path = "../spark_api/support.rs"]
mod spark_api;

#[path = "../relay/edge.rs"]
#[allow(dead_code)]
mod edge;
#[path = "../network/line.rs"]
#[allow(dead_code)]
mod line;

// The laboratory of power cuts, on either disk.
#[path = "../power_cut/attributes.rs"]
mod attributes;
#[path = "../power_cut/content.rs"]
mod content;
#[path = "../power_cut/cuts.rs"]
mod cuts;
#[path = "../power_cut/fuse.rs"]
mod fuse;
#[path = "../power_cut/image.rs"]
mod image;
#[path = "../power_cut/journal.rs"]
mod journal;
#[path = "../power_cut/machine.rs"]
mod machine;
#[path = "../power_cut/place.rs"]
mod place;
// Only the tests of the laboratory itself ask for its place.
#[allow(dead_code)]
#[path = "../power_cut/volume.rs"]
mod volume;

mod campaign;
mod fleet;
mod pair;
mod records;
mod refusals;
mod sizes;
mod write_backs;
