//! What line sockets promise, on the real program.

#[path = "../common/mod.rs"]
mod common;

mod connector_rules;
mod forms;
mod losses;
mod sharing;
mod support;
mod tls;
