//! A small certificate authority for one plant: `pki init`, a new client,
//! `pki renew`, and what a start without any configuration needs.
//!
//! ECDSA P-256 throughout. A folder holds pairs `NAME.pem` (certificate) and
//! `NAME.key` (private key, not encrypted): `ca`, `server`, `client`, and one
//! for each further client. `folder` keeps the pairs whole across crashes,
//! `sign` makes what is in them, `renewal` makes them last.

mod error;
mod folder;
mod names;
mod renewal;
mod sign;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::tls::{self, date};

pub use error::Error;
use folder::{Folder, Found};
pub use names::host_name;
pub use renewal::{Keys, Renewal, Renewed, is_due, renew, renew_server};
use sign::{Authority, Purpose, Subject};

const CA: &str = "ca";
const SERVER: &str = "server";
const CLIENT: &str = "client";

/// What [`init`] or [`ensure`] made.
#[derive(Debug, Clone)]
pub struct Created {
    /// The folder.
    pub dir: PathBuf,
    /// The files that were made, in the order of their making.
    pub files: Vec<PathBuf>,
    /// The DNS names and addresses in the server's certificate.
    pub server_names: Vec<String>,
    /// When the server's and the client's certificate expire.
    pub expires: SystemTime,
    /// When the authority expires.
    pub authority_expires: SystemTime,
    /// This box's clock was not set, so the certificates got the authority's
    /// whole lifetime.
    pub clock_unset: bool,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "made {}", file.display())?;
        }
        writeln!(f, "the server is known as {}", self.server_names.join(", "))?;
        writeln!(
            f,
            "valid until {}, the authority until {}",
            date(self.expires),
            date(self.authority_expires)
        )?;
        if self.clock_unset {
            writeln!(f, "the clock is not set: run `ngsi-ferry pki renew` once it is")?;
        }
        write!(
            f,
            "give ca.pem, client.pem and client.key from {} to Spark; keep ca.key secret",
            self.dir.display()
        )
    }
}

/// A client's new certificate.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The name that the gateway will know it by.
    pub name: String,
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// When the certificate expires.
    pub expires: SystemTime,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "made {} and {} for the client {}, valid until {}",
            self.cert.display(),
            self.key.display(),
            self.name,
            date(self.expires)
        )
    }
}

/// Makes an authority, a server and a client in `dir`: `ca.pem`, `ca.key`,
/// `server.pem`, `server.key`, `client.pem`, `client.key`. The folder is made
/// (0700) where there is none. The server is known by `localhost`, `127.0.0.1`,
/// `::1`, the host's own name, and `names` (DNS names or addresses).
///
/// # Errors
/// [`Error::AuthorityExists`] or [`Error::Exists`] if one of the files is there
/// already, [`Error::Name`] for a name that is none, and what the disk says.
pub fn init(dir: &Path, names: &[String]) -> Result<Created, Error> {
    init_at(dir, names, SystemTime::now())
}

fn init_at(dir: &Path, names: &[String], now: SystemTime) -> Result<Created, Error> {
    let names = names::server_names(names)?;
    let folder = Folder::create(dir)?;
    if folder.find(CA) != Found::Nothing {
        return Err(Error::AuthorityExists { dir: dir.to_owned() });
    }
    for name in [CLIENT, SERVER] {
        let found = [folder.cert(name), folder.key(name)].into_iter().find(|path| path.exists());
        if let Some(path) = found {
            return Err(Error::Exists { path });
        }
    }
    complete(&folder, names, now)
}

/// For a start without configuration: as [`init`] where there is nothing yet,
/// finishes what an interrupted one began, and otherwise changes nothing and
/// returns `None`.
///
/// # Errors
/// [`Error::Half`] for half a pair, which no crash leaves behind, and as
/// [`init`].
pub fn ensure(dir: &Path, names: &[String]) -> Result<Option<Created>, Error> {
    ensure_at(dir, names, SystemTime::now())
}

fn ensure_at(dir: &Path, names: &[String], now: SystemTime) -> Result<Option<Created>, Error> {
    let names = names::server_names(names)?;
    let folder = Folder::create(dir)?;
    // The server's pair is made last: with it the folder is complete, even if
    // somebody has since moved the client's or the authority's key elsewhere.
    match folder.find(SERVER) {
        Found::Whole => Ok(None),
        Found::Nothing => complete(&folder, names, now).map(Some),
        Found::OnlyCert | Found::OnlyKey => Err(folder.half(SERVER)),
    }
}

fn complete(folder: &Folder, server_names: Vec<String>, now: SystemTime) -> Result<Created, Error> {
    let mut files = Vec::new();
    let mut put = |name: &str, pair: &sign::Pair| {
        folder.put(name, pair)?;
        files.extend([folder.cert(name), folder.key(name)]);
        Ok::<(), Error>(())
    };
    match folder.find(CA) {
        Found::Nothing => put(CA, &sign::new_authority(now)?)?,
        Found::OnlyKey => return Err(folder.half(CA)),
        // Without its key, loading it says so.
        Found::Whole | Found::OnlyCert => {}
    }
    let authority = Authority::load(folder)?;
    if folder.find(CLIENT) == Found::Nothing {
        let names = [CLIENT.to_owned()];
        let subject = Subject { names: &names, purpose: Purpose::CLIENT };
        put(CLIENT, &authority.sign(subject, now)?)?;
    }
    let subject = Subject { names: &server_names, purpose: Purpose::SERVER };
    let server = authority.sign(subject, now)?;
    put(SERVER, &server)?;
    Ok(Created {
        dir: folder.path().to_owned(),
        files,
        server_names,
        expires: server.expires,
        authority_expires: authority.expires(),
        clock_unset: tls::is_unset(now),
    })
}

/// Makes `NAME.pem` and `NAME.key` in `dir`, signed by the authority there, for
/// a client that the gateway will know as `name`.
///
/// # Errors
/// [`Error::Name`] if `name` is not a DNS name in lower case of at most 64
/// characters, [`Error::Exists`] if there is one already, and what is wrong
/// with the authority.
pub fn issue_client(dir: &Path, name: &str) -> Result<Identity, Error> {
    names::client_name(name)?;
    let folder = Folder::open(dir)?;
    let (cert, key) = (folder.cert(name), folder.key(name));
    for path in [&cert, &key] {
        if path.exists() {
            return Err(Error::Exists { path: path.clone() });
        }
    }
    let authority = Authority::load(&folder)?;
    let names = [name.to_owned()];
    let subject = Subject { names: &names, purpose: Purpose::CLIENT };
    let pair = authority.sign(subject, SystemTime::now())?;
    folder.put(name, &pair)?;
    Ok(Identity { name: name.to_owned(), cert, key, expires: pair.expires })
}
