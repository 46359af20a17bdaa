//! Making certificates: lifetimes, names, signatures.
//!
//! A lifetime begins on 2025-01-01, not now. Boards without a battery start in
//! 1970, or where a bad clock left off; a certificate that begins "now" is not
//! valid yet for every box whose clock is behind. `tls` takes an earlier clock
//! as 2025-01-01, so what is made here is never too young. Where this box's own
//! clock is behind 2025, the beginning is a day before what it says.
//!
//! Renewed with its key, an authority is the same one to whoever trusts it: a
//! chain is built by the authority's name and key, and both stay.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;

use super::folder::{Folder, Found, failed};
use super::names::{alternative_name, host_name};
use super::{CA, Error, SERVER};
use crate::tls::{self, BEGINNING, FLOOR, is_unset, seconds};

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

/// A certificate for a key that there is already, PEM.
pub(super) struct Signed {
    pub(super) cert: String,
    pub(super) expires: SystemTime,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) names: &'a [String],
    pub(super) purpose: Purpose,
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
    pub(super) fn sign(&self, subject: Subject<'_>, now: SystemTime) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let Signed { cert, expires } = self.certify(&key, subject, now)?;
        Ok(Pair { cert, key: key.serialize_pem(), expires })
    }

    /// Signs a certificate for the key of an older one. The private key is not
    /// needed for it, wherever that is.
    pub(super) fn sign_again(
        &self,
        old: &tls::Certificate,
        now: SystemTime,
    ) -> Result<Signed, Error> {
        let key = SubjectPublicKeyInfo::from_der(&old.public_key)?;
        let purpose = Purpose { server: old.for_servers, client: old.for_clients };
        self.certify(&key, Subject { names: &old.names, purpose }, now)
    }

    /// When a certificate would end that is signed now.
    pub(super) fn lasts(&self, now: SystemTime) -> SystemTime {
        // Made with a clock that is not set, 825 days may be over on the day
        // that the clock is set: then it lasts as long as its authority.
        let end = seconds(self.expires());
        moment(if is_unset(now) { end } else { end.min(seconds(now) + LEAF_LIFETIME) })
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        subject: Subject<'_>,
        now: SystemTime,
    ) -> Result<Signed, Error> {
        let end = self.expires();
        if !is_unset(now) && end <= now {
            return Err(Error::AuthorityExpired { dir: self.dir.clone(), since: end });
        }
        let Subject { names, purpose } = subject;
        let expires = self.lasts(now);
        let mut params = params(now, seconds(expires))?;
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
        Ok(Signed { cert: params.signed_by(key, &self.issuer)?.pem(), expires })
    }

    /// The same authority for a new lifetime: same name, same key. What it has
    /// signed stays valid, and so does what trusts it.
    pub(super) fn renewed(&self, now: SystemTime) -> Result<Signed, Error> {
        let foreign = || Error::Foreign { dir: self.dir.clone() };
        let name = self.certificate.common_name.clone().ok_or_else(foreign)?;
        let signed = certify_authority(self.issuer.key(), name, now)?;
        let der = pem_contents(&signed.cert);
        let new = der.and_then(|der| tls::Certificate::parse(&der).ok()).ok_or_else(foreign)?;
        // One that was made elsewhere may have a longer name than ours have.
        let same = new.subject == self.certificate.subject
            && new.public_key == self.certificate.public_key
            && self.certificate.issuer == self.certificate.subject;
        if same { Ok(signed) } else { Err(foreign()) }
    }
}

fn pem_contents(pem: &str) -> Option<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

/// A new authority: it signs leaves and no further authorities.
pub(super) fn new_authority(now: SystemTime) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    // A data centre trusts many plants at once; a name of its own for each, and
    // for each successor, keeps them apart in every trust store.
    let id = CertificateParams::default().key_identifier(&key);
    let id = id.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
    let host = host_name().filter(|host| host.len() <= 30);
    let host = host.map_or_else(String::new, |host| format!(" of {host}"));
    let signed = certify_authority(&key, format!("ngsi-ferry CA {id:08x}{host}"), now)?;
    Ok(Pair { cert: signed.cert, key: key.serialize_pem(), expires: signed.expires })
}

fn certify_authority(key: &KeyPair, name: String, now: SystemTime) -> Result<Signed, Error> {
    let lasts = seconds(now).max(FLOOR) + AUTHORITY_LIFETIME;
    let mut params = params(now, lasts)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(Signed { cert: params.self_signed(key)?.pem(), expires: moment(lasts) })
}

fn params(now: SystemTime, lasts: u64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Never before 1970 either: webpki refuses such dates.
    params.not_before = date_time(BEGINNING.min(seconds(now).saturating_sub(DAY)))?;
    params.not_after = date_time(lasts)?;
    Ok(params)
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
