//! The server's side of a handshake, with certificates that may change while
//! it runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificate, Seen};
use super::{Error, ServerTls, pem, server_config};

/// Who is at the other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The first DNS name in the client's certificate, in lower case; `None`
    /// if it showed no certificate, or one without a DNS name.
    pub name: Option<String>,
    /// Cancelled once an authority that clients were let in by is trusted no
    /// more: the connection is to be ended, and may be made anew by those who
    /// have a certificate of another one.
    pub trust: CancellationToken,
}

/// Takes accepted connections through the TLS handshake.
#[derive(Debug)]
pub struct Acceptor {
    settings: ServerTls,
    loaded: ArcSwap<Loaded>,
    /// One reload at a time.
    reloading: Mutex<()>,
    clients: Mutex<Seen>,
}

/// What the files held when they were read.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// The public keys of the authorities for clients.
    authorities: Vec<Vec<u8>>,
    trust: CancellationToken,
}

impl Loaded {
    fn read(settings: &ServerTls) -> Result<Self, Error> {
        let config = Arc::new(server_config(settings)?);
        let authorities = match settings.clients.ca() {
            None => Vec::new(),
            Some(ca) => {
                let readable = pem::certificates(ca)?.into_iter();
                readable.filter_map(|der| Some(Certificate::parse(&der).ok()?.public_key)).collect()
            }
        };
        Ok(Self { config, authorities, trust: CancellationToken::new() })
    }
}

impl Acceptor {
    /// Reads the certificate, the key and the client CA.
    ///
    /// An expired certificate is served all the same: clients that do not
    /// verify it can still deliver, and the clock may be what is wrong. Warn
    /// with [`expires_in`](super::expires_in).
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, or a key that
    /// does not belong to the certificate.
    pub fn new(settings: ServerTls) -> Result<Self, Error> {
        let loaded = ArcSwap::from_pointee(Loaded::read(&settings)?);
        let (reloading, clients) = (Mutex::default(), Mutex::default());
        Ok(Self { settings, loaded, reloading, clients })
    }

    /// The files and rules that this was made from.
    pub fn settings(&self) -> &ServerTls {
        &self.settings
    }

    /// Reads the files again, for connections from now on; sessions of before
    /// cannot be resumed. Where an authority for clients is gone, connections
    /// end; one that was renewed with its key, or joined by another, ends none.
    /// Blocks for the time of reading three small files.
    ///
    /// # Errors
    /// As [`Acceptor::new`]; the old certificate then stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Loaded::read(&self.settings)?;
        let old = self.loaded.load_full();
        let still_trusted = old.authorities.iter().all(|key| new.authorities.contains(key));
        if still_trusted {
            new.trust = old.trust.clone();
        }
        self.loaded.store(Arc::new(new));
        if !still_trusted {
            old.trust.cancel();
        }
        Ok(())
    }

    /// The files that it was made from.
    #[must_use]
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        let ServerTls { cert, key, clients, .. } = &self.settings;
        let own = [cert.as_path(), key.as_path()].into_iter();
        own.chain(clients.ca()).map(ToOwned::to_owned).collect()
    }

    /// When the certificates end that clients showed last, by their names.
    #[must_use]
    pub fn clients(&self) -> Vec<(String, SystemTime)> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// Does the handshake with one client, within `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`] or [`Error::Handshake`]: they concern this one
    /// connection, which is closed.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: S,
        deadline: Duration,
    ) -> Result<(TlsStream<S>, Peer), Error> {
        let loaded = self.loaded.load_full();
        let handshake = TlsAcceptor::from(Arc::clone(&loaded.config)).accept(connection);
        let stream = tokio::time::timeout(deadline, handshake)
            .await
            .map_err(|_| Error::Deadline { deadline })?
            .map_err(|e| Error::handshake(e, self.settings.clients.ca()))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = shown.and_then(client_name);
        if let (Some(name), Some(shown)) = (&name, shown) {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.note(name, shown);
        }
        Ok((stream, Peer { name, trust: loaded.trust.clone() }))
    }
}

fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    // A wildcard stands for many names and so names nobody.
    let name = certificate.valid_dns_names().find(|name| !name.contains('*'))?;
    Some(name.to_ascii_lowercase())
}
