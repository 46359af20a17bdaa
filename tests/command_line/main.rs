//! What the command line promises whoever has never seen the program.

#[path = "../common/mod.rs"]
mod common;

mod check;
mod check_startup;
mod dead_letters;
mod journal;
mod owner;
mod paste;
mod peek;
mod pki;
mod pki_names;
mod start;
mod status;
mod support;
mod version;
