//! What the intake promises whoever notifies it, on the real program and over
//! real sockets.

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod deadlines;
mod fidelity;
mod full;
mod malformed;
mod repeats;
mod sizes;
mod streams;
mod support;
mod who_may_send;
