//! Keeps glibc's allocator from holding on to memory that was given back.
//!
//! Its defaults are for programs that own a large machine: an arena for each
//! thread, and a threshold above which memory goes back to the system that
//! rises with use. Measured with 200 MB of records built up and read once:
//! 96 MiB resident, against 27 with these settings and the same rates.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Starts this very program anew with the settings in its environment, the
/// one place where glibc reads them; as the same process, so that whoever
/// started it notices nothing. Returns where they are set already, by us or by
/// somebody who chose others, or where it cannot be done: all works without.
pub fn apply() {
    if SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Only returns where it failed.
    let _ = again.args(arguments).envs(SETTINGS).exec();
}
