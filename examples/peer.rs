//! Side by side: the same load and the same cuts for any store-and-forward
//! program that takes HTTP and gives HTTP or HTTPS. docs/side-by-side.md says
//! how to run others.
//!
//! ```text
//! cargo build && cargo run --example peer -- --cut power --rounds 20 --known ngsi-ferry
//! cargo run --example peer -- --cut kill --rounds 20 --known bad-peer
//! cargo run --example peer -- --cut receiver 'PROGRAM --in {in_port} --out {out_port} --dir {data_dir}'
//! ```
//!
//! Every figure at the end was counted here, none by the program. It ends with
//! 1 where something that was acknowledged never came out.

#[path = "peer/bad.rs"]
mod bad;
#[path = "peer/campaign.rs"]
mod campaign;
#[allow(dead_code)] // Made for the tests.
#[path = "../tests/common/freeze.rs"]
mod freeze;
#[allow(dead_code)]
#[path = "../tests/common/http.rs"]
mod http;
#[allow(dead_code)]
#[path = "../tests/common/image.rs"]
mod image;
#[path = "peer/ledger.rs"]
mod ledger;
#[path = "peer/load.rs"]
mod load;
#[path = "peer/program.rs"]
mod program;
#[path = "peer/pull.rs"]
mod pull;
#[path = "peer/receiver.rs"]
mod receiver;
#[allow(dead_code)]
#[path = "../tests/kill/seed.rs"]
mod seed;
#[allow(dead_code)]
#[path = "../tests/common/wire.rs"]
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Cut a store-and-forward program, and count what it loses.
#[derive(Parser)]
#[command(name = "peer", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    bad: Option<Bad>,
    #[command(flatten)]
    settings: Option<Settings>,
}

#[derive(Subcommand)]
enum Bad {
    /// A program that answers before it stores, to be tested
    BadPeer { in_port: u16, out_port: u16, data_dir: PathBuf },
}

#[derive(Args)]
struct Settings {
    /// The program's command line for `sh -c`, with `{in_port}`, `{out_port}`,
    /// `{data_dir}`, `{folder}` (where nothing is cut) and, with --tls, `{ca}`
    #[arg(required_unless_present = "known")]
    command: Option<String>,
    /// One whose command line is known, in place of it
    #[arg(long, value_enum, conflicts_with = "command")]
    known: Option<Known>,
    /// What happens to it
    #[arg(long, value_enum, default_value_t = Cut::Kill)]
    cut: Cut,
    /// How often
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// At most so many acknowledgements lie between two cuts
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    between: u64,
    /// Connections that post, one notification after the other
    #[arg(long, default_value_t = 8)]
    senders: u64,
    /// Where they post to
    #[arg(long, default_value = "/notify")]
    path: String,
    /// The receiver speaks TLS
    #[arg(long)]
    tls: bool,
    /// What comes out is read at ngsi-ferry's API on `{out_port}`
    #[arg(long)]
    pull: bool,
    /// The file system that loses power: ext4, xfs, btrfs, f2fs
    #[arg(long, default_value = "ext4")]
    file_system: String,
    /// What has not come for so many seconds, with nothing else coming, is lost
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// Repeats a run as far as chance allows
    #[arg(long, default_value_t = seed::chosen())]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Known {
    /// That of the same build; with --pull
    NgsiFerry,
    /// One that answers before it stores
    BadPeer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cut {
    /// The power goes: its disk is copied while it is frozen. Needs root
    Power,
    /// kill -9 of the program
    Kill,
    /// The receiver goes away, in the middle of requests, and comes back
    Receiver,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.bad, arguments.settings) {
        (Some(Bad::BadPeer { in_port, out_port, data_dir }), _) => {
            bad::run(in_port, out_port, &data_dir).await.map(|()| true)
        }
        (None, Some(settings)) => campaign::run(&settings).await.map(|figures| {
            print!("{figures}");
            figures.lost.is_empty()
        }),
        (None, None) => unreachable!("clap asks for a command"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
