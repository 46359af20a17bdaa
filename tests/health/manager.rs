//! Stands in for systemd: a socket that hears what a service tells.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::task::AbortOnDropHandle;

use crate::common::gateway::{DEADLINE, Gateway, Setup};

/// After this time without a word systemd would end the service.
pub const WATCHDOG: Duration = Duration::from_secs(2);

/// What `systemd` is to the gateway.
pub struct Manager {
    /// What was told, in order.
    told: UnboundedReceiver<String>,
    folder: TempDir,
    _listening: AbortOnDropHandle<()>,
}

impl Manager {
    pub fn new() -> Self {
        // A socket's path has at most 107 characters.
        let folder = tempfile::Builder::new().prefix("sd").tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let (tell, told) = unbounded_channel();
        // Always listening, as systemd is: the kernel keeps few messages.
        let listening = tokio::spawn(async move {
            let mut message = vec![0; 4096];
            while let Ok(length) = socket.recv(&mut message).await {
                let _ = tell.send(String::from_utf8(message[..length].to_vec()).unwrap());
            }
        });
        Self { told, folder, _listening: AbortOnDropHandle::new(listening) }
    }

    /// The gateway's command, with the variables that systemd sets.
    pub fn command(&self, setup: &Setup) -> Command {
        let mut command = setup.command(["run"]);
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command
    }

    pub async fn start(&self, setup: Setup) -> Gateway {
        let command = self.command(&setup);
        setup.start_as(command).await
    }

    /// The next message; none where none comes within `most`.
    pub async fn hears_within(&mut self, most: Duration) -> Option<String> {
        tokio::time::timeout(most, self.told.recv()).await.ok().flatten()
    }

    /// Waits for a message with that line, and returns it.
    pub async fn waits_for(&mut self, line: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.hears_within(left).await;
            let message = message.unwrap_or_else(|| panic!("{line} was never told"));
            if message.lines().any(|told| told == line) {
                return message;
            }
        }
    }

    /// Takes in what was told until now; how often all was well in it.
    pub fn drain(&mut self) -> usize {
        let told = std::iter::from_fn(|| self.told.try_recv().ok());
        told.filter(|message| message.starts_with("WATCHDOG=1")).count()
    }
}
