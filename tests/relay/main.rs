//! A relay: what gateways hand over to it, and what they pull from it. The
//! gateways are a small client of its API; the real one has tests of its own.
//!
//! `NGSI_FERRY_RELAY_ROUNDS` sets how often a campaign kills the relay, or
//! cuts its power; `NGSI_FERRY_SEED` repeats a run as far as chance allows.

#[path = "../common/mod.rs"]
mod common;
#[path = "../kill/mod.rs"]
mod oracle;
#[path = "../spark_api/support.rs"]
mod spark_api;

// The laboratory of power cuts, on the relay's disk.
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
mod edge;
mod epochs;
mod fleet;
mod handing_over;
mod looking;
mod outbox;
mod source;
mod writer;
