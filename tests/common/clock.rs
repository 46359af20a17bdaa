//! A wall clock that a test sets.

use std::path::PathBuf;

use tokio::process::Command;

use super::gateway::Setup;

/// Of Debian's package `faketime`.
pub const LIBRARY: &str = "libfaketime.so.1";

/// A gateway's wall clock; the monotonic one stays true.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// `says`: an offset (`+1d`), or a time to stand still at.
    pub fn new(setup: &Setup, says: &str) -> Self {
        Self { file: setup.write("clock", says) }
    }

    /// Replaced in one step: libfaketime reads it at any time.
    pub fn jump(&self, says: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, says).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// `None` where libfaketime is not installed.
    pub fn run(&self, setup: &Setup) -> Option<Command> {
        let of_system = std::fs::read_dir("/usr/lib").ok()?.flatten();
        let mut places = of_system.map(|folder| folder.path().join("faketime").join(LIBRARY));
        let library = places.find(|place| place.is_file())?;
        let mut command = setup.command(["run"]);
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Some(command)
    }
}
