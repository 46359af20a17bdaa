//! Certificates for years: new lifetimes for names and keys that stay.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::folder::{Folder, Found};
use super::sign::{Authority, Purpose, Subject};
use super::{CA, Error, SERVER};
use crate::tls::{self, date};

const DAY: Duration = Duration::from_hours(24);
/// The gateway renews its own certificate with a third of its life left: far
/// ahead of any warning, and with months to spare for a box that is switched
/// off now and then.
const SERVER_AHEAD: Duration = Duration::from_hours(275 * 24);
/// An authority is renewed with so much of its life left. Twice as long as
/// what it signs: whoever renews once in that time never meets its end, and
/// clients have years to take the new `ca.pem`.
const AUTHORITY_AHEAD: Duration = Duration::from_hours(5 * 365 * 24);

/// What becomes of the private keys in a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// They stay, so a certificate is replaced in one step, and fits its key at
    /// every moment, also where a copy of the key is.
    Kept,
    /// New ones, where an old one may have got into wrong hands. The
    /// authority's stays all the same.
    New,
}

/// One certificate that [`renew`] replaced.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// The names in it: those that it had before.
    pub names: Vec<String>,
    /// When it expires now.
    pub expires: SystemTime,
    /// It has a new private key.
    pub new_key: bool,
}

/// What [`renew`] did.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// What was replaced.
    pub renewed: Vec<Renewed>,
    /// Certificates that were left alone, and why.
    pub skipped: Vec<(PathBuf, String)>,
    /// When the authority expires.
    pub authority_expires: SystemTime,
    /// When the authority would have expired, where it was renewed.
    pub former_end: Option<SystemTime>,
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(old) = self.former_end {
            writeln!(
                f,
                "renewed the authority until {}: give the new ca.pem to every client before {}, one \
                 after the other; name and key are the same, so either works meanwhile",
                date(self.authority_expires),
                date(old)
            )?;
        }
        for one in &self.renewed {
            let names = one.names.join(", ");
            let key = if one.new_key { ", with a new key" } else { "" };
            writeln!(
                f,
                "renewed {} ({names}) until {}{key}",
                one.cert.display(),
                date(one.expires)
            )?;
        }
        for (cert, why) in &self.skipped {
            writeln!(f, "left {} as it was: {why}", cert.display())?;
        }
        write!(
            f,
            "give each client its new certificate{}; the old ones stay good until they expire",
            if self.renewed.iter().any(|one| one.new_key) {
                " and key, both together"
            } else {
                ", its key is the same"
            }
        )
    }
}

/// Gives every certificate in `dir` that its authority signed a new lifetime,
/// under the same name. Old certificates stay valid until they expire, so
/// clients can change over one by one. The authority itself is renewed in its
/// last five years, with its name and key.
///
/// What a crash leaves, the next call here or of [`ensure`](super::ensure)
/// completes.
///
/// # Errors
/// What is wrong with the authority, or what the disk says. What was replaced
/// until then stays replaced.
pub fn renew(dir: &Path, keys: Keys) -> Result<Renewal, Error> {
    renew_at(dir, keys, SystemTime::now())
}

pub(super) fn renew_at(dir: &Path, keys: Keys, now: SystemTime) -> Result<Renewal, Error> {
    let folder = Folder::open(dir)?;
    let mut authority = Authority::load(&folder)?;
    let (mut renewed, mut skipped) = (Vec::new(), Vec::new());
    let mut former_end = None;
    if !tls::is_unset(now) && authority.expires() < now + AUTHORITY_AHEAD {
        let old = authority.expires();
        match authority.renewed(now) {
            Ok(new) => {
                folder.put_cert(CA, &new.cert)?;
                authority = Authority::load(&folder)?;
                former_end = Some(old);
            }
            Err(error @ Error::Foreign { .. }) => {
                skipped.push((folder.cert(CA), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    for name in folder.names()?.into_iter().filter(|name| name != CA) {
        match renew_one(&folder, &authority, &name, keys, now) {
            Ok(one) => renewed.push(one),
            Err(Refused::Left(why)) => skipped.push((folder.cert(&name), why)),
            Err(Refused::Failed(error)) => return Err(error),
        }
    }
    let authority_expires = authority.expires();
    Ok(Renewal { renewed, skipped, authority_expires, former_end })
}

/// Whether the gateway's own certificate in `dir` is due: known without the
/// authority, and without a lock.
#[must_use]
pub fn is_due(dir: &Path, now: SystemTime) -> bool {
    let end = tls::Certificate::read(&dir.join("server.pem")).map(|server| server.not_after);
    !tls::is_unset(now) && end.is_ok_and(|end| end < now + SERVER_AHEAD)
}

/// Renews the gateway's own certificate in `dir` where it is due, with its key
/// and names. `None` where it is not due, another authority signed it, or its
/// own one ends too soon for it to become any better.
///
/// # Errors
/// What is wrong with the authority (its key may be kept elsewhere), or what
/// the disk says.
pub fn renew_server(dir: &Path, now: SystemTime) -> Result<Option<Renewed>, Error> {
    if !is_due(dir, now) {
        return Ok(None);
    }
    let folder = Folder::open(dir)?;
    let old = tls::Certificate::read(&folder.cert(SERVER))?;
    let authority = Authority::load(&folder)?;
    if !authority.signed(&old) || authority.lasts(now) < old.not_after + DAY {
        return Ok(None);
    }
    match renew_one(&folder, &authority, SERVER, Keys::Kept, now) {
        Ok(renewed) => Ok(Some(renewed)),
        Err(Refused::Left(_)) => Ok(None),
        Err(Refused::Failed(error)) => Err(error),
    }
}

enum Refused {
    /// Nothing is wrong with the folder.
    Left(String),
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn renew_one(
    folder: &Folder,
    authority: &Authority,
    name: &str,
    keys: Keys,
    now: SystemTime,
) -> Result<Renewed, Refused> {
    let (cert, key) = (folder.cert(name), folder.key(name));
    let old = tls::Certificate::read(&cert).map_err(|error| Refused::Left(error.to_string()))?;
    if !authority.signed(&old) {
        return Err(Refused::Left("another authority signed it".to_owned()));
    }
    // A key that was taken elsewhere is there, and good, as far as is known.
    let fits = folder.find(name) != Found::Whole || tls::check_pair(&cert, &key).is_ok();
    let left = |error| match error {
        Error::Name { .. } => Refused::Left(error.to_string()),
        error => Refused::Failed(error),
    };
    let new_key = keys == Keys::New || !fits;
    let expires = if new_key {
        let purpose = Purpose { server: old.for_servers, client: old.for_clients };
        let subject = Subject { names: &old.names, purpose };
        let pair = authority.sign(subject, now).map_err(left)?;
        folder.put(name, &pair)?;
        pair.expires
    } else {
        let signed = authority.sign_again(&old, now).map_err(left)?;
        folder.put_cert(name, &signed.cert)?;
        signed.expires
    };
    Ok(Renewed { cert, names: old.names, expires, new_key })
}
