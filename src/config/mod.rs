//! Reads the configuration: a TOML file, then `NGSI_FERRY_…` variables over it.
//!
//! Every setting is optional, every problem is told at once, each with the
//! line or the variable it comes from.

mod document;
mod environment;
mod explain;
mod fault;
mod gateway;
mod problem;
mod reader;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod tree;

pub use document::{Loaded, Sources, read, read_leniently, to_toml};
pub use environment::{CONFIG_VARIABLE, LOG_VARIABLE, PREFIX, process_environment};
pub use gateway::{Config, Settings};
pub use problem::{Origin, Problem, Problems};
