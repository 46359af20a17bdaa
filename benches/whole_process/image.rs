//! A file system of its own for one server, on a loop device: what reaches the
//! device is counted there, the journal and all other metadata included, which
//! `/proc/PID/io` does not see.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use tempfile::TempDir;

const LEN: u64 = 3 << 30;
/// The kernel's unit, whatever the device's is.
const SECTOR_LEN: u64 = 512;

/// Mounted until it is dropped. Needs root.
pub struct Image {
    folder: TempDir,
    device: String,
}

impl Image {
    pub fn new() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("image-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (file, mount) = (folder.path().join("image"), folder.path().join("mount"));
        File::create(&file)?.set_len(LEN)?;
        fs::create_dir(&mount)?;
        // Nothing of it is left to be made while it is measured.
        run(Command::new("mkfs.ext4").args(["-q", "-E", "lazy_itable_init=0"]).arg(&file))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&mount))?;
        let mut image = Self { folder, device: String::new() };
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let place = image.mount();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == place.to_str());
        let device = line.and_then(|line| line.split(' ').next()).context("the mount is gone")?;
        image.device = device.trim_start_matches("/dev/").to_owned();
        Ok(image)
    }

    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    pub fn counter(&self) -> Counter {
        Counter { mount: self.mount(), stat: format!("/sys/block/{}/stat", self.device).into() }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.mount())) {
            eprintln!("{error:#}");
        }
    }
}

/// Counts what was written to the device of an image.
#[derive(Clone)]
pub struct Counter {
    mount: PathBuf,
    stat: PathBuf,
}

impl Counter {
    /// Bytes written so far, with all that the file system still holds back.
    pub fn read(&self) -> anyhow::Result<u64> {
        sync(&self.mount)?;
        let stat = fs::read_to_string(&self.stat)?;
        let sectors = stat.split_whitespace().nth(6).context("no sectors in the device's stat")?;
        Ok(sectors.parse::<u64>()? * SECTOR_LEN)
    }
}

fn sync(mount: &Path) -> anyhow::Result<()> {
    Ok(rustix::fs::syncfs(File::open(mount)?)?)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
