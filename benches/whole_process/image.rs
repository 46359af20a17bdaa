//! A file system of its own for one server, on a loop device: what reaches the
//! device is counted there, the journal and all other metadata included, which
//! `/proc/PID/io` does not see.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context;
use tempfile::TempDir;

use crate::loop_device;

const LEN: u64 = 3 << 30;
/// The kernel's unit, whatever the device's is.
const SECTOR_LEN: u64 = 512;

/// Mounted until it is dropped. Needs root.
pub struct Image {
    device: String,
    mounted: loop_device::Image,
    _folder: TempDir,
}

impl Image {
    pub fn new() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("image-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (file, mount) = (folder.path().join("image"), folder.path().join("mount"));
        let mounted = loop_device::Image::make(&file, LEN, &mount).map_err(anyhow::Error::msg)?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == mount.to_str());
        let device = line.and_then(|line| line.split(' ').next()).context("the mount is gone")?;
        let device = device.trim_start_matches("/dev/").to_owned();
        Ok(Self { device, mounted, _folder: folder })
    }

    pub fn mount(&self) -> PathBuf {
        self.mounted.mounted_at().to_owned()
    }

    pub fn counter(&self) -> Counter {
        Counter { mount: self.mount(), stat: format!("/sys/block/{}/stat", self.device).into() }
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
        rustix::fs::syncfs(File::open(&self.mount)?)?;
        let stat = fs::read_to_string(&self.stat)?;
        let sectors = stat.split_whitespace().nth(6).context("no sectors in the device's stat")?;
        Ok(sectors.parse::<u64>()? * SECTOR_LEN)
    }
}
