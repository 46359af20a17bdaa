//! Health that comes from progress: what `/ready` and systemd are told, and
//! the end of a process that stands still.

mod common;

#[path = "health/disk_that_hangs.rs"]
mod disk_that_hangs;
#[path = "health/manager.rs"]
mod manager;
#[path = "health/systemd.rs"]
mod systemd;
