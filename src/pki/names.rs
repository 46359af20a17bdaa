//! Names that may stand in a certificate.

use std::net::IpAddr;

use rcgen::SanType;
use rustls::pki_types::DnsName;

use super::{CA, Error, SERVER};

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

pub(super) fn alternative_name(name: &str) -> Result<SanType, Error> {
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
