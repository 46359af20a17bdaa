//! What can be loaded, and how each is started and found.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::image::Image;
use crate::meter::Meter;
use crate::servers::Kind;

pub const DATA_DIR: &str = "NGSI_FERRY_DATA_DIR";
pub const ADDRESSES_FILE: &str = "NGSI_FERRY_ADDRESSES_FILE";
const READY_WITHIN: Duration = Duration::from_secs(20);

pub enum Target {
    Reference(Kind),
    Gateway { program: PathBuf, arguments: Vec<String> },
    External(External),
}

/// A program that somebody else started, and keeps running.
#[derive(Clone)]
pub struct External {
    name: String,
    address: SocketAddr,
    path: String,
    pid: u32,
}

/// A server that answers. Ours end when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub meter: Meter,
    path: Option<String>,
    _running: Option<Running>,
}

struct Running {
    child: Child,
    /// Removed after the child has ended, as the fields drop after `drop`.
    directory: TempDir,
    image: Option<Image>,
}

impl Target {
    pub fn name(&self) -> &str {
        match self {
            Self::Reference(kind) => kind.name(),
            Self::Gateway { .. } => "gateway",
            Self::External(external) => &external.name,
        }
    }

    pub fn start(&self, device: bool) -> anyhow::Result<Server> {
        match self {
            Self::Reference(kind) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(kind.argument());
                Running::start(command, device)
            }
            Self::Gateway { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments);
                for part in ["INTAKE", "SPARK", "ADMIN"] {
                    command.env(format!("NGSI_FERRY_{part}__LISTEN"), "127.0.0.1:0");
                }
                Running::start(command, device).with_context(|| format!("{}", program.display()))
            }
            Self::External(external) => Ok(Server {
                address: external.address,
                meter: Meter { pid: external.pid, device: None },
                path: Some(external.path.clone()),
                _running: None,
            }),
        }
    }
}

impl Server {
    pub fn paths(&self, streams: u32) -> Vec<String> {
        match &self.path {
            Some(path) => vec![path.clone()],
            None => (0..streams).map(|stream| format!("/notify/s{stream}")).collect(),
        }
    }
}

impl Running {
    fn start(mut command: Command, device: bool) -> anyhow::Result<Server> {
        // Under target/, on the disk that the build is on: /tmp may be a tmpfs,
        // where a sync costs nothing and means nothing.
        let directory = tempfile::Builder::new()
            .prefix("whole-process-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let image = device.then(Image::new).transpose()?;
        let data = image.as_ref().map_or(directory.path().into(), Image::mount).join("data");
        fs::create_dir(&data)?;
        let addresses = directory.path().join("addresses.json");
        let log = fs::File::create(directory.path().join("log"))?;
        command
            .env(DATA_DIR, &data)
            .env(ADDRESSES_FILE, &addresses)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().context("cannot be started")?;
        let mut running = Self { child, directory, image };
        let address = running.wait_for(&addresses)?;
        let device = running.image.as_ref().map(Image::counter);
        let meter = Meter { pid: running.child.id(), device };
        Ok(Server { address, meter, path: None, _running: Some(running) })
    }

    fn wait_for(&mut self, addresses: &Path) -> anyhow::Result<SocketAddr> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            // A half-written file does not parse yet; the next look sees it whole.
            let intake = fs::read(addresses)
                .ok()
                .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok())
                .and_then(|json| json.get("intake")?.as_str()?.parse().ok());
            if let Some(address) = intake {
                return Ok(address);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
                let how = ended.map_or("did not get ready".into(), |status| status.to_string());
                bail!("{how}; its output:\n{}", String::from_utf8_lossy(&log));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What it stored goes with it: there is nothing to end gracefully.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FromStr for External {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        const FORM: &str = "expected NAME=http://HOST:PORT/path,pid=N";
        let (name, rest) = text.split_once("=http://").context(FORM)?;
        let (url, pid) = rest.rsplit_once(",pid=").context(FORM)?;
        let (host, path) = url.split_once('/').unwrap_or((url, ""));
        let address = host.to_socket_addrs()?.next().context(FORM)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            path: format!("/{path}"),
            pid: pid.parse().context(FORM)?,
        })
    }
}
