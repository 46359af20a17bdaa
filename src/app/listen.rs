//! The sockets, bound before anything else: a port in use is told at once.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};

use crate::config::Settings;

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
    pub intake: TcpListener,
    pub spark: TcpListener,
    pub admin: TcpListener,
    pub pass_through: Option<TcpListener>,
    pub line_sockets: Vec<TcpListener>,
    pub command: UnixListener,
}

pub(super) async fn listen(settings: &Settings) -> Result<Listeners> {
    let config = &settings.config;
    let bind = async |setting: &str, address: SocketAddr| {
        TcpListener::bind(address).await.map_err(|error| {
            let hint = "stop the other program, or choose another address or port";
            anyhow!("{}", settings.problem(setting, &format!("cannot listen: {error}"), Some(hint)))
        })
    };
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let pass_through = match config.pass_through.listen {
        None => None,
        Some(listen) => Some(bind("pass_through.listen", listen).await?),
    };
    let mut line_sockets = Vec::new();
    for (at, socket) in config.line_socket.iter().enumerate() {
        line_sockets.push(bind(&format!("line_socket[{at}].listen"), socket.listen).await?);
    }
    Ok(Listeners {
        intake: bind("intake.listen", config.intake.listen).await?,
        spark: bind("spark.listen", config.spark.listen).await?,
        admin: bind("admin.listen", config.admin.listen).await?,
        pass_through,
        line_sockets,
        command: listen_for_commands(&config.admin_socket())?,
    })
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
        Ok(Addresses {
            intake: self.intake.local_addr()?,
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
