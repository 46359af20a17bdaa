//! The gateway's tasks: an orderly end with a deadline, and an end of the process
//! where a task ends that should not.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::boxed::boxed;
use crate::signals::{Asked, Signals};
use crate::systemd;

/// Why the tasks ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// A task ended by itself, which none should.
    #[error("{0} ended unexpectedly; the gateway stops so that it is started anew")]
    Unexpectedly(String),
}

/// Tasks that run until they are told to stop.
pub struct Supervisor {
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
}

/// What happened while the tasks were waited for.
enum Event {
    Asked(Asked),
    Ended(String),
}

impl Supervisor {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// Tells every task to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task, which must run until the stop.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(boxed(async move {
            task.await;
            name
        }));
    }

    /// Runs until SIGTERM or SIGINT, then gives the tasks `drain` to finish,
    /// and does `close` at the very end. A second signal ends the process at
    /// once, whatever it is doing then. SIGHUP calls `reload`. systemd is told
    /// that the end may take `longest` in all.
    ///
    /// # Errors
    /// Where a task ended before it was told to.
    pub async fn run(
        mut self,
        mut signals: Signals,
        drain: Duration,
        longest: Duration,
        reload: impl Fn(),
        close: impl Future<Output = ()>,
    ) -> Result<(), Ended> {
        let ended = loop {
            match self.next(&mut signals).await {
                Event::Asked(Asked::Reload) => reload(),
                Event::Asked(Asked::Stop(signal)) => {
                    info!(signal, "stopping");
                    break Ok(());
                }
                Event::Ended(task) => {
                    error!(task, "a task ended unexpectedly");
                    break Err(Ended::Unexpectedly(task));
                }
            }
        };
        systemd::stopping(longest);
        self.stop.cancel();
        let finished = async {
            while let Some(joined) = self.tasks.join_next().await {
                if let Err(error) = joined {
                    error!(%error, "a task ended badly");
                }
            }
        };
        let ending = async {
            if tokio::time::timeout(drain, finished).await.is_err() {
                warn!("not everything in flight was finished in time; it is not acknowledged");
            }
            close.await;
        };
        tokio::select! {
            () = ending => {}
            () = signals.stop() => at_once(),
        }
        ended
    }

    async fn next(&mut self, signals: &mut Signals) -> Event {
        tokio::select! {
            asked = signals.next() => Event::Asked(asked),
            Some(ended) = self.tasks.join_next() => Event::Ended(match ended {
                Ok(name) => name.to_owned(),
                Err(error) => error.to_string(),
            }),
        }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// What was acknowledged is on stable storage: nothing is lost by it.
fn at_once() -> ! {
    warn!("a second signal: ending at once");
    std::process::exit(1)
}
