//! The command line.

mod check;
mod dead_letters;
mod gateway;
mod owner;
mod peek;
mod pki;
mod run;
mod status;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{CONFIG_VARIABLE, LOG_VARIABLE, Settings, process_environment};
use crate::passed_sockets::PassedSockets;
use crate::{lean_malloc, systemd, telemetry};

/// Read where no file is named, if it is there.
const DEFAULT_FILE: &str = "/etc/ngsi-ferry/ngsi-ferry.toml";
/// Enough for a box with few cores; the storage has threads of its own.
const MOST_WORKERS: usize = 4;
const BLOCKING_THREADS: usize = 16;

/// Keeps the notifications of a FIWARE Orion context broker safe while the
/// line is down, streams them to Apache Spark over TLS, and replays the
/// results to Orion.
#[derive(Debug, Parser)]
#[command(version = crate::build::LONG_VERSION, about)]
struct Arguments {
    /// Configuration file (TOML); without it /etc/ngsi-ferry/ngsi-ferry.toml
    /// if there is one, else built-in defaults. Every setting can also be a
    /// variable: `NGSI_FERRY_INTAKE__LISTEN=0.0.0.0:8061`
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (also when no command is given)
    Run,
    /// Check configuration, certificates, ports, disk and Orion; every problem at once
    Check(check::Arguments),
    /// Show streams, consumers, lag, write-backs, and whether Orion is up
    Status(status::Arguments),
    /// Print records of a stream as JSON lines, without taking them
    Peek(peek::Arguments),
    /// Look at write-backs that Orion refused, retry or drop them
    DeadLetters(dead_letters::Arguments),
    /// Make and renew the private authority and its certificates
    Pki(pki::Arguments),
}

/// The whole command line, for manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = std::env::var(LOG_VARIABLE).ok();
    let is_run = matches!(arguments.command, None | Some(Command::Run));
    let mut passed = PassedSockets::default();
    if is_run {
        lean_malloc::apply();
        passed = PassedSockets::take();
    }
    // The other commands print; only what is wrong is logged there.
    telemetry::log_to_stderr(filter.as_deref().or((!is_run).then_some("error,sled=off")));
    match with_runtime(act(arguments, passed)) {
        Ok(code) => code,
        Err(error) => {
            if is_run && telemetry::is_read_by_journald() {
                tracing::error!("{error:#}");
                systemd::rest_after_a_failed_start();
            } else {
                eprintln!("ngsi-ferry: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(act: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_WORKERS))
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(act);
    // A thread that still reads from a slow disk must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn act(arguments: Arguments, passed: PassedSockets) -> Result<ExitCode> {
    let file = configuration_file(arguments.config);
    let settings = || Settings::load(file.as_deref(), process_environment());
    match arguments.command {
        None | Some(Command::Run) => run::run(settings()?, file.clone(), passed).await,
        Some(Command::Check(check)) => check::run(file.as_deref(), &check).await,
        Some(Command::Status(status)) => status::run(&settings()?.config, &status).await,
        Some(Command::Peek(peek)) => peek::run(&settings()?.config, &peek).await,
        Some(Command::DeadLetters(letters)) => {
            dead_letters::run(&settings()?.config, &letters).await
        }
        Some(Command::Pki(pki)) => pki::run(&settings()?.config, &pki).await,
    }
}

fn configuration_file(named: Option<PathBuf>) -> Option<PathBuf> {
    let from_variable = || std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    let from_etc = || Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE));
    named.or_else(from_variable).or_else(from_etc)
}

/// Prints a line; a reader that went away (`| head`) ends the program quietly.
fn print_line(line: &str) {
    use std::io::Write as _;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
