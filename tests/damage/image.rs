//! A folder with all that is in it, in memory, to be had back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::files;

/// A folder as it was at a moment when nobody wrote to it.
#[derive(Clone)]
pub struct Image {
    folder: PathBuf,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    folders: Vec<PathBuf>,
}

impl Image {
    pub fn of(folder: &Path) -> Self {
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        };
        Self {
            folder: folder.to_owned(),
            files: files(folder).into_iter().map(read).collect(),
            folders: folders(folder),
        }
    }

    /// Everything as it was; what is right already is not written again, and
    /// a file that is there stays the same file.
    pub fn restore(&self) {
        remove_others(&self.folder, &|path| {
            self.files.contains_key(path) && path.is_file()
                || self.folders.iter().any(|known| known == path) && path.is_dir()
        });
        for folder in &self.folders {
            fs::create_dir_all(folder).unwrap();
        }
        for (path, bytes) in &self.files {
            if fs::read(path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(folders(&entry.path()));
        }
    }
    found
}

fn remove_others(folder: &Path, stays: &impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match (stays(&path), entry.file_type().unwrap().is_dir()) {
            (true, true) => remove_others(&path, stays),
            (true, false) => {}
            (false, true) => fs::remove_dir_all(path).unwrap(),
            (false, false) => fs::remove_file(path).unwrap(),
        }
    }
}
