//! A fleet of gateways, one Orion that was away, and how they come back to it.
//!
//! ```text
//! cargo run --release --example fleet -- --gateways 200 --outage 30
//! cargo run --release --example fleet -- --signs
//! cargo run --release --example fleet -- --capacity 5
//! ```
//!
//! Each gateway is the library's replay with a store of its own, a write-back
//! in it, and real connections to one address. Nobody listens there for the
//! time of the outage; then a stand-in for Orion counts who comes when.

#[path = "fleet/histogram.rs"]
mod histogram;
#[path = "fleet/orion.rs"]
mod orion;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Parser;
use ngsi_ferry::orion::dead_letters::DeadLetters;
use ngsi_ferry::orion::replay::{self, Handle, Logs, Replay};
use ngsi_ferry::store::{self, Store};
use ngsi_ferry::write_back::{Entry, Request};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use orion::Orion;

/// How long the last of them may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// See how a fleet comes back to an Orion.
#[derive(Parser)]
#[command(name = "fleet")]
struct Args {
    /// Gateways
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    gateways: u16,
    /// Seconds for which Orion is away
    #[arg(long, default_value_t = 30)]
    outage: u64,
    /// Orion shows every gateway that it is back, as a notification does
    #[arg(long)]
    signs: bool,
    /// Requests that Orion takes in 100 ms; it sends the others away for a second
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    capacity: usize,
}

struct Gateway {
    store: Store,
    signs: Arc<Notify>,
    handle: Handle,
    _folder: TempDir,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ngsi_ferry::tls::install_provider();
    // A port that is closed for now.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    let mut fleet = Vec::new();
    for number in 0..args.gateways {
        fleet.push(gateway(number, address, &stop, &mut running).await?);
    }
    println!("{} gateways have lost their Orion for {} s", args.gateways, args.outage);
    tokio::time::sleep(Duration::from_secs(args.outage)).await;
    let down = fleet.iter().filter(|gateway| !gateway.handle.status().targets[0].up).count();

    println!("{down} know it; Orion is back");
    let orion = Orion::start(address, args.capacity).await.context("Orion's port")?;
    if args.signs {
        for gateway in &fleet {
            gateway.signs.notify_one();
        }
    }
    let all = usize::from(args.gateways);
    let done = tokio::time::timeout(PATIENCE, orion.wait_for(all)).await;
    orion.print();
    stop.cancel();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    for gateway in fleet {
        gateway.store.close().await;
    }
    done.context("not all of them were served in time")
}

/// A gateway with one write-back that waits.
async fn gateway(
    number: u16,
    orion: SocketAddr,
    stop: &CancellationToken,
    running: &mut JoinSet<Result<(), replay::Error>>,
) -> Result<Gateway> {
    let folder = tempfile::Builder::new().prefix("fleet").tempdir_in(target())?;
    let path = folder.path().to_owned();
    let open =
        move || Store::open(&path, store::Config::default(), Vec::new(), store::Metrics::default());
    let store = tokio::task::spawn_blocking(open).await??;
    let entry = Entry::Request(Request {
        method: "PATCH".to_owned(),
        path: format!("/v2/entities/gateway{number}/attrs"),
        headers: vec![("content-type".to_owned(), "application/json".into())],
        body: r#"{"t":{"type":"Number","value":1}}"#.to_owned().into(),
    });
    store.write_backs().append(vec![entry.to_line(SystemTime::now())]).await?;
    let (letters, write_backs) = (store.dead_letters(), store.write_backs());
    let signs = Arc::new(Notify::new());
    let replay = Replay::new(
        // Waits are those of the defaults.
        replay::Config { url: format!("http://{orion}"), ..replay::Config::default() },
        Logs::from(&store),
        DeadLetters::open(Arc::clone(letters), Arc::clone(write_backs)).await?,
        replay::Metrics::default(),
        Arc::clone(&signs),
    )?;
    let handle = replay.handle();
    running.spawn(replay.run(stop.clone()));
    Ok(Gateway { store, signs, handle, _folder: folder })
}

/// On the disk that the build is on.
fn target() -> std::path::PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().map_or_else(std::env::temp_dir, std::path::Path::to_owned)
}
