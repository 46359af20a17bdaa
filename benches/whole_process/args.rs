//! What can be asked of a run.

use std::path::PathBuf;

use clap::Parser;

use crate::servers::Kind;
use crate::target::{External, Target};

// Flags of a command line are what they are.
#[allow(clippy::struct_excessive_bools)]
#[derive(Parser)]
#[command(name = "whole_process", about = "Load whole processes and compare them")]
pub struct Args {
    /// Seconds measured in each phase.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Keep-alive connections, one phase for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    pub connections: Vec<usize>,
    /// Which of `bare`, `file` and `gateway` to measure.
    #[arg(long, value_delimiter = ',', default_values_t = ["bare", "file", "gateway"].map(String::from),
          value_parser = ["bare", "file", "gateway"])]
    targets: Vec<String>,
    /// Repetitions of everything. Medians are reported.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Streams to spread the load over: /notify/s0, /notify/s1, …
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,
    /// The gateway to measure, in place of the one that cargo just built.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_ngsi-ferry"))]
    gateway: PathBuf,
    /// The gateway's own arguments.
    #[arg(
        long = "gateway-args",
        value_name = "ARGUMENTS",
        default_value = "run",
        allow_hyphen_values = true
    )]
    arguments: String,
    /// Another program that already runs: NAME=http://127.0.0.1:PORT/path,pid=N
    #[arg(long, value_name = "TARGET")]
    external: Vec<External>,
    /// Count what reaches the device too, the file system's journal included:
    /// each server gets an ext4 of its own on a loop device. Needs root.
    #[arg(long)]
    pub device: bool,
    /// Print JSON in place of the tables.
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 where the gateway misses one of its thresholds.
    #[arg(long)]
    pub check: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub fn targets(&self) -> Vec<Target> {
        let own = self.targets.iter().map(|name| match name.as_str() {
            "bare" => Target::Reference(Kind::Bare),
            "file" => Target::Reference(Kind::File),
            _ => Target::Gateway {
                program: self.gateway.clone(),
                arguments: self.arguments.split_whitespace().map(String::from).collect(),
            },
        });
        own.chain(self.external.iter().cloned().map(Target::External)).collect()
    }
}
