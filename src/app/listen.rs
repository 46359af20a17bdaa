//! The sockets, bound before anything else: a port in use is told at once.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tracing::{error, info, warn};

use crate::config::{Origin, Settings};
use crate::passed_sockets::PassedSockets;

/// `FileDescriptorName=` of the intake's socket.
const INTAKE: &str = "intake";

/// Where the gateway listens, once it does.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// Notifications.
    pub intake: SocketAddr,
    /// Spark API.
    pub spark: SocketAddr,
    /// State and metrics.
    pub admin: SocketAddr,
    /// NGSI writes, where they have a listener of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_through: Option<SocketAddr>,
    /// Line sockets, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub line_sockets: Vec<SocketAddr>,
}

/// The sockets of a gateway.
pub(super) struct Listeners {
    /// More than one only where systemd passes more than one.
    pub intake: Vec<TcpListener>,
    /// Those of the intake that systemd holds, too.
    pub held: Vec<SocketAddr>,
    pub spark: TcpListener,
    pub admin: TcpListener,
    pub pass_through: Option<TcpListener>,
    pub line_sockets: Vec<TcpListener>,
    pub command: UnixListener,
}

pub(super) async fn listen(settings: &Settings, passed: PassedSockets) -> Result<Listeners> {
    let config = &settings.config;
    let bind = async |setting: &str, address: SocketAddr| {
        TcpListener::bind(address).await.map_err(|error| {
            let hint = "stop the other program, or choose another address or port";
            anyhow!("{}", settings.problem(setting, &format!("cannot listen: {error}"), Some(hint)))
        })
    };
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let mut intake = take_over(settings, passed)?;
    let held = intake.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
    if intake.is_empty() {
        intake.push(bind("intake.listen", config.intake.listen).await?);
    }
    let pass_through = match config.pass_through.listen {
        None => None,
        Some(listen) => Some(bind("pass_through.listen", listen).await?),
    };
    let mut line_sockets = Vec::new();
    for (at, socket) in config.line_socket.iter().enumerate() {
        line_sockets.push(bind(&format!("line_socket[{at}].listen"), socket.listen).await?);
    }
    Ok(Listeners {
        intake,
        held,
        spark: bind("spark.listen", config.spark.listen).await?,
        admin: bind("admin.listen", config.admin.listen).await?,
        pass_through,
        line_sockets,
        command: listen_for_commands(&config.admin_socket())?,
    })
}

/// What systemd passed for the intake. Its address counts: systemd holds it
/// open, and whoever connects there would wait for ever if nobody listened.
fn take_over(settings: &Settings, mut passed: PassedSockets) -> Result<Vec<TcpListener>> {
    let wanted = settings.config.intake.listen;
    let mut listeners = Vec::new();
    for socket in passed.for_listener(INTAKE, wanted) {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        info!(%address, "the intake's socket is held by systemd, over restarts too");
        let is_set = settings.sources.origin("intake.listen") != Origin::Default;
        if is_set && !is_same(address, wanted) {
            warn!(%address, intake.listen = %wanted, "intake.listen is not used, for systemd holds the intake's socket at another address; change it with `systemctl edit ngsi-ferry.socket` (an empty ListenStream= first, then ListenStream=ADDRESS:PORT) and `systemctl restart ngsi-ferry.socket`, or leave intake.listen out");
        }
        listeners.push(TcpListener::from_std(socket)?);
    }
    for (name, address) in passed.left() {
        error!(name, %address, "systemd passed a socket that nobody here listens on, so whoever connects to it waits for ever; remove it from its .socket unit, or name it there with FileDescriptorName=intake");
    }
    Ok(listeners)
}

/// All addresses of IPv6 are those of IPv4 too.
fn is_same(held: SocketAddr, wanted: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    held.port() == wanted.port() && (held.ip() == wanted.ip() || all(held) && all(wanted))
}

/// The command line's socket, for the user and the group of the gateway.
fn listen_for_commands(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        // Left by a kill; the store's lock tells whether another one runs.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!(
                "another ngsi-ferry answers at {}; stop it, or set another data_dir",
                path.display()
            );
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!("cannot listen on {}; a socket's path has at most 107 characters: set admin.socket to a shorter one", path.display())
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

impl Listeners {
    pub(super) fn addresses(&self) -> Result<Addresses> {
        let pass_through = self.pass_through.as_ref().map(TcpListener::local_addr);
        let line_sockets = self.line_sockets.iter().map(TcpListener::local_addr);
        let [intake, ..] = &self.intake[..] else { bail!("the intake has no socket") };
        Ok(Addresses {
            intake: intake.local_addr()?,
            spark: self.spark.local_addr()?,
            admin: self.admin.local_addr()?,
            pass_through: pass_through.transpose()?,
            line_sockets: line_sockets.collect::<std::io::Result<_>>()?,
        })
    }
}

/// Whole at once: a script that waits for the file never reads half of it.
pub(super) fn tell_addresses(path: &Path, addresses: &Addresses) -> Result<()> {
    let made = path.with_extension("new");
    std::fs::write(&made, serde_json::to_vec(addresses)?)
        .and_then(|()| std::fs::rename(&made, path))
        .with_context(|| format!("cannot write addresses_file {}", path.display()))
}
