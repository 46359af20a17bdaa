//! The volatile file system, mounted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fuser::{BackgroundSession, MountOption};

use super::fuse::Volatile;
use super::image::Image;
use super::machine::Machine;

/// Begins the name that a mount is listed under; the process follows.
const NAME: &str = "ngsi-ferry-volatile-";

/// Unmounted when dropped, whoever still uses it.
pub struct Volume {
    path: PathBuf,
    machine: Machine,
    session: Option<BackgroundSession>,
}

impl Volume {
    /// Mounts an empty one of that many bytes.
    ///
    /// # Errors
    /// Why it cannot be mounted here: then its tests say so and are skipped.
    pub fn mount(path: &Path, capacity: u64, seed: u64) -> Result<Self, String> {
        unmount_abandoned();
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let machine = Machine::new(Image::new(capacity, seed));
        let mut config = fuser::Config::default();
        let name = MountOption::FSName(format!("{NAME}{}", std::process::id()));
        config.mount_options = vec![name, MountOption::NoAtime];
        let mounted = fuser::spawn_mount(Volatile(machine.clone()), path, &config);
        let session = mounted.map_err(|error| format!("/dev/fuse cannot be mounted: {error}"))?;
        Ok(Self { path: path.to_owned(), machine, session: Some(session) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Nothing may wait for an answer any more.
        self.machine.power_off();
        unmount(&self.path);
        drop(self.session.take());
    }
}

/// Detached at once; it is gone when the last process lets go of it.
fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).stderr(Stdio::null()).status();
}

/// A test process that was killed could not unmount.
fn unmount_abandoned() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(name), Some(path)) = (fields.next(), fields.next()) else { continue };
        let process = name.strip_prefix(NAME);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            unmount(Path::new(path));
        }
    }
}
