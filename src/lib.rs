//! ngsi-ferry: a store-and-forward gateway between a FIWARE Orion context
//! broker and remote Apache Spark.
//!
//! `orion` and `spark` each know `store`, and never each other; `app` is the
//! only module that knows all the others. `ARCHITECTURE.md` has the map.

pub mod admin;
pub mod app;
mod backoff;
mod boxed;
pub mod budget;
pub mod build;
pub mod certificates;
pub mod cli;
pub mod config;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod lean_malloc;
mod lookups;
pub mod ngsi;
pub mod orion;
pub mod pace;
pub mod passed_sockets;
pub mod pki;
pub mod record;
pub mod serve;
pub mod signals;
pub mod spark;
pub mod status;
pub mod store;
pub mod supervise;
pub mod systemd;
pub mod telemetry;
pub mod timestamp;
pub mod tls;
pub mod units;
pub mod uplink;
pub mod watchdog;
pub mod write_back;
