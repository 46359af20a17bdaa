//! Further names for the server's certificate, under an authority that is there
//! already: the first start has made one before anybody knew the names.

use std::path::Path;
use std::time::SystemTime;

use super::folder::Folder;
use super::sign::{self, Authority, Purpose};
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
    let wanted = sign::server_names(names)?;
    let folder = Folder::open(dir)?;
    let authority = Authority::load(&folder)?;
    let cert = folder.cert(SERVER);
    let other = |_| Error::AuthorityExists { dir: dir.to_owned() };
    let old = tls::Certificate::read(&cert).map_err(other)?;
    if !authority.signed(&old) {
        return Err(Error::AuthorityExists { dir: dir.to_owned() });
    }
    let mut all = old.names;
    let before = all.len();
    for name in wanted {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if all.len() == before {
        return Ok(None);
    }
    let pair = authority.sign(&all, Purpose::SERVER, SystemTime::now())?;
    folder.put(SERVER, &pair)?;
    Ok(Some(Renewed { cert, names: all, expires: pair.expires }))
}
