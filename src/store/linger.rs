//! Waiting for a fuller group: clients that were answered together come back
//! together, a moment later. Waiting for as many as there were at the last
//! commit, but no longer than that took, makes fewer and larger writes of the
//! same records, and costs a lone client nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Where producers and a log's committer meet.
#[derive(Default)]
pub(super) struct Meeting {
    /// Appends handed in, and taken, since the log was opened.
    handed_in: AtomicUsize,
    taken: AtomicUsize,
    /// Wake the committer at this count of `handed_in`; 0 for never.
    wake_at: AtomicUsize,
    committer: OnceLock<Thread>,
}

/// The committer's own part: what to expect.
pub(super) struct Linger {
    longest: Duration,
    /// Appends that were in the last group, or came while it was committed:
    /// as many clients as there are.
    outstanding: usize,
    last_commit: Duration,
}

impl Meeting {
    /// To be called by the committer's thread, once.
    pub(super) fn join(&self) {
        let _ = self.committer.set(std::thread::current());
    }

    /// A producer has handed something in.
    pub(super) fn hand_in(&self) {
        let count = self.handed_in.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        if count == self.wake_at.load(Ordering::Acquire)
            && let Some(committer) = self.committer.get()
        {
            committer.unpark();
        }
    }

    /// The committer has taken something.
    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the committer finds `missing` more, at most for `longest`.
    pub(super) fn wait_for(&self, missing: usize, longest: Duration) {
        if missing == 0 || longest.is_zero() {
            return;
        }
        let deadline = Instant::now() + longest;
        let wanted = self.taken.load(Ordering::Relaxed).wrapping_add(missing);
        self.wake_at.store(wanted, Ordering::Release);
        loop {
            let is_there =
                self.handed_in.load(Ordering::Acquire).wrapping_sub(wanted) <= usize::MAX / 2;
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            if is_there || left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        self.wake_at.store(0, Ordering::Release);
    }

    fn waiting(&self) -> usize {
        let handed_in = self.handed_in.load(Ordering::Acquire);
        // What is in the queue already may not be counted yet.
        let waiting = handed_in.wrapping_sub(self.taken.load(Ordering::Relaxed));
        if waiting > usize::MAX / 2 { 0 } else { waiting }
    }
}

impl Linger {
    /// Never longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, outstanding: 0, last_commit: Duration::ZERO }
    }

    /// Waits until as many appends are there as there are clients, `have` of
    /// them already taken; at most as long as the last commit took.
    pub(super) fn wait_for_clients(&self, meeting: &Meeting, have: usize) {
        let expected = self.outstanding.saturating_sub(have);
        meeting.wait_for(expected, self.last_commit.min(self.longest));
    }

    /// Learns from a commit, before it is answered.
    pub(super) fn committed(&mut self, meeting: &Meeting, appends: usize, took: Duration) {
        self.outstanding = appends + meeting.waiting();
        self.last_commit = took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn expecting(appends: usize) -> Linger {
        let mut linger = Linger::new(LONG);
        linger.committed(&Meeting::default(), appends, LONG);
        linger
    }

    #[test]
    fn a_lone_client_never_waits() {
        expecting(1).wait_for_clients(&Meeting::default(), 1);
    }

    #[test]
    fn the_wait_ends_when_the_last_expected_one_comes() {
        let meeting = Meeting::default();
        meeting.join();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..3).for_each(|_| meeting.hand_in()));
            // Would hang for a minute if the third did not end it.
            expecting(4).wait_for_clients(&meeting, 1);
        });
        assert_eq!(meeting.handed_in.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_wait_is_no_longer_than_a_commit() {
        let mut linger = Linger::new(LONG);
        linger.committed(&Meeting::default(), 100, Duration::from_millis(1));
        linger.wait_for_clients(&Meeting::default(), 1);
    }
}
