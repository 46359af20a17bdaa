//! Pairs of files that a crash leaves whole.
//!
//! A pair is staged as `.NAME.key.part` and `.NAME.pem.part`, both synced; then
//! the key takes its name, and then the certificate. So after a crash a staged
//! certificate without a staged key means that the key went ahead: the
//! certificate follows. Anything else that is staged never counted, and goes.
//!
//! A certificate for the same key is staged alone, and takes its name in one
//! step: whoever reads the two files at any moment has two that fit.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown,
};
use std::path::{Path, PathBuf};

use super::Error;
use super::sign::Pair;
use crate::tls;

/// A folder of pairs, locked against other processes of ours.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
}

/// What there is of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Whole,
    OnlyCert,
    OnlyKey,
}

impl Folder {
    /// Makes the folder if there is none.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed("make the folder", path))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            give_to_owner_of(parent, path).map_err(failed("give away the folder", path))?;
            sync_folder(parent)?;
        }
        Self::open(path)
    }

    /// Waits for the lock, and clears up what a crash has left.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let handle = File::open(path).map_err(failed("open the folder", path))?;
        match handle.lock() {
            // A few network file systems have no locks; then there is none.
            Err(e) if e.kind() != ErrorKind::Unsupported => {
                return Err(failed("lock the folder", path)(e));
            }
            _ => {}
        }
        let folder = Self { path: path.to_owned(), handle };
        folder.settle()?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cert(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.pem"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.key"))
    }

    fn staged_cert(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.pem.part"))
    }

    fn staged_key(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.key.part"))
    }

    pub(super) fn find(&self, name: &str) -> Found {
        match (self.cert(name).exists(), self.key(name).exists()) {
            (true, true) => Found::Whole,
            (true, false) => Found::OnlyCert,
            (false, true) => Found::OnlyKey,
            (false, false) => Found::Nothing,
        }
    }

    pub(super) fn half(&self, name: &str) -> Error {
        let (cert, key) = (self.cert(name), self.key(name));
        if cert.exists() {
            Error::Half { there: cert, missing: key }
        } else {
            Error::Half { there: key, missing: cert }
        }
    }

    /// The names of all certificates, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = self
            .entries()?
            .iter()
            .filter(|entry| !entry.starts_with('.'))
            .filter_map(|entry| entry.strip_suffix(".pem").map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Writes a pair durably, over an older one if there is one.
    pub(super) fn put(&self, name: &str, pair: &Pair) -> Result<(), Error> {
        self.stage(&self.staged_key(name), &self.key(name), &pair.key, |old| {
            // A group that could read the old key, can read the new one.
            0o600 | (old.unwrap_or(0) & 0o040)
        })?;
        self.stage(&self.staged_cert(name), &self.cert(name), &pair.cert, |_| 0o644)?;
        self.sync()?;
        self.rename(&self.staged_key(name), &self.key(name))?;
        self.rename(&self.staged_cert(name), &self.cert(name))
    }

    /// Writes a certificate durably over one of the same key, in one step.
    pub(super) fn put_cert(&self, name: &str, cert: &str) -> Result<(), Error> {
        self.stage(&self.staged_cert(name), &self.cert(name), cert, |_| 0o644)?;
        self.sync()?;
        self.rename(&self.staged_cert(name), &self.cert(name))
    }

    fn stage(
        &self,
        staged: &Path,
        target: &Path,
        content: &str,
        mode: impl Fn(Option<u32>) -> u32,
    ) -> Result<(), Error> {
        remove(staged)?;
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
            let old = fs::metadata(target).ok();
            // Root works here for the user that the gateway runs as.
            let owner =
                old.as_ref().map_or_else(|| self.handle.metadata(), |old| Ok(old.clone()))?;
            let own = file.metadata()?;
            if own.uid() == 0 && (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            let mode = mode(old.map(|old| old.mode()));
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        write().map_err(failed("write", target))
    }

    fn settle(&self) -> Result<(), Error> {
        for entry in self.entries()? {
            let Some(staged) = entry.strip_prefix('.').and_then(|e| e.strip_suffix(".part")) else {
                continue;
            };
            if let Some(name) = staged.strip_suffix(".pem") {
                let went_ahead = !self.staged_key(name).exists()
                    && tls::check_pair(&self.staged_cert(name), &self.key(name)).is_ok();
                if went_ahead {
                    self.rename(&self.staged_cert(name), &self.cert(name))?;
                } else {
                    // The certificate goes first: alone it would mean that its key went ahead.
                    remove(&self.staged_cert(name))?;
                    remove(&self.staged_key(name))?;
                }
            } else if let Some(name) = staged.strip_suffix(".key")
                && !self.staged_cert(name).exists()
            {
                remove(&self.staged_key(name))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<String>, Error> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                // Names that are not UTF-8 are not ours.
                names.extend(entry?.file_name().into_string().ok());
            }
            Ok(names)
        };
        list().map_err(failed("list the folder", &self.path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        fs::rename(from, to).map_err(failed("replace", to))?;
        // Each step on its own: not every file system keeps two renames in order.
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        self.handle.sync_all().map_err(failed("sync the folder", &self.path))
    }
}

/// Root works here for the user that the gateway runs as.
fn give_to_owner_of(parent: &Path, folder: &Path) -> io::Result<()> {
    let (parent, own) = (fs::metadata(parent)?, fs::metadata(folder)?);
    if own.uid() == 0 && (parent.uid(), parent.gid()) != (own.uid(), own.gid()) {
        chown(folder, Some(parent.uid()), Some(parent.gid()))?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}
