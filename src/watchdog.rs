//! The watchdog: a plain thread, for the runtime may be what stands still. It
//! looks whether everyone who has work gets on, tells systemd so, and ends the
//! process where somebody never will.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tracing::{error, info, warn};

use crate::health::{BEAT, Busy, Health, Judge, Standstill};
use crate::systemd;

/// How long the end of the process may itself take before it is forced.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub struct Watchdog {
    _until: SyncSender<()>,
}

impl Watchdog {
    /// Starts watching. `look` says who has something to do, and must not
    /// wait for any of them. What listens at an address of `held` is the
    /// service manager's too, and stays open at the end.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        health: Health,
        held: Vec<SocketAddr>,
        look: impl Fn() -> Vec<Busy> + Send + 'static,
    ) -> io::Result<Self> {
        let (until, dropped) = sync_channel(0);
        let tells = systemd::watchdog_interval();
        let interval = tells.map_or(BEAT, |tells| tells.min(BEAT));
        let watch = move || {
            let mut watch = Watch { judge: Judge::default(), health, held, tells, told: None };
            let mut last = Instant::now();
            watch.look(look(), Duration::ZERO);
            while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(interval) {
                let elapsed = last.elapsed();
                last += elapsed;
                watch.look(look(), elapsed);
            }
        };
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self { _until: until })
    }
}

struct Watch {
    judge: Judge,
    health: Health,
    held: Vec<SocketAddr>,
    /// How often systemd is to be told that all is well.
    tells: Option<Duration>,
    told: Option<Instant>,
}

impl Watch {
    fn look(&mut self, busy: Vec<Busy>, elapsed: Duration) {
        let standing = self.judge.look(busy, elapsed);
        if let Some(last) = standing.iter().find(|standing| standing.is_final()) {
            end(last, &self.held);
        }
        self.say(&standing);
        let well = standing.is_empty();
        self.health.set(standing);
        let due = self.tells.is_some_and(|tells| {
            // The looks are not exactly as far apart as they should be.
            self.told.is_none_or(|told| told.elapsed() >= tells.mul_f32(0.9))
        });
        if well && due {
            systemd::well();
            self.told = Some(Instant::now());
        }
    }

    /// Tells of what changed, once.
    fn say(&self, standing: &[Standstill]) {
        let before = self.health.standstills();
        for new in standing.iter().filter(|new| before.iter().all(|old| old.part != new.part)) {
            let (part, seconds) = (&new.part, new.lasts.as_secs());
            warn!(part, seconds, "has work and does not get on; the disk may hang");
            systemd::status(&new.to_string());
        }
        if standing.is_empty() && !before.is_empty() {
            info!("everything gets on again");
            systemd::status("ready");
        }
    }
}

/// Ends the process whatever its other threads do.
fn end(standing: &Standstill, held: &[SocketAddr]) -> ! {
    // The lines below may wait for a lock that one of them holds.
    let forced = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(LAST_WORDS);
        std::process::abort()
    });
    if forced.is_err() {
        std::process::abort();
    }
    let (part, seconds) = (&standing.part, standing.lasts.as_secs());
    error!(
        part,
        seconds,
        "stands still; the process ends to be started anew. What was acknowledged is on the disk. Look at the disk (dmesg, free space, a hanging mount); where its syncs take this long, raise store.stuck_after"
    );
    systemd::status(&standing.to_string());
    if let Err(error) = shut_sockets(held) {
        warn!(%error, "connections stay open until the last thread has ended");
    }
    std::process::exit(1)
}

/// Shuts every socket that others connect to, or are connected to. A thread in
/// the hands of a disk that hangs cannot even be killed, and keeps all files of
/// the process open: it would go on listening, and whoever connects would wait
/// for nothing.
fn shut_sockets(held: &[SocketAddr]) -> io::Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number: &i32| *number > 2) else { continue };
        // One that is closed meanwhile, or is no socket, needs nothing.
        if let Ok(file) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty())
            && is_of_others(&file)
            && !is_held(&file, held)
        {
            let _ = rustix::net::shutdown(&file, Shutdown::Both);
        }
    }
    Ok(())
}

/// Not the runtime's own pairs of sockets: it panics where one of them ends.
fn is_of_others(file: &OwnedFd) -> bool {
    let Ok(address) = rustix::net::getsockname(file) else { return false };
    match address.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => true,
        _ => SocketAddrUnix::try_from(address).is_ok_and(|unix| unix.path().is_some()),
    }
}

/// What systemd holds would be shut for the next gateway as well; so whoever
/// connects waits for that one.
fn is_held(file: &OwnedFd, held: &[SocketAddr]) -> bool {
    let address = rustix::net::getsockname(file).ok();
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    rustix::net::sockopt::socket_acceptconn(file).unwrap_or(false)
        && address.is_some_and(|address| held.contains(&address))
}
