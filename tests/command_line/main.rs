//! What the command line promises whoever has never seen the program.

#[path = "../common/mod.rs"]
mod common;

mod check;
mod dead_letters;
mod paste;
mod peek;
mod pki;
mod start;
mod status;
mod support;
