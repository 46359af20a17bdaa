//! A folder with all that is in it, in memory, to be had back as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

const DEADLINE: Duration = Duration::from_secs(30);

/// A folder as it was at a moment when nobody wrote to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    folder: PathBuf,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    folders: Vec<PathBuf>,
}

impl Image {
    /// Waits for such a moment: sealed segments are made ready for their
    /// readers in the background.
    pub fn of(folder: &Path) -> Self {
        let deadline = Instant::now() + DEADLINE;
        let mut before = Self::now(folder).ok();
        loop {
            let image = Self::now(folder);
            match image {
                Ok(image) if before.as_ref() == Some(&image) => return image,
                image => before = image.ok(),
            }
            assert!(Instant::now() < deadline, "{} is never at rest", folder.display());
        }
    }

    fn now(folder: &Path) -> io::Result<Self> {
        let folders = folders(folder)?;
        let mut files = BTreeMap::new();
        for inner in &folders {
            for entry in fs::read_dir(inner)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    files.insert(entry.path(), fs::read(entry.path())?);
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), files, folders })
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

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(folders(&entry.path())?);
        }
    }
    Ok(found)
}

fn remove_others(folder: &Path, stays: &impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match (stays(&path), entry.file_type().unwrap().is_dir()) {
            (true, true) => remove_others(&path, stays),
            (true, false) => {}
            (false, true) => remove_folder(&path),
            (false, false) => fs::remove_file(path).unwrap(),
        }
    }
}

/// Also one that somebody still writes a last file into.
pub fn remove_folder(path: &Path) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = fs::remove_dir_all(path) {
        let is_late = error.kind() == io::ErrorKind::DirectoryNotEmpty;
        assert!(is_late && Instant::now() < deadline, "{}: {error}", path.display());
    }
}
