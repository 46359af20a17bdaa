//! `ngsi-ferry pki`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::print_line;
use crate::config::Config;
use crate::pki;

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
        /// A further name or address under which Spark reaches the gateway; added
        /// to the certificate where there is an authority already
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Make a certificate for one more client
    Client {
        /// Its name, as `[[client]]` in the configuration calls it
        name: String,
    },
    /// Make the server's and the clients' certificates anew, same names, same authority
    Renew,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode> {
    let dir = arguments.dir.clone().unwrap_or_else(|| config.pki_dir());
    match &arguments.command {
        Command::Init { names } => print_line(&init(&dir, names)?),
        Command::Client { name } => print_line(&pki::issue_client(&dir, name)?.to_string()),
        Command::Renew => {
            print_line(&pki::renew(&dir)?.to_string());
            print_line("A running gateway takes them over on SIGHUP: systemctl reload ngsi-ferry");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The first start makes an authority, before anybody could say a name.
fn init(dir: &Path, names: &[String]) -> Result<String> {
    let added = match pki::init(dir, names) {
        Err(pki::Error::AuthorityExists { .. }) if !names.is_empty() => pki::add_names(dir, names)?,
        made => return Ok(made?.to_string()),
    };
    Ok(match added {
        None => format!("the server is known as {} already", names.join(", ")),
        Some(new) => format!(
            "made {} anew, under the authority that was there; the server is known as {}\n\
             A running gateway takes it over on SIGHUP: systemctl reload ngsi-ferry",
            new.cert.display(),
            new.names.join(", ")
        ),
    })
}
