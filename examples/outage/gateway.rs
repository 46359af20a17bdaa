//! The gateway as a process: the real binary, beside this example.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ngsi_ferry::config::{CONFIG_VARIABLE, PREFIX};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Where it listens; chosen by the system at each start.
#[derive(Clone, Copy, Deserialize)]
pub struct Addresses {
    pub intake: SocketAddr,
    pub spark: SocketAddr,
    pub admin: SocketAddr,
}

pub struct Gateway {
    program: PathBuf,
    variables: Vec<(String, String)>,
    addresses: watch::Sender<Option<Addresses>>,
    child: Option<Child>,
    // Removed after the child has ended, as the fields drop in this order.
    folder: TempDir,
}

impl Gateway {
    pub fn new(orion: &str) -> Result<Self> {
        let example = std::env::current_exe()?;
        let profile = example.parent().and_then(|examples| examples.parent());
        let profile = profile.context("the example is not where Cargo puts it")?;
        let program = profile.join("ngsi-ferry");
        if !program.is_file() {
            let release = if profile.ends_with("release") { " --release" } else { "" };
            bail!(
                "there is no gateway at {}; build it first: cargo build{release}",
                program.display()
            );
        }
        // On the disk that the build is on: in memory a sync would mean nothing.
        let folder = tempfile::Builder::new().prefix("outage-").tempdir_in(profile)?;
        std::fs::write(folder.path().join("empty.toml"), "")?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        // A socket's path has at most 107 characters: this one cannot lie deep.
        let socket = format!("ngsi-ferry-outage-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(socket).display().to_string();
        let set = |name: &str, value: String| (format!("{PREFIX}{name}"), value);
        let variables = vec![
            (CONFIG_VARIABLE.to_owned(), file("empty.toml")),
            set("DATA_DIR", file("data")),
            set("ADDRESSES_FILE", file("addresses.json")),
            set("INTAKE__LISTEN", "127.0.0.1:0".to_owned()),
            set("SPARK__LISTEN", "127.0.0.1:0".to_owned()),
            set("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            set("ADMIN__SOCKET", socket),
            set("ORION__URL", orion.to_owned()),
        ];
        let addresses = watch::Sender::new(None);
        Ok(Self { program, variables, addresses, child: None, folder })
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        let told = self.folder.path().join("addresses.json");
        let _ = std::fs::remove_file(&told);
        let log = self.folder.path().join("gateway.log");
        let log_file = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&self.program);
        // Whatever is set for a gateway of this machine is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        command
            .arg("run")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .kill_on_drop(true);
        let mut child = command.spawn().context("the gateway cannot be started")?;
        let deadline = Instant::now() + READY_WITHIN;
        let addresses = loop {
            if let Ok(text) = std::fs::read(&told) {
                break serde_json::from_slice(&text)?;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("the gateway does not start; its log:\n{log}");
            }
            sleep(Duration::from_millis(5)).await;
        };
        self.child = Some(child);
        self.addresses.send_replace(Some(addresses));
        Ok(())
    }

    /// kill -9.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM; answers how it ended.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("no gateway runs")?;
        let pid = child.id().context("the gateway has ended already")?;
        // The shell's own kill: not every box has the program.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status().await?;
        if !sent.success() {
            bail!("SIGTERM could not be sent to process {pid}");
        }
        Ok(timeout(READY_WITHIN, child.wait()).await.context("the gateway does not stop")??)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    pub fn addresses(&self) -> Option<Addresses> {
        *self.addresses.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Option<Addresses>> {
        self.addresses.subscribe()
    }

    /// Where it made its certificates.
    pub fn pki(&self) -> PathBuf {
        self.folder.path().join("data/pki")
    }
}
