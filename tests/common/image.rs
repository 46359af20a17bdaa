//! A file system of its own in a file, on a loop device. Needs root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    mount: PathBuf,
}

impl Image {
    /// Makes an ext4 of `len` bytes in `file` and mounts it at `mount`, which
    /// is made. An error says why this machine cannot do that.
    pub fn make(file: &Path, len: u64, mount: &Path) -> Result<Self, String> {
        let made = File::create(file).and_then(|file| file.set_len(len));
        made.map_err(|error| format!("{}: {error}", file.display()))?;
        // Nothing of it is left to be made later.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-E", "lazy_itable_init=0"])
            .arg(file))?;
        Self::mount(file, mount)
    }

    /// Mounts what is in `file`, as after a power cut.
    pub fn mount(file: &Path, mount: &Path) -> Result<Self, String> {
        fs::create_dir_all(mount).map_err(|error| format!("{}: {error}", mount.display()))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(file).arg(mount))?;
        Ok(Self { file: file.to_owned(), mount: mount.to_owned() })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn mounted_at(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily: a process that was killed may not be gone yet.
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.mount)) {
            eprintln!("{error}");
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
