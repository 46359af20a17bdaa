//! Whether the relay can be reached, known to all who want something of it:
//! while it cannot, one of them tries again from time to time and the others
//! wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::backoff;

const MIN_WAIT: Duration = Duration::from_millis(500);
/// For a fleet that waits for its relay: short against an outage that anybody
/// notices, long against what a try costs.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// One that refuses us will go on, until somebody changes something.
const REFUSED_WAIT: Duration = Duration::from_mins(1);
/// A connection that was just being closed is no outage.
const TOLD_AFTER: u32 = 2;

/// Why the relay takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It cannot be reached, or does not answer.
    Unreachable,
    /// It does not let this gateway in.
    Refused,
}

/// The line to the relay.
pub(super) struct Line {
    url: Mutex<String>,
    state: Mutex<State>,
    /// It may be tried, or is up.
    changed: Notify,
    /// How often it came up; told at each time.
    comings: watch::Sender<u64>,
}

struct State {
    down: Option<Down>,
    since: Instant,
    last_error: Option<String>,
}

struct Down {
    began: Instant,
    failures: u32,
    next_try: Instant,
    is_probed: bool,
    /// Something changed while it was tried, which may have come too late for
    /// that try.
    is_changed: bool,
    told: Option<Cause>,
}

impl Down {
    fn new(now: Instant) -> Self {
        let (failures, is_probed, is_changed) = (0, false, false);
        Self { began: now, failures, next_try: now, is_probed, is_changed, told: None }
    }
}

/// What a status tells of the line.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub up: bool,
    pub since: SystemTime,
    pub last_error: Option<String>,
}

/// Leave to send one request; what came of it is to be told.
pub(super) struct Pass<'a> {
    line: &'a Line,
    /// The relay was away: the request should be small and answered soon.
    pub is_probe: bool,
}

impl Line {
    pub(super) fn new(url: &str) -> Self {
        let now = Instant::now();
        // Not up before it has answered; the first try is now.
        let state = State { down: Some(Down::new(now)), since: now, last_error: None };
        Self {
            url: Mutex::new(url.to_owned()),
            state: Mutex::new(state),
            changed: Notify::new(),
            comings: watch::Sender::new(0),
        }
    }

    /// Waits until a request may go.
    pub(super) async fn pass(&self) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wake = {
                let mut state = self.state();
                match &mut state.down {
                    None => return Pass { line: self, is_probe: false },
                    Some(down) if down.is_probed => None,
                    Some(down) if down.next_try <= Instant::now() => {
                        down.is_probed = true;
                        return Pass { line: self, is_probe: true };
                    }
                    Some(down) => Some(down.next_try),
                }
            };
            match wake {
                None => changed.await,
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// How often it came up; told at each time.
    pub(super) fn comings(&self) -> watch::Receiver<u64> {
        self.comings.subscribe()
    }

    /// Something changed that makes another try worth it.
    pub(super) fn try_now(&self, url: &str) {
        url.clone_into(&mut self.url.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(down) = &mut self.state().down {
            down.next_try = Instant::now();
            down.is_changed = down.is_probed;
        }
        self.changed.notify_waiters();
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        // Told by the clock as it is now: it may have been set since.
        let since = ago(state.since.elapsed());
        let last_error = state.last_error.clone();
        Seen { up: state.down.is_none(), since, last_error }
    }

    fn up(&self) {
        let mut state = self.state();
        let Some(down) = state.down.take() else { return };
        state.since = Instant::now();
        drop(state);
        let relay = self.url.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if down.told.is_some() {
            let away =
                humantime::format_duration(Duration::from_secs(down.began.elapsed().as_secs()));
            info!(relay, "the relay is back after {away}");
        } else if *self.comings.borrow() == 0 {
            info!(relay, "the relay answers");
        }
        self.comings.send_modify(|comings| *comings += 1);
        self.changed.notify_waiters();
    }

    fn down(&self, cause: Cause, is_probe: bool, reason: &str) {
        let now = Instant::now();
        let mut state = self.state();
        state.last_error = Some(reason.to_owned());
        if state.down.is_none() {
            state.since = now;
        }
        let was_up = state.down.is_none();
        let down = state.down.get_or_insert_with(|| Down::new(now));
        if is_probe {
            down.is_probed = false;
        } else if !was_up {
            // A straggler from before says nothing new.
            return;
        }
        let wait = match cause {
            _ if std::mem::take(&mut down.is_changed) => Duration::ZERO,
            Cause::Unreachable => backoff::wait(down.failures, MIN_WAIT, MAX_WAIT),
            Cause::Refused => REFUSED_WAIT / 2 + backoff::within(REFUSED_WAIT / 2),
        };
        down.failures = down.failures.saturating_add(1);
        down.next_try = now + wait;
        let is_news =
            down.told != Some(cause) && (down.failures >= TOLD_AFTER || cause == Cause::Refused);
        if is_news {
            down.told = Some(cause);
        }
        drop(state);
        self.changed.notify_waiters();
        if is_news {
            let relay = self.url.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match cause {
                Cause::Unreachable => {
                    warn!(
                        relay,
                        reason, "the relay cannot be reached; records are kept until it can"
                    );
                }
                Cause::Refused => {
                    error!(
                        relay,
                        reason,
                        "the relay does not let this gateway in; records are kept until it does"
                    );
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ago(age: Duration) -> SystemTime {
    SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}

impl Pass<'_> {
    /// The relay answered.
    pub(super) fn up(self) {
        self.line.up();
    }

    /// It did not, or does not want us.
    pub(super) fn down(self, cause: Cause, reason: &str) {
        self.line.down(cause, self.is_probe, reason);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // Where nothing was told, somebody else may try.
        if self.is_probe
            && let Some(down) = &mut self.line.state().down
            && down.is_probed
        {
            down.is_probed = false;
            self.line.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_a_try_is_under_way_is_tried_at_once() {
        let line = Line::new("https://relay:8443");
        let probe = line.pass().await;
        line.try_now("https://relay:8443");
        probe.down(Cause::Refused, "an unknown certificate");
        let begun = Instant::now();
        let probe = line.pass().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        probe.down(Cause::Refused, "an unknown certificate");
        let _probe = line.pass().await;
        assert!(begun.elapsed() >= REFUSED_WAIT / 2, "{:?}", begun.elapsed());
    }
}
