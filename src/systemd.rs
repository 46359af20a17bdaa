//! What systemd is told: ready, reloading, stopping, and that we are well.
//! Does nothing where none of its variables is set.
//!
//! A thread of its own tells it: a service manager that does not listen holds
//! up nobody, least of all the watchdog.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Much longer than the unit's `RestartSec`.
const REST: Duration = Duration::from_secs(9);
static READY: AtomicBool = AtomicBool::new(false);
/// What may wait for a manager that does not listen; more is left out.
const WAITING: usize = 4;

enum Message {
    Ready,
    Reloading,
    Stopping(Duration),
    Patience(Duration),
    Status(String),
    Well,
}

/// Everything listens and is served.
pub fn ready() {
    READY.store(true, Ordering::Relaxed);
    tell(Message::Ready);
}

/// For a process whose end the journal hears of. systemd starts anew at once
/// whatever ended, which is right for what ran; a start that fails, fails again
/// until something has changed, and fills the journal, which lies on the flash.
pub fn rest_after_a_failed_start() {
    if !READY.load(Ordering::Relaxed) {
        std::thread::sleep(REST);
    }
}

/// The configuration is read again; [`ready`] ends it.
pub fn reloading() {
    tell(Message::Reloading);
}

/// What is in flight is finished, then the process ends: within `longest`, for
/// which systemd is asked to wait where its unit says less.
pub fn stopping(longest: Duration) {
    tell(Message::Stopping(longest));
}

/// How long [`well`] may be silent at most, where the unit allows less.
pub fn patience(longest: Duration) {
    if sd_notify::watchdog_enabled().is_some_and(|allowed| allowed < longest) {
        tell(Message::Patience(longest));
    }
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(Message::Status(line.to_owned()));
}

/// All is well; to be told again within [`watchdog_interval`].
pub fn well() {
    tell(Message::Well);
}

/// How often systemd is to be told that all is well: twice in the time after
/// which it ends the process. None where it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 2)
}

fn tell(message: Message) {
    static TELLER: OnceLock<Option<SyncSender<Message>>> = OnceLock::new();
    if let Some(teller) = TELLER.get_or_init(start) {
        let _ = teller.try_send(message);
    }
}

fn start() -> Option<SyncSender<Message>> {
    std::env::var_os(SOCKET_VARIABLE)?;
    let (teller, messages) = sync_channel(WAITING);
    let thread = std::thread::Builder::new().name("systemd".to_owned());
    thread.spawn(move || pass_on(&messages)).ok()?;
    Some(teller)
}

fn pass_on(messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        let told = match &message {
            Message::Ready => {
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("ready")])
            }
            // `Type=notify-reload` asks for the time with it.
            Message::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Message::Stopping(longest) => {
                let status = NotifyState::Status("finishing what was begun");
                let longest = NotifyState::ExtendTimeoutUsec(micros(*longest));
                sd_notify::notify(&[NotifyState::Stopping, longest, status])
            }
            Message::Patience(longest) => {
                sd_notify::notify(&[NotifyState::WatchdogUsec(micros(*longest))])
            }
            Message::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
            Message::Well => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        // Whoever set the variable may be gone; the gateway has other work.
        if let Err(error) = told {
            debug!(%error, "systemd cannot be told");
        }
    }
}

/// More than an hour is an hour and a bit.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
