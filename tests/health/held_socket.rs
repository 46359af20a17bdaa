//! Stands in for a `.socket` unit: holds a listening socket and passes it to
//! one gateway after the other.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::Command;

use crate::common::gateway::{Gateway, Setup};

/// As systemd does it: descriptor 3, and the variables of this very process.
const PASS: &str = r#"exec 3<&"$HELD"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;

pub struct HeldSocket(TcpListener);

impl HeldSocket {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // It is to be inherited.
        fcntl_setfd(&listener, FdFlags::empty()).unwrap();
        Self(listener)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// A gateway's command, through a shell that passes the socket under that
    /// name.
    pub fn pass(&self, command: &Command, name: &str) -> Command {
        let plain = command.as_std();
        let mut passing = Command::new("bash");
        passing.args(["-c", PASS, "bash"]).arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => passing.env(name, value),
                None => passing.env_remove(name),
            };
        }
        passing.env("HELD", self.0.as_raw_fd().to_string()).env("LISTEN_FDNAMES", name);
        passing.current_dir(plain.get_current_dir().unwrap());
        passing
    }

    pub async fn start(&self, setup: Setup) -> Gateway {
        let command = self.pass(&setup.command(["run"]), "intake");
        setup.start_as(command).await
    }
}
