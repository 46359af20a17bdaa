//! Reading PEM files, and saying what is in them when it is the wrong thing.

use std::path::Path;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

/// All certificates in a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let what = "certificate";
    let file = File::read(what, path)?;
    let found: Vec<_> = file
        .sections
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der.clone()))
        .collect();
    if found.is_empty() { Err(file.missing(what, path)) } else { Ok(found) }
}

/// The first private key in a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let what = "private key";
    let file = File::read(what, path)?;
    file.sections
        .iter()
        .find_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()))
        .ok_or_else(|| file.missing(what, path))
}

struct File {
    sections: Vec<(SectionKind, Vec<u8>)>,
    bytes: Vec<u8>,
}

impl File {
    fn read(what: &'static str, path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read {
            what,
            path: path.to_owned(),
            source,
        })?;
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Pem { what, path: path.to_owned(), source })?;
        Ok(Self { sections, bytes })
    }

    fn missing(&self, what: &'static str, path: &Path) -> Error {
        let holds = |text: &str| self.bytes.windows(text.len()).any(|w| w == text.as_bytes());
        let found = match self.sections.first() {
            Some((SectionKind::Certificate, _)) => {
                "it is a certificate; are the two files exchanged?".to_owned()
            }
            Some((kind, der)) if PrivateKeyDer::from_pem(*kind, der.clone()).is_some() => {
                "it is a private key; are the two files exchanged?".to_owned()
            }
            Some((kind, _)) => format!("it is something else ({kind:?})"),
            None if self.bytes.is_empty() => "it is empty; make it again".to_owned(),
            None if holds("ENCRYPTED PRIVATE KEY") => {
                "the key in it is encrypted; decrypt it with `openssl pkey -in … -out …`".to_owned()
            }
            None => "it is not PEM (text between -----BEGIN … and -----END …); \
                     `openssl x509 -inform der` or `openssl pkey -inform der` converts DER"
                .to_owned(),
        };
        Error::Missing { what, path: path.to_owned(), found }
    }
}
