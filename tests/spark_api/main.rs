//! What the Spark API promises its clients, on the real program over TLS.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod consumers;
mod curl;
mod drain;
mod gone;
mod leases;
mod live;
mod load;
mod records;
mod streams;
mod support;
mod tls;
mod waiting;
