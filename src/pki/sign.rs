//! Making certificates: lifetimes, names, signatures.
//!
//! A lifetime begins on 2025-01-01, not now. Boards without a battery start in
//! 1970, or where a bad clock left off; a certificate that begins "now" is not
//! valid yet for every box whose clock is behind. `tls` takes an earlier clock
//! as 2025-01-01, so what is made here is never too young. Where this box's own
//! clock is behind 2025, the beginning is a day before what it says.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::DnsName;
use time::OffsetDateTime;

use super::folder::{Folder, Found, failed};
use super::{CA, Error, SERVER};
use crate::tls::{self, CLOCK_FLOOR};

const DAY: u64 = 24 * 60 * 60;
const AUTHORITY_LIFETIME: u64 = 20 * 365 * DAY + 5 * DAY;
/// As long as browsers and Apple's libraries accept from a private authority.
const LEAF_LIFETIME: u64 = 825 * DAY;

/// A certificate and its key, both PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) expires: SystemTime,
}

/// Which side of a connection a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    pub(super) server: bool,
    pub(super) client: bool,
}

impl Purpose {
    pub(super) const SERVER: Self = Self { server: true, client: false };
    pub(super) const CLIENT: Self = Self { server: false, client: true };
}

/// An authority that can sign.
pub(super) struct Authority {
    dir: std::path::PathBuf,
    certificate: tls::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads `ca.pem` and `ca.key`.
    pub(super) fn load(folder: &Folder) -> Result<Self, Error> {
        let dir = folder.path().to_owned();
        let (cert, key) = (folder.cert(CA), folder.key(CA));
        match folder.find(CA) {
            Found::Whole => {}
            Found::OnlyCert => return Err(Error::NoAuthorityKey { path: key }),
            Found::OnlyKey => return Err(folder.half(CA)),
            Found::Nothing => return Err(Error::NoAuthority { dir }),
        }
        match tls::check_pair(&cert, &key) {
            Err(tls::Error::KeyMismatch { .. }) => {
                let reason = "ca.key does not belong to ca.pem".to_owned();
                return Err(Error::Authority { dir, reason });
            }
            other => other?,
        }
        let certificate = tls::Certificate::read(&cert)?;
        let cannot = |e: rcgen::Error| Error::Authority { dir: dir.clone(), reason: e.to_string() };
        let text = std::fs::read_to_string(&key).map_err(failed("read", &key))?;
        let private = KeyPair::from_pem(&text).map_err(cannot)?;
        let text = std::fs::read_to_string(&cert).map_err(failed("read", &cert))?;
        let issuer = Issuer::from_ca_cert_pem(&text, private).map_err(cannot)?;
        Ok(Self { dir, certificate, issuer })
    }

    pub(super) fn expires(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// Whether it signed `other`, going by the name of the signer. Ours carry
    /// their key in their name, so this does not confuse two of them.
    pub(super) fn signed(&self, other: &tls::Certificate) -> bool {
        other.issuer == self.certificate.subject
    }

    /// Makes a new key and signs a certificate for it.
    pub(super) fn sign(
        &self,
        names: &[String],
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Pair, Error> {
        let end = self.expires();
        if !clock_unset(now) && end <= now {
            return Err(Error::AuthorityExpired { dir: self.dir.clone(), since: end });
        }
        // Made with a clock that is not set, 825 days may be over on the day
        // that the clock is set: then it lasts as long as its authority.
        let end = seconds(end);
        let lasts = if clock_unset(now) { end } else { end.min(seconds(now) + LEAF_LIFETIME) };

        let mut params = params(now, lasts)?;
        let title = if purpose.server { SERVER } else { names.first().map_or("", String::as_str) };
        params.distinguished_name.push(DnType::CommonName, title);
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if purpose.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if purpose.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { cert, key: key.serialize_pem(), expires: moment(lasts) })
    }
}

/// A new authority: it signs leaves and no further authorities.
pub(super) fn new_authority(now: SystemTime) -> Result<Pair, Error> {
    let lasts = seconds(now).max(CLOCK_FLOOR) + AUTHORITY_LIFETIME;
    let key = KeyPair::generate()?;
    let mut params = params(now, lasts)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A data centre trusts many plants at once; a name of its own for each, and
    // for each successor, keeps them apart in every trust store.
    let id = params.key_identifier(&key).first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
    let host = host_name().filter(|host| host.len() <= 30);
    let host = host.map_or_else(String::new, |host| format!(" of {host}"));
    params.distinguished_name.push(DnType::CommonName, format!("ngsi-ferry CA {id:08x}{host}"));
    let cert = params.self_signed(&key)?.pem();
    Ok(Pair { cert, key: key.serialize_pem(), expires: moment(lasts) })
}

fn params(now: SystemTime, lasts: u64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Never before 1970 either: webpki refuses such dates.
    params.not_before = date_time(CLOCK_FLOOR.min(seconds(now).saturating_sub(DAY)))?;
    params.not_after = date_time(lasts)?;
    Ok(params)
}

/// Whether a clock says a time that cannot be.
pub(super) fn clock_unset(now: SystemTime) -> bool {
    seconds(now) < CLOCK_FLOOR
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn moment(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn date_time(seconds: u64) -> Result<OffsetDateTime, Error> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(Error::Sign(rcgen::Error::Time))
}

/// All names of a server, in lower case, each once.
pub(super) fn server_names(more: &[String]) -> Result<Vec<String>, Error> {
    let always = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    // The host's name may be anything ("(none)"): that is no reason to fail.
    let host = host_name().filter(|host| alternative_name(host).is_ok());
    let mut names: Vec<String> = Vec::new();
    for name in always.into_iter().chain(host).chain(more.iter().cloned()) {
        let name = match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.to_ascii_lowercase(),
        };
        alternative_name(&name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The host's own name, where it has one that is text.
pub fn host_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

fn alternative_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let why = "it must be a DNS name (edge1.plant.example) or an address (192.168.1.10, fe80::1), \
               without scheme, port or brackets";
    let plain = name.strip_prefix("*.").unwrap_or(name);
    match DnsName::try_from(plain) {
        Ok(_) if !plain.ends_with('.') => Ok(SanType::DnsName(name.try_into()?)),
        _ => Err(Error::Name { name: name.to_owned(), why }),
    }
}

/// Checks that a client may be called that.
pub(super) fn client_name(name: &str) -> Result<(), Error> {
    let wrong = |why| Err(Error::Name { name: name.to_owned(), why });
    if name == CA || name == SERVER {
        return wrong("this one is for the gateway itself");
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let sound = name.len() <= 64
        && name.chars().all(allowed)
        && name.split('.').all(label)
        // Refuses what looks like an address, too.
        && DnsName::try_from(name).is_ok();
    if !sound {
        return wrong(
            "a client's name is a DNS name: words of a-z, 0-9 and inner hyphens, joined by dots, \
             64 characters at most, not an address (spark-1, line3.plant1)",
        );
    }
    Ok(())
}
