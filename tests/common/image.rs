//! A file system of its own in a file, on a loop device. Needs root.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// How often a copy is begun again because something was written meanwhile:
/// a journal that commits every few seconds hits few of them.
const COPIES: usize = 50;

/// What can be made in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    F2fs,
}

impl FileSystem {
    const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::F2fs];

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::F2fs => "f2fs",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes: as little as it can be made in, so that it is soon copied.
    pub fn small(self) -> u64 {
        match self {
            Self::Ext4 | Self::F2fs => 256 * MIB,
            Self::Xfs => 320 * MIB,
            Self::Btrfs => 512 * MIB,
        }
    }

    /// What makes one in a file, without asking, and with nothing left to be
    /// made later.
    fn mkfs(self) -> Command {
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext4 => command.args(["-q", "-m", "0", "-E", "lazy_itable_init=0"]),
            Self::Xfs | Self::Btrfs | Self::F2fs => command.args(["-q", "-f"]),
        };
        command
    }

    fn is_known_to_the_kernel(self) -> bool {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.split_whitespace().any(|word| word == self.name())
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
        Self::make_as(FileSystem::Ext4, file, len, mount)
    }

    /// As [`Image::make`], of any kind.
    pub fn make_as(kind: FileSystem, file: &Path, len: u64, mount: &Path) -> Result<Self, String> {
        if !kind.is_known_to_the_kernel() {
            return Err(format!("this kernel has no {kind}"));
        }
        let made = File::create(file).and_then(|file| file.set_len(len));
        made.map_err(|error| format!("{}: {error}", file.display()))?;
        run(kind.mkfs().arg(file))?;
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

    /// What the disk holds at one moment, for [`Image::lose_power`]: nothing
    /// is synced for it, so what the file system has only in memory is not in
    /// it. Those who write to it must be frozen.
    pub fn snapshot(&self) -> Result<Snapshot, String> {
        let copy = self.file.with_extension("copy");
        for _ in 0..COPIES {
            let before = self.writes()?;
            run(Command::new("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .arg(&self.file)
                .arg(&copy))?;
            // The file system's own threads are not frozen: a copy that was
            // made while one of them wrote is of no moment that ever was.
            if before.under_way == 0 && self.writes()? == before {
                return Ok(Snapshot(copy));
            }
        }
        Err(format!("{} is written to all the time", self.file.display()))
    }

    /// Throws away what is mounted, and mounts the snapshot in its place.
    /// Nobody may use it any more.
    pub fn lose_power(self, Snapshot(copy): Snapshot) -> Result<Self, String> {
        let (file, mount) = (self.file.clone(), self.mount.clone());
        self.unmount()?;
        fs::rename(&copy, &file).map_err(|error| format!("{}: {error}", copy.display()))?;
        Self::mount(&file, &mount)
    }

    /// Unmounts it for good: two of the same identity cannot be mounted.
    fn unmount(self) -> Result<(), String> {
        let mut tried = run(Command::new("umount").arg(&self.mount));
        // The kernel lets go of a killed process's files in its own time.
        for _ in 0..200 {
            if tried.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
            tried = run(Command::new("umount").arg(&self.mount));
        }
        tried?;
        // btrfs remembers which it saw, and takes none for an older one of them.
        if FileSystem::Btrfs.is_known_to_the_kernel() {
            let _ = Command::new("btrfs").args(["-q", "device", "scan", "--forget"]).status();
        }
        // There is nothing left to unmount.
        std::mem::forget(self);
        Ok(())
    }

    /// What was written to the loop device, by the kernel's count.
    fn writes(&self) -> Result<Writes, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let device = mounts.lines().rev().find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            (Path::new(rest.split(' ').next()?) == self.mount).then_some(device)
        });
        let name = device.and_then(|device| device.strip_prefix("/dev/"));
        let name = name.ok_or_else(|| format!("{} is not mounted", self.mount.display()))?;
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat"));
        let stat = stat.map_err(|error| format!("{name}: {error}"))?;
        let counts: Vec<u64> = stat.split_whitespace().flat_map(str::parse).collect();
        match counts[..] {
            [_, _, _, _, done, _, _, _, under_way, ..] => Ok(Writes { done, under_way }),
            _ => Err(format!("{name}: {stat}")),
        }
    }
}

/// A disk as it was when the power went.
#[derive(Debug)]
pub struct Snapshot(PathBuf);

#[derive(PartialEq, Eq)]
struct Writes {
    done: u64,
    under_way: u64,
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
