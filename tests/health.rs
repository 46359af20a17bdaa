//! Health that comes from progress: what `/ready` and systemd are told, and
//! the end of a process that stands still.

mod common;

#[path = "health/disk_that_hangs.rs"]
mod disk_that_hangs;
#[path = "health/held_socket.rs"]
mod held_socket;
#[path = "health/manager.rs"]
mod manager;
#[path = "health/socket_activation.rs"]
mod socket_activation;
#[path = "health/systemd.rs"]
mod systemd;
