//! Rounds of load and cuts, and the wait for what is still to come.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ngsi_ferry::pki;
use ngsi_ferry::tls::{self, Acceptor, ClientCertificates, ServerTls, Versions};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::image::FileSystem;
use crate::ledger::{Figures, Ledger};
use crate::program::Program;
use crate::pull::Consumer;
use crate::receiver;
use crate::seed::Seed;
use crate::{Cut, Known, Settings, load};

/// How long the program may acknowledge nothing.
const STANDSTILL: Duration = Duration::from_mins(1);

struct Campaign<'a> {
    settings: &'a Settings,
    chance: Seed,
    ledger: Ledger,
    intake: SocketAddr,
    /// Whether the receiver is.
    is_there: watch::Sender<bool>,
}

pub(crate) async fn run(settings: &Settings) -> Result<Figures> {
    tls::install_provider();
    // On the disk that the build is on: in memory a sync would mean nothing.
    let example = std::env::current_exe()?;
    let build = example.parent().context("the example is not where Cargo puts it")?;
    let folder = tempfile::Builder::new().prefix("peer-").tempdir_in(build)?;
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir)?;
    let [intake, out] = free_ports()?;
    let tls = settings.tls.then(|| receivers_tls(&folder)).transpose()?;

    let command = command(settings, build, folder.path())?
        .replace("{in_port}", &intake.port().to_string())
        .replace("{out_port}", &out.port().to_string())
        .replace("{data_dir}", &data_dir.display().to_string())
        .replace("{folder}", &folder.path().display().to_string())
        .replace("{ca}", &folder.path().join("pki/ca.pem").display().to_string());
    let mut program = Program::new(command, intake, folder.path());
    if settings.cut == Cut::Power {
        let kind = FileSystem::named(&settings.file_system).context("no such file system")?;
        program = program.on_disk(kind, folder.path(), &data_dir)?;
    }

    let ledger = Ledger::new();
    let is_there = watch::Sender::new(true);
    let mut receiving = JoinSet::new();
    if settings.pull || settings.known == Some(Known::NgsiFerry) {
        let consumer = Consumer::new(out, &data_dir, ledger.clone());
        receiving.spawn(consumer.run(is_there.subscribe()));
    } else {
        receiving.spawn(receiver::run(out, tls, ledger.clone(), is_there.subscribe()));
    }
    let chance = Seed::new(settings.seed);
    let mut campaign = Campaign { settings, chance, ledger, intake, is_there };
    let Settings { cut, rounds, seed, .. } = settings;
    eprintln!("{rounds} rounds of {cut:?}; again with --seed {seed}");
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        figures = campaign.run(&mut program) => figures,
        Some(ended) = receiving.join_next() => {
            ended??;
            bail!("the receiver ended")
        }
        // The program is ended with us, and its disk unmounted.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

impl Campaign<'_> {
    async fn run(&mut self, program: &mut Program) -> Result<Figures> {
        program.start().await?;
        for _ in 0..self.settings.rounds {
            let stop = CancellationToken::new();
            let mut senders = JoinSet::new();
            for _ in 0..self.settings.senders {
                let (ledger, path) = (self.ledger.clone(), self.settings.path.clone());
                senders.spawn(load::post(self.intake, path, ledger, stop.clone()));
            }
            // Away in half of the rounds, so that there is something in store.
            let is_there = self.settings.cut == Cut::Receiver || self.chance.one_in(2);
            self.is_there.send_replace(is_there);
            self.some_more().await?;
            match self.settings.cut {
                Cut::Power => program.lose_power().await?,
                Cut::Kill => program.kill().await?,
                Cut::Receiver => {
                    self.is_there.send_replace(false);
                    self.some_more().await?;
                }
            }
            stop.cancel();
            senders.join_all().await;
            if self.settings.cut != Cut::Receiver {
                program.start().await?;
            }
        }
        self.is_there.send_replace(true);
        Ok(self.rest().await)
    }

    /// The load goes on up to a moment told by acknowledgements.
    async fn some_more(&mut self) -> Result<()> {
        let more = 1 + self.chance.below(self.settings.between);
        let reached = timeout(STANDSTILL, self.ledger.reaches(self.ledger.count() + more)).await;
        reached.context("the program acknowledges nothing any more")
    }

    /// Waits for what is still to come, and a little for what comes twice.
    async fn rest(&self) -> Figures {
        let patience = Duration::from_secs(self.settings.patience);
        let begun = tokio::time::Instant::now();
        loop {
            let figures = self.ledger.figures();
            let quiet = self.ledger.last().max(begun).elapsed();
            let enough = if figures.lost.is_empty() { patience / 5 } else { patience };
            if quiet > enough {
                return figures;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The command line, its placeholders still in it.
fn command(settings: &Settings, build: &Path, folder: &Path) -> Result<String> {
    if let Some(command) = &settings.command {
        return Ok(command.clone());
    }
    if settings.known == Some(Known::BadPeer) {
        let peer = std::env::current_exe()?;
        return Ok(format!(
            "exec '{}' bad-peer {{in_port}} {{out_port}} '{{data_dir}}'",
            peer.display()
        ));
    }
    let program = build.parent().map(|profile| profile.join("ngsi-ferry"));
    let program = program.filter(|program| program.is_file());
    let program = program.context("there is no ngsi-ferry; build it first: cargo build")?;
    let configuration = folder.join("ngsi-ferry.toml");
    // A socket's path has at most 107 characters: this one cannot lie deep.
    let socket = std::env::temp_dir().join(format!("ngsi-ferry-peer-{}.sock", std::process::id()));
    std::fs::write(&configuration, OURS.replace("{socket}", &socket.display().to_string()))?;
    Ok(format!(
        "NGSI_FERRY_DATA_DIR='{{data_dir}}' NGSI_FERRY_INTAKE__LISTEN=127.0.0.1:{{in_port}} \
         NGSI_FERRY_SPARK__LISTEN=127.0.0.1:{{out_port}} exec '{}' run --config '{}'",
        program.display(),
        configuration.display()
    ))
}

/// Where it differs from the defaults: small segments are rotated often, and
/// the disk is small too.
const OURS: &str = r#"
[store]
segment_bytes = "1MiB"
min_free = "16MiB"
[admin]
listen = "127.0.0.1:0"
socket = "{socket}"
"#;

/// Ports that nobody listens on now.
fn free_ports() -> Result<[SocketAddr; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, two) = (listen()?, listen()?);
    Ok([one.local_addr()?, two.local_addr()?])
}

fn receivers_tls(folder: &TempDir) -> Result<Arc<Acceptor>> {
    let pki: PathBuf = folder.path().join("pki");
    pki::init(&pki, &[])?;
    let (cert, key) = (pki.join("server.pem"), pki.join("server.key"));
    let clients = ClientCertificates::None;
    Ok(Arc::new(Acceptor::new(ServerTls { cert, key, clients, versions: Versions::Tls12And13 })?))
}
