//! TLS for every listener of ours, and for the clients in tests and tools.
//!
//! rustls with the ring provider, always passed explicitly: nothing here
//! depends on which provider another crate installed for the process.

mod acceptor;
mod certificate;
mod clock;
mod error;
mod pem;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use clock::Clock;

pub use acceptor::{Acceptor, Peer};
pub use certificate::{Certificate, authority_ends, expires_in, names, not_after};
pub(crate) use clock::{BEGINNING, FLOOR, seconds};
pub use clock::{is_unset, unset_clock};
pub use error::Error;
pub(crate) use error::{chain, date};

/// Where distributions keep the certificate authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Whether a listener asks its clients for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Clients are not asked: they show a token, or nothing.
    None,
    /// A client may show a certificate signed by `ca` (a PEM file), and is let
    /// in without one, for tokens. One signed by another CA is refused.
    Optional { ca: PathBuf },
    /// Every client must show a certificate signed by `ca` (a PEM file).
    Required { ca: PathBuf },
}

impl ClientCertificates {
    fn ca(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Optional { ca } | Self::Required { ca } => Some(ca),
        }
    }
}

/// The TLS versions that a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.3 alone: the Spark API.
    Tls13,
    /// TLS 1.2 and 1.3: the intake, because Orion may be linked to an old libcurl.
    Tls12And13,
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls13 => TLS13,
            Self::Tls12And13 => TLS12_AND_13,
        }
    }
}

static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS12_AND_13: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// What a listener needs to speak TLS. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The server's certificate, then its intermediates if there are any.
    pub cert: PathBuf,
    /// The private key of `cert`, not encrypted.
    pub key: PathBuf,
    /// Whether clients show certificates too.
    pub clients: ClientCertificates,
    /// The versions spoken.
    pub versions: Versions,
}

/// Makes ring the provider of this process, for crates that take the default
/// one (reqwest). May be called any number of times.
pub fn install_provider() {
    // It fails only where one is installed already, which is what we want.
    let _ = ring::default_provider().install_default();
}

/// For a client in a test, a benchmark or a tool: TLS 1.2 and 1.3, HTTP/1.1.
/// Trusts the authorities in the PEM file `ca`, or the system's without one,
/// and shows `identity` (certificate, key) if the server asks.
///
/// # Errors
/// A file that cannot be read or is not what it should be, or a key that does
/// not belong to its certificate.
pub fn client_config(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, Error> {
    let roots = match ca {
        Some(ca) => roots(ca)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(Versions::Tls12And13.list())
        .map_err(Error::Provider)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (chain, private) = read_pair(cert, key)?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|source| Error::pair(cert, key, source))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks that the private key in `key` belongs to the first certificate in
/// `cert`.
///
/// # Errors
/// [`Error::KeyMismatch`] if not, or what is wrong with either file.
pub fn check_pair(cert: &Path, key: &Path) -> Result<(), Error> {
    let (chain, private) = read_pair(cert, key)?;
    let private = provider()
        .key_provider
        .load_private_key(private)
        .map_err(|source| Error::Key { path: key.to_owned(), source })?;
    match CertifiedKey::new(chain, private).keys_match() {
        // "Unknown" means that this kind of key cannot tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(source) => Err(Error::pair(cert, key, source)),
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_pair(cert: &Path, key: &Path) -> Result<Pair, Error> {
    Ok((pem::certificates(cert)?, pem::private_key(key)?))
}

fn server_config(settings: &ServerTls) -> Result<ServerConfig, Error> {
    let ServerTls { cert, key, clients, versions } = settings;
    let (chain, private) = read_pair(cert, key)?;
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_protocol_versions(versions.list())
        .map_err(Error::Provider)?;
    let builder = match client_verifier(clients)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|source| Error::pair(cert, key, source))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    clients: &ClientCertificates,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    let Some(ca) = clients.ca() else { return Ok(None) };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
    let builder = match clients {
        ClientCertificates::Optional { .. } => builder.allow_unauthenticated(),
        ClientCertificates::Required { .. } | ClientCertificates::None => builder,
    };
    let verifier =
        builder.build().map_err(|source| Error::ClientAuthority { path: ca.to_owned(), source })?;
    Ok(Some(verifier))
}

fn roots(ca: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|source| Error::Authority { path: ca.to_owned(), source })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let file = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let file = file.ok_or(Error::NoSystemAuthorities)?;
    let mut roots = RootCertStore::empty();
    // Distributions carry a few that webpki cannot read: without them is fine.
    roots.add_parsable_certificates(pem::certificates(file)?);
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
