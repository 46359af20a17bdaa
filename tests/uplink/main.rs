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

mod campaign;
mod pair;
mod records;
mod refusals;
mod write_backs;
