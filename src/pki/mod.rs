//! A small certificate authority for one plant: `pki init`, a new client,
//! `pki renew`, and what a start without any configuration needs.
//!
//! ECDSA P-256 throughout. A folder holds pairs `NAME.pem` (certificate) and
//! `NAME.key` (private key, not encrypted): `ca`, `server`, `client`, and one
//! for each further client. `folder` keeps the pairs whole across crashes,
//! `sign` makes what is in them.

mod error;
mod folder;
mod more_names;
mod sign;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::tls::{self, date};

pub use error::Error;
use folder::{Folder, Found};
pub use more_names::add_names;
pub use sign::host_name;
use sign::{Authority, Purpose};

const CA: &str = "ca";
const SERVER: &str = "server";
const CLIENT: &str = "client";
const YEAR: Duration = Duration::from_hours(365 * 24);

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

/// One pair that [`renew`] replaced.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The certificate, PEM; its key lies beside it.
    pub cert: PathBuf,
    /// The names in it: those that it had before.
    pub names: Vec<String>,
    /// When it expires now.
    pub expires: SystemTime,
}

/// What [`renew`] did.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The pairs that were replaced.
    pub renewed: Vec<Renewed>,
    /// Certificates that were left alone, and why.
    pub skipped: Vec<(PathBuf, String)>,
    /// When the authority expires.
    pub authority_expires: SystemTime,
    /// It does so within a year: time to make its successor.
    pub authority_ends_soon: bool,
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.renewed {
            let names = one.names.join(", ");
            writeln!(f, "renewed {} ({names}) until {}", one.cert.display(), date(one.expires))?;
        }
        for (cert, why) in &self.skipped {
            writeln!(f, "left {} as it was: {why}", cert.display())?;
        }
        if self.authority_ends_soon {
            writeln!(
                f,
                "THE AUTHORITY ITSELF EXPIRES ON {}: make a new one with `ngsi-ferry pki init` \
                 in another folder, and let clients trust both ca.pem before you change over",
                date(self.authority_expires)
            )?;
        }
        write!(f, "a running ngsi-ferry takes the new server certificate on SIGHUP")
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
    let names = sign::server_names(names)?;
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
    let names = sign::server_names(names)?;
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
        put(CLIENT, &authority.sign(&[CLIENT.to_owned()], Purpose::CLIENT, now)?)?;
    }
    let server = authority.sign(&server_names, Purpose::SERVER, now)?;
    put(SERVER, &server)?;
    Ok(Created {
        dir: folder.path().to_owned(),
        files,
        server_names,
        expires: server.expires,
        authority_expires: authority.expires(),
        clock_unset: sign::clock_unset(now),
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
    sign::client_name(name)?;
    let folder = Folder::open(dir)?;
    let (cert, key) = (folder.cert(name), folder.key(name));
    for path in [&cert, &key] {
        if path.exists() {
            return Err(Error::Exists { path: path.clone() });
        }
    }
    let authority = Authority::load(&folder)?;
    let pair = authority.sign(&[name.to_owned()], Purpose::CLIENT, SystemTime::now())?;
    folder.put(name, &pair)?;
    Ok(Identity { name: name.to_owned(), cert, key, expires: pair.expires })
}

/// Gives every certificate in `dir` that its authority signed a new key and a
/// new lifetime, under the same names and the same authority. Old certificates
/// stay valid until they expire, so clients can change over one by one.
///
/// Pairs are replaced one after the other, the key a moment before its
/// certificate; what a crash leaves in between, the next call here or of
/// [`ensure`] completes.
///
/// # Errors
/// What is wrong with the authority, or what the disk says. Pairs replaced
/// until then stay replaced.
pub fn renew(dir: &Path) -> Result<Renewal, Error> {
    renew_at(dir, SystemTime::now())
}

fn renew_at(dir: &Path, now: SystemTime) -> Result<Renewal, Error> {
    let folder = Folder::open(dir)?;
    let authority = Authority::load(&folder)?;
    let (mut renewed, mut skipped) = (Vec::new(), Vec::new());
    for name in folder.names()?.into_iter().filter(|name| name != CA) {
        let cert = folder.cert(&name);
        let old = match tls::Certificate::read(&cert) {
            Ok(old) if authority.signed(&old) => old,
            Ok(_) => {
                skipped.push((cert, "another authority signed it".to_owned()));
                continue;
            }
            Err(e) => {
                skipped.push((cert, e.to_string()));
                continue;
            }
        };
        let purpose = Purpose { server: old.for_servers, client: old.for_clients };
        let pair = match authority.sign(&old.names, purpose, now) {
            Err(e @ Error::Name { .. }) => {
                skipped.push((cert, e.to_string()));
                continue;
            }
            other => other?,
        };
        folder.put(&name, &pair)?;
        renewed.push(Renewed { cert, names: old.names, expires: pair.expires });
    }
    let authority_expires = authority.expires();
    let authority_ends_soon = authority_expires < now + YEAR;
    Ok(Renewal { renewed, skipped, authority_expires, authority_ends_soon })
}
