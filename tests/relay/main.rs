//! A relay: what gateways hand over to it, and what they pull from it. The
//! gateways are a small client of its API; the real one has tests of its own.

#[path = "../common/mod.rs"]
mod common;
#[path = "../kill/mod.rs"]
mod oracle;
#[path = "../spark_api/support.rs"]
mod spark_api;

mod edge;
mod handing_over;
mod outbox;
