//! Certificates for years: renewed while the gateway serves, warned of in
//! time, trusted and no more, and all of it on a box whose clock was never
//! set. Real TLS throughout.

#[path = "../common/mod.rs"]
mod common;

mod clock;
mod company;
mod crash;
mod expiry;
mod renewal;
mod support;
mod trust;
