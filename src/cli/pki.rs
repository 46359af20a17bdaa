//! `ngsi-ferry pki`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use http::Method;

use super::gateway::Socket;
use super::print_line;
use crate::certificates::Looked;
use crate::config::Config;
use crate::pki::{self, Keys};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The authority's folder; `pki` in the data directory without it
    #[arg(long, global = true, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a private authority, a server's and a first client's certificate
    Init {
        /// A further name or address under which Spark reaches the gateway
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Make a certificate for one more client
    Client {
        /// Its name, as `[[client]]` in the configuration calls it
        name: String,
    },
    /// Give all certificates a new lifetime; names, authority and keys stay
    Renew {
        /// Make new private keys too: an old one may have got into wrong hands
        #[arg(long)]
        new_keys: bool,
    },
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode> {
    let dir = arguments.dir.clone().unwrap_or_else(|| config.pki_dir());
    match &arguments.command {
        Command::Init { names } => print_line(&pki::init(&dir, names)?.to_string()),
        Command::Client { name } => print_line(&pki::issue_client(&dir, name)?.to_string()),
        Command::Renew { new_keys } => {
            let keys = if *new_keys { Keys::New } else { Keys::Kept };
            print_line(&pki::renew(&dir, keys)?.to_string());
            print_line(&tell_gateway(config).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A running gateway would notice by itself; so it is known that it has.
async fn tell_gateway(config: &Config) -> String {
    let Some(socket) = Socket::of_running(config).await else {
        return "no gateway answers here; one that runs takes its own over within a minute".into();
    };
    match socket.ask::<Looked>(Method::POST, "/certificates/look").await {
        Ok(Looked { taken_over, refused }) if refused.is_empty() => {
            let whose = taken_over.join(", ");
            format!("the running gateway uses what is new for it: {}", or_nothing(&whose))
        }
        Ok(Looked { refused, .. }) => {
            format!("THE RUNNING GATEWAY KEEPS ITS OLD ONES: {}", refused.join("; "))
        }
        Err(error) => format!(
            "the running gateway could not be told ({error:#}); it looks itself within a minute"
        ),
    }
}

fn or_nothing(whose: &str) -> &str {
    if whose.is_empty() { "nothing" } else { whose }
}
