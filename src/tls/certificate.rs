//! What is written in a certificate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, pem};

/// The parts of a certificate that we act on.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// DNS names and IP addresses it is for, in its order, as text.
    pub names: Vec<String>,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
    /// Whether servers may use it.
    pub for_servers: bool,
    /// Whether clients may use it.
    pub for_clients: bool,
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    /// The common name of the holder, where that is text.
    pub(crate) common_name: Option<String>,
    /// The public key, as X.509 writes it.
    pub(crate) public_key: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM file: the holder's own.
    ///
    /// # Errors
    /// A file that cannot be read or holds no readable certificate.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let all = pem::certificates(path)?;
        let first = all.first().map_or(&[][..], |der| der.as_ref());
        Self::parse(first).map_err(|reason| Error::Certificate { path: path.to_owned(), reason })
    }

    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| e.to_string())?
            .map(|names| names.value.general_names.iter().filter_map(name).collect())
            .unwrap_or_default();
        // Without the extension it may serve for anything (RFC 5280, 4.2.1.12).
        let (for_servers, for_clients) = certificate
            .extended_key_usage()
            .map_err(|e| e.to_string())?
            .map_or((true, true), |usage| {
                let any = usage.value.any;
                (any || usage.value.server_auth, any || usage.value.client_auth)
            });
        Ok(Self {
            names,
            not_after: moment(certificate.validity().not_after.timestamp()),
            for_servers,
            for_clients,
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .find_map(|name| Some(name.as_str().ok()?.to_owned())),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// The DNS names and IP addresses of the first certificate in a PEM file.
///
/// # Errors
/// A file that cannot be read or holds no readable certificate.
pub fn names(cert: &Path) -> Result<Vec<String>, Error> {
    Ok(Certificate::read(cert)?.names)
}

/// The moment from which the certificates in a PEM file are no longer all
/// valid: a chain lasts as long as its shortest.
///
/// # Errors
/// A file that cannot be read or holds a certificate that cannot.
pub fn not_after(cert: &Path) -> Result<SystemTime, Error> {
    let ends = ends(cert)?;
    ends.into_iter().min().ok_or_else(|| nothing_in(cert))
}

/// The next moment at which one of the authorities in a PEM file ends. Those
/// that have ended are of no interest while there is another: two stand in one
/// file while clients change over.
///
/// # Errors
/// As [`not_after`].
pub fn authority_ends(ca: &Path, now: SystemTime) -> Result<SystemTime, Error> {
    let ends = ends(ca)?;
    let next = ends.iter().filter(|end| **end > now).min();
    next.or(ends.iter().max()).copied().ok_or_else(|| nothing_in(ca))
}

fn ends(path: &Path) -> Result<Vec<SystemTime>, Error> {
    let wrong = |reason| Error::Certificate { path: path.to_owned(), reason };
    let all = pem::certificates(path)?;
    all.iter().map(|der| Ok(Certificate::parse(der).map_err(wrong)?.not_after)).collect()
}

fn nothing_in(path: &Path) -> Error {
    Error::Certificate { path: path.to_owned(), reason: "it holds none".to_owned() }
}

/// How long the certificates in a PEM file stay valid, by the system's clock.
///
/// # Errors
/// [`Error::Expired`] if one no longer is, or as [`not_after`].
pub fn expires_in(cert: &Path) -> Result<Duration, Error> {
    let end = not_after(cert)?;
    end.duration_since(SystemTime::now())
        .map_err(|_| Error::Expired { path: cert.to_owned(), since: end })
}

/// Clients that a gateway remembers; each has a certificate of an authority
/// that it trusts, so there are not more without a reason.
const REMEMBERED: usize = 1024;

/// When the certificates end that clients showed.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<String, SystemTime>);

impl Seen {
    /// The newest of one name counts: it may run on several machines, and be
    /// renewed on one after the other, but then somebody is at it.
    pub(super) fn note(&mut self, name: &str, der: &[u8]) {
        let Ok(shown) = Certificate::parse(der) else { return };
        if let Some(end) = self.0.get_mut(name) {
            *end = shown.not_after.max(*end);
        } else if self.0.len() < REMEMBERED {
            self.0.insert(name.to_owned(), shown.not_after);
        }
    }

    pub(super) fn all(&self) -> Vec<(String, SystemTime)> {
        self.0.iter().map(|(name, end)| (name.clone(), *end)).collect()
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let sixteen = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            four.or(sixteen).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let moment =
        if seconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    moment.unwrap_or(epoch)
}
