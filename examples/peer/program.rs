//! The program under test, as a process group of its own, and where its data
//! lies.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ngsi_ferry::config::PREFIX;
use rustix::process::{Signal, kill_process_group};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::freeze;
use crate::image::{FileSystem, Image};

const READY_WITHIN: Duration = Duration::from_mins(1);

pub struct Program {
    command: String,
    intake: SocketAddr,
    log: PathBuf,
    running: Option<Child>,
    /// What can lose power.
    image: Option<Image>,
}

impl Program {
    pub fn new(command: String, intake: SocketAddr, folder: &Path) -> Self {
        let log = folder.join("program.log");
        Self { command, intake, log, running: None, image: None }
    }

    /// Its data lies on a disk that can lose power.
    pub fn on_disk(mut self, kind: FileSystem, folder: &Path, data_dir: &Path) -> Result<Self> {
        let image = Image::make_as(kind, &folder.join("disk"), kind.small(), data_dir);
        self.image = Some(image.map_err(|why| anyhow!("no disk that can lose power: {why}"))?);
        Ok(self)
    }

    /// Starts it and waits until it takes connections.
    pub async fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("sh");
        // Whatever is set for a gateway of this machine is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        command
            .args(["-c", &self.command])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command.spawn()?;
        let begun = Instant::now();
        while TcpStream::connect(self.intake).await.is_err() {
            if let Some(ended) = child.try_wait()? {
                bail!("the program ended: {ended}\n{}", self.log());
            }
            if begun.elapsed() > READY_WITHIN {
                self.running = Some(child);
                bail!("the program does not listen on {}\n{}", self.intake, self.log());
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.running = Some(child);
        Ok(())
    }

    fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let last = &log[log.len().saturating_sub(4000)..];
        format!("its output ends:\n{}", String::from_utf8_lossy(last))
    }

    /// kill -9 of it and all that it started.
    pub async fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.running.take() else { return Ok(()) };
        let leader = child.id().context("the program has ended by itself")?;
        kill_group(leader)?;
        child.wait().await?;
        while !block_in_place(|| freeze::members(leader)).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// It goes on with what the disk held when it stood still.
    pub async fn lose_power(&mut self) -> Result<()> {
        let leader = self.running.as_ref().and_then(Child::id);
        let leader = leader.context("the program has ended by itself")?;
        let image = self.image.take().context("no disk that can lose power")?;
        let snapshot = block_in_place(|| {
            freeze::freeze_group(leader)?;
            image.snapshot()
        });
        let snapshot = snapshot.map_err(|why| anyhow!(why))?;
        self.kill().await?;
        let image = block_in_place(|| image.lose_power(snapshot));
        self.image = Some(image.map_err(|why| anyhow!(why))?);
        Ok(())
    }
}

fn kill_group(leader: u32) -> Result<()> {
    let group = freeze::process(leader).map_err(|why| anyhow!(why))?;
    Ok(kill_process_group(group, Signal::KILL)?)
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(leader) = self.running.as_ref().and_then(Child::id) {
            let _ = kill_group(leader);
        }
    }
}
