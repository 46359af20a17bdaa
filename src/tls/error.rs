//! What can be wrong with TLS, told to the person on site.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::server::VerifierBuilderError;
use rustls::{AlertDescription, CertificateError, InconsistentKeys, PeerIncompatible};

use super::clock::unset_clock;

/// Everything but [`Error::Deadline`] and [`Error::Handshake`] is about files
/// and needs somebody to change them; those two are about one connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("cannot read the {what} {}: {source}{}", path.display(), read_hint(source))]
    Read { what: &'static str, path: PathBuf, source: io::Error },
    /// A file holds no PEM section of the kind that is needed.
    #[error("{} holds no {what}: {found}", path.display())]
    Missing { what: &'static str, path: PathBuf, found: String },
    /// A file is damaged PEM.
    #[error("the {what} {} is damaged ({source}): copy it again from where it was made", path.display())]
    Pem { what: &'static str, path: PathBuf, source: rustls::pki_types::pem::Error },
    /// A private key is not one that can be used.
    #[error("the private key {} cannot be used ({source}): it must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more", path.display())]
    Key { path: PathBuf, source: rustls::Error },
    /// A certificate cannot be understood.
    #[error("the certificate {} cannot be read: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    /// The key is of another certificate.
    #[error("the private key {} does not belong to the certificate {}: name the key it was made with, or run `ngsi-ferry pki renew`", key.display(), cert.display())]
    KeyMismatch { cert: PathBuf, key: PathBuf },
    /// A certificate's time is over.
    #[error("the certificate {} expired on {}: run `ngsi-ferry pki renew`, or if it is not from there, ask who issued it; if the date looks wrong, check this box's clock", path.display(), date(*since))]
    Expired { path: PathBuf, since: SystemTime },
    /// A file of authorities holds one that cannot serve as such.
    #[error("a certificate authority in {} cannot be used: {source}", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    /// The authorities for clients cannot be used.
    #[error("the client certificate authorities in {} cannot be used: {source}", path.display())]
    ClientAuthority { path: PathBuf, source: VerifierBuilderError },
    /// No CA was named, and the system has none.
    #[error(
        "found no certificate authorities of the system: install ca-certificates, or name a CA file"
    )]
    NoSystemAuthorities,
    /// The provider has no cipher for the versions asked for: a fault of ours.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
    /// The client took too long.
    #[error("no TLS handshake within {} ms", deadline.as_millis())]
    Deadline { deadline: Duration },
    /// The handshake failed.
    #[error("the TLS handshake failed: {hint}")]
    Handshake { hint: String, source: io::Error },
}

impl Error {
    pub(super) fn pair(cert: &Path, key: &Path, source: rustls::Error) -> Self {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Self::KeyMismatch { cert, key }
            }
            rustls::Error::InvalidCertificate(_) => {
                Self::Certificate { path: cert, reason: source.to_string() }
            }
            source => Self::Key { path: key, source },
        }
    }

    pub(super) fn handshake(source: io::Error, ca: Option<&Path>) -> Self {
        let reason = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let hint = match reason {
            Some(reason) => handshake_hint(reason, ca),
            None if source.kind() == io::ErrorKind::UnexpectedEof => {
                "the client closed the connection".to_owned()
            }
            None => source.to_string(),
        };
        Self::Handshake { hint, source }
    }
}

fn handshake_hint(reason: &rustls::Error, ca: Option<&Path>) -> String {
    use rustls::Error as E;
    match reason {
        E::NoCertificatesPresented => {
            "the client showed no certificate: give it one that `ngsi-ferry pki` made".to_owned()
        }
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            let ca = ca.map_or_else(String::new, |ca| format!(" in {}", ca.display()));
            format!("the client's certificate was not signed by a certificate authority{ca}")
        }
        E::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => format!("{reason}: renew the client's certificate, or {}", clock_hint()),
        E::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => format!("{reason}: {}", clock_hint()),
        E::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => format!("the client does not trust our certificate ({reason}): give it our ca.pem"),
        E::AlertReceived(AlertDescription::CertificateExpired) => {
            "by the client's clock our certificate has expired, or is not valid yet: check that clock, or run `ngsi-ferry pki renew`".to_owned()
        }
        E::InvalidMessage(_) => {
            "the client does not speak TLS: is it set to http instead of https?".to_owned()
        }
        E::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => format!("the client and this listener have no TLS version in common ({reason})"),
        other => other.to_string(),
    }
}

fn read_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": let the user that ngsi-ferry runs as read it (chown, or its group and chmod 640)"
        }
        io::ErrorKind::NotFound => ": correct the path, or make it with `ngsi-ferry pki init`",
        _ => "",
    }
}

/// The day of `at` in UTC, as 2026-01-31.
pub(crate) fn date(at: SystemTime) -> String {
    let seconds = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|s| -s),
    };
    seconds
        .and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok())
        .map_or_else(|| "a day beyond the calendar".to_owned(), |at| at.date().to_string())
}

/// What a clock has to do with a certificate that is not valid now.
fn clock_hint() -> String {
    unset_clock(SystemTime::now()).unwrap_or_else(|| "check this box's clock".to_owned())
}

/// An error with its causes: reqwest's own text hides them.
#[must_use]
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    // By rustls's words: what wraps its error on the way is others' to change.
    if ["certificate not valid yet", "certificate expired"].iter().any(|how| text.contains(how)) {
        text.push_str("; ");
        text.push_str(&clock_hint());
    }
    text
}
