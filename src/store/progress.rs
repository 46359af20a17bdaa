//! How a log gets on, for whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Store;
use super::log::Log;
use crate::health::{Busy, Jobs, Stamp};

/// Kept by a log's committer, and by those who move its positions.
#[derive(Default)]
pub(super) struct Progress {
    /// The committer has taken something up.
    taken: AtomicBool,
    /// Rises with each thing that the committer got done.
    steps: AtomicU64,
    /// Positions and marks that are on their way to the disk.
    pub positions: Jobs,
    pub last_commit: Stamp,
    pub last_acknowledgement: Stamp,
}

impl Progress {
    /// The committer begins with something.
    pub(super) fn take(&self) {
        self.taken.store(true, Ordering::Release);
    }

    /// The committer got on: one sync more is behind it.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Release);
    }

    /// The committer is done with what it took up.
    pub(super) fn done(&self) {
        self.step();
        self.taken.store(false, Ordering::Release);
    }
}

/// Tells that a committer ended by a panic: its log answers nobody any more.
pub(super) struct Broken {
    pub log: String,
    pub tell: watch::Sender<Option<String>>,
}

impl Drop for Broken {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell.send_replace(Some(std::mem::take(&mut self.log)));
        }
    }
}

impl Store {
    /// What has work, each part of which may stand still for `patience`.
    pub fn busy(&self, patience: Duration, busy: &mut Vec<Busy>) {
        for log in self.logs() {
            log.busy(patience, busy);
        }
    }

    /// The log whose committer ended by a panic, where one did: nothing can
    /// be appended to it until the store is opened again.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.common.broken.borrow().clone()
    }

    /// Waits until a committer ends by a panic, or until `stop`.
    pub async fn until_broken(self: Arc<Self>, stop: CancellationToken) {
        let mut broken = self.common.broken.subscribe();
        let waiting = broken.wait_for(Option::is_some);
        if let Some(Ok(log)) = stop.run_until_cancelled(waiting).await {
            error!(
                log = log.as_deref(),
                "the thread that writes the log has panicked, a bug; what was acknowledged is on the disk"
            );
        }
    }
}

impl Log {
    /// What waits for the committer.
    fn queued(&self) -> usize {
        // A closed queue is served no more; whoever waited was told.
        let is_open = !self.commands.is_closed();
        if is_open { self.commands.max_capacity() - self.commands.capacity() } else { 0 }
    }

    #[cfg(test)]
    async fn panic(&self) {
        let _ = self.commands.send(super::committer::Command::Panic).await;
    }

    /// What of this log has work, each part of which may stand still for
    /// `patience`. Waits for nobody.
    pub fn busy(&self, patience: Duration, busy: &mut Vec<Busy>) {
        let progress = &self.shared.progress;
        let name = &self.shared.name;
        if self.queued() > 0 || progress.taken.load(Ordering::Acquire) {
            let (part, step) =
                (format!("the writing of log {name}"), progress.steps.load(Ordering::Acquire));
            busy.push(Busy { part, step, patience });
        }
        if let Some(step) = progress.positions.step() {
            busy.push(Busy { part: format!("the positions of log {name}"), step, patience });
        }
    }

    /// How long ago something was committed to it; none since the start.
    #[must_use]
    pub fn last_commit(&self) -> Option<Duration> {
        self.shared.progress.last_commit.age()
    }

    /// How long ago a consumer acknowledged something; none since the start.
    #[must_use]
    pub fn last_acknowledgement(&self) -> Option<Duration> {
        self.shared.progress.last_acknowledgement.age()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use tokio_util::sync::CancellationToken;

    use crate::record::Line;
    use crate::store::{AppendError, Config, Metrics, Store};

    const PATIENCE: Duration = Duration::from_secs(1);

    fn line() -> Line {
        Line::encode(SystemTime::now(), "POST", "/", &[], b"{}")
    }

    fn open() -> (tempfile::TempDir, Arc<Store>) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { min_free: 0, ..Config::default() };
        let store = Store::open(folder.path(), config, Vec::new(), Metrics::default());
        (folder, Arc::new(store.unwrap()))
    }

    #[tokio::test]
    async fn a_log_whose_committer_panicked_is_told_of_and_refuses() {
        let (_folder, store) = open();
        let log = store.write_backs();
        log.append(vec![line()]).await.unwrap();
        assert_eq!(store.broken(), None);
        log.panic().await;
        let told = Arc::clone(&store).until_broken(CancellationToken::new());
        tokio::time::timeout(Duration::from_mins(1), told).await.unwrap();
        assert_eq!(store.broken().as_deref(), Some("write-backs"));
        assert_eq!(log.append(vec![line()]).await, Err(AppendError::Closed));
        // The others are sealed as always.
        tokio::time::timeout(Duration::from_mins(1), store.close()).await.unwrap();
    }

    #[tokio::test]
    async fn a_log_that_is_at_work_is_busy_until_it_is_done_and_tells_when_it_was() {
        let (_folder, store) = open();
        let log = store.write_backs();
        let busy = || {
            let mut busy = Vec::new();
            log.busy(PATIENCE, &mut busy);
            busy
        };
        assert_eq!((busy(), log.last_commit(), log.last_acknowledgement()), (vec![], None, None));
        let progress = &log.shared.progress;
        // As in the middle of a commit.
        progress.take();
        let before = busy();
        assert_eq!(before.len(), 1);
        progress.step();
        assert_ne!(busy()[0].step, before[0].step, "it got on");
        progress.done();
        assert_eq!(busy(), []);
        let moving = progress.positions.begin();
        assert!(busy()[0].part.contains("positions of log write-backs"));
        drop(moving);
        log.append(vec![line()]).await.unwrap();
        log.acknowledge("c", None, 1, false).await.unwrap();
        assert!(log.last_commit().is_some() && log.last_acknowledgement().is_some());
    }
}
