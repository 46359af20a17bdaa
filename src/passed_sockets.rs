//! Listening sockets that the service manager holds, and passes to each process
//! that it starts (`LISTEN_FDS`): they stay open while no gateway runs, so that
//! whoever connects meanwhile waits, and is served by the next one.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// As systemd calls what has no name.
const UNNAMED: &str = "unknown";
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";

/// The sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    /// `FileDescriptorName=` of its unit; the unit's own name without it.
    name: String,
    address: SocketAddr,
    listener: TcpListener,
}

impl PassedSockets {
    /// Takes them over. Once, and before there are other threads: it changes
    /// the environment.
    #[must_use]
    pub fn take() -> Self {
        let names = std::env::var(NAMES_VARIABLE).unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..descriptors.len() {
            let name = names.next().unwrap_or(UNNAMED).to_owned();
            // What is no listening TCP socket is not for a gateway.
            if let Ok(Some(listener)) = descriptors.take_tcp_listener(at)
                && let Ok(address) = listener.local_addr()
            {
                sockets.push(Passed { name, address, listener });
            }
        }
        Self(sockets)
    }

    /// Those for a listener: of its name, or at its address.
    pub fn for_listener(&mut self, name: &str, address: SocketAddr) -> Vec<TcpListener> {
        let is_meant = |passed: &mut Passed| passed.name == name || passed.address == address;
        self.0.extract_if(.., is_meant).map(|passed| passed.listener).collect()
    }

    /// Name and address of those that nobody took.
    pub fn left(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.0.iter().map(|passed| (passed.name.as_str(), passed.address))
    }
}
