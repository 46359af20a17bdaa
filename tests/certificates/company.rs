//! The certificates of a company that makes its own, and has never heard of
//! boxes without a clock: valid from the day they were made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use time::OffsetDateTime;

/// An authority whose files lie in a folder.
pub struct Company {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Company {
    /// Makes the folder, and `ca.pem` in it.
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = params("Company CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Makes `NAME.pem` and `NAME.key`, for either side of a connection.
    pub fn sign(&self, name: &str, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name);
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Later than any date that a build may know of its source.
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(5);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}
