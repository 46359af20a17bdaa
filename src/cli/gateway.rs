//! The gateway as the command line sees it: the running one over its Unix
//! socket, or the store itself where none runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::owner::become_owner_of;
use crate::config::Config;
use crate::store::{Metrics, OpenError, Store};

/// Where the command line finds what it asks for.
pub(super) enum Gateway {
    /// A running one.
    Running(Socket),
    /// None runs; this process has the store.
    Stopped(Arc<Store>),
}

/// The running gateway's socket.
pub(super) struct Socket(std::path::PathBuf);

impl Gateway {
    /// Finds the gateway of a configuration.
    pub(super) async fn find(config: &Config) -> Result<Self> {
        let socket = config.admin_socket();
        match UnixStream::connect(&socket).await {
            Ok(_) => return Ok(Self::Running(Socket(socket))),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => bail!(
                "the gateway's socket {} is not for this user; run it as root, or join the gateway's group",
                socket.display()
            ),
            Err(_) => {}
        }
        if !config.data_dir.join("streams").is_dir() {
            bail!(
                "no gateway runs, and there is no data in {}; name the configuration with --config, or run it where the gateway was started",
                config.data_dir.display()
            );
        }
        become_owner_of(&config.data_dir)?;
        let (folder, settings) = (config.data_dir.clone(), config.store_settings());
        let opened = tokio::task::spawn_blocking(move || {
            Store::open_as(&folder, settings, Metrics::default())
        });
        match opened.await? {
            Ok(store) => Ok(Self::Stopped(Arc::new(store))),
            Err(OpenError::InUse(folder)) => bail!(
                "a gateway has {} open, but does not answer at {}; it may be starting, stopping, or stuck",
                folder.display(),
                socket.display()
            ),
            Err(error) => Err(error.into()),
        }
    }
}

impl Socket {
    /// That of a running gateway, where there is one that this user may ask.
    pub(super) async fn of_running(config: &Config) -> Option<Self> {
        let socket = config.admin_socket();
        UnixStream::connect(&socket).await.ok()?;
        Some(Self(socket))
    }

    /// Sends a request and returns the answer, whatever its status.
    pub(super) async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.0).await.context("the gateway went away")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "gateway");
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }

    /// Sends a request and reads the JSON of its answer; a refusal is an error
    /// that says why.
    pub(super) async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        let answer = self.send(method, path).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != StatusCode::OK {
            bail!("{}", refusal(&body).unwrap_or_else(|| format!("the gateway answered {status}")));
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// What a refusal's body says.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("description")?.as_str().map(ToOwned::to_owned)
}

/// Whether a folder can be written to; `check` asks.
pub(super) fn is_writable(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(".ngsi-ferry-check");
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}
