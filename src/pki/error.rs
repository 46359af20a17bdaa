//! What can go wrong with certificates, told to the person on site.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::tls::{self, date};

/// None of these is worth a retry before somebody has changed something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `init` in a folder that has an authority.
    #[error("{} holds a certificate authority already, and it is never overwritten: add clients to it, renew with `ngsi-ferry pki renew`, or name another folder", dir.display())]
    AuthorityExists { dir: PathBuf },
    /// A file is in the way.
    #[error("{} exists already and is never overwritten: choose another name, or move it away", path.display())]
    Exists { path: PathBuf },
    /// There is no authority where one is needed.
    #[error("there is no certificate authority in {}: make one with `ngsi-ferry pki init`, or name the folder that has it", dir.display())]
    NoAuthority { dir: PathBuf },
    /// The authority's key is not beside its certificate.
    #[error("the authority's private key {} is missing: if it is kept elsewhere, bring it here for this, and take it away again", path.display())]
    NoAuthorityKey { path: PathBuf },
    /// The authority's files do not fit together, or cannot sign.
    #[error("the certificate authority in {} cannot sign ({reason}): restore ca.pem and ca.key from one backup, or make a new authority in another folder", dir.display())]
    Authority { dir: PathBuf, reason: String },
    /// The authority was made by somebody else, in another form.
    #[error("the certificate authority in {} was not made by ngsi-ferry: renew it where it was made, with the same key and the same name, and put the new ca.pem here", dir.display())]
    Foreign { dir: PathBuf },
    /// The authority's time is over.
    #[error("the certificate authority in {} expired on {}: run `ngsi-ferry pki renew`; if the date looks wrong, check this box's clock", dir.display(), date(*since))]
    AuthorityExpired { dir: PathBuf, since: SystemTime },
    /// One file of a pair is missing.
    #[error("{} is there and {} is missing: bring it back, or move the first away too, and both are made again", there.display(), missing.display())]
    Half { there: PathBuf, missing: PathBuf },
    /// A name cannot stand in a certificate.
    #[error("\"{name}\" cannot be a name in a certificate: {why}")]
    Name { name: String, why: &'static str },
    /// The disk or the system refused.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// A file of the folder is wrong.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run this as the folder's owner, or as root (files then still go to that owner)"
        }
        io::ErrorKind::StorageFull => ": make room on this disk",
        io::ErrorKind::ReadOnlyFilesystem => ": name a folder that can be written",
        io::ErrorKind::NotFound => ": make it with `ngsi-ferry pki init`, or correct the path",
        _ => "",
    }
}
