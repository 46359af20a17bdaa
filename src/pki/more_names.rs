//! Further names for the server's certificate, under an authority that is there
//! already: the first start has made one before anybody knew the names.

use std::path::Path;
use std::time::SystemTime;

use super::folder::Folder;
use super::names::server_names;
use super::sign::Authority;
use super::{Error, Renewed, SERVER};
use crate::tls;

/// Makes the server's certificate in `dir` anew, under `names` too. Clients'
/// certificates stay as they are. `None` where it holds them all already.
///
/// # Errors
/// [`Error::Name`] for a name that is none, [`Error::AuthorityExists`] where
/// the certificate is another authority's, what is wrong with the authority, and
/// what the disk says.
pub fn add_names(dir: &Path, names: &[String]) -> Result<Option<Renewed>, Error> {
    let wanted = server_names(names)?;
    let folder = Folder::open(dir)?;
    let authority = Authority::load(&folder)?;
    let cert = folder.cert(SERVER);
    let other = |_| Error::AuthorityExists { dir: dir.to_owned() };
    let mut server = tls::Certificate::read(&cert).map_err(other)?;
    if !authority.signed(&server) {
        return Err(Error::AuthorityExists { dir: dir.to_owned() });
    }
    let before = server.names.len();
    for name in wanted {
        if !server.names.contains(&name) {
            server.names.push(name);
        }
    }
    if server.names.len() == before {
        return Ok(None);
    }
    let signed = authority.sign_again(&server, SystemTime::now())?;
    folder.put_cert(SERVER, &signed.cert)?;
    let names = server.names;
    Ok(Some(Renewed { cert, names, expires: signed.expires, new_key: false }))
}
