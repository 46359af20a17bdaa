//! Staging and committing: a Spark batch's write-backs count in one atomic
//! step, or not at all, however often Spark tries.
//!
//! A task stages its rows under (query, batch, attempt) and hands the token to
//! the driver; the driver commits the tokens that count. The gateway remembers
//! the last batch of the queries that committed last, so that a repeated commit
//! is answered as done, and refuses those that it has forgotten.

mod committed;
mod forgetting;
mod ledger;
mod pulled;

pub use pulled::TakeOverError;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::SparkMetrics;
use crate::boxed::boxed;
use crate::budget::Share;
use crate::health::{Job, Jobs};
use crate::ngsi;
use crate::record::Sequence;
use crate::store::{AppendError, Log, PositionError, ReadError};
use crate::write_back::{self, Batch, Entry, EntryError, MAX_HEADERS, PULLED, STAGED};
use ledger::Ledger;

/// How long the start-up scan may keep a request waiting.
const PATIENCE: Duration = Duration::from_secs(20);
const SCAN_BYTES: usize = 1 << 20;
const SCAN_AGAIN: Duration = Duration::from_secs(1);
const MARK: &str = "committed:";

/// Spark's write-backs on their way into the log.
pub struct Staging {
    log: Arc<Log>,
    ledger: Mutex<Ledger>,
    ready: watch::Sender<bool>,
    /// Stages, commits and aborts under way.
    steps: Jobs,
    expiry: Duration,
    metrics: SparkMetrics,
    kind: Kind,
    is_fed_by_a_relay: bool,
    /// Attempts that are in the log, perhaps, and not in the ledger yet.
    under_way: AtomicUsize,
}

/// Whose write-backs these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Applied here: the replay tells what is staged no more.
    Own,
    /// Pulled by another gateway: nobody else tells it.
    Outbox,
}

/// What became of a stage or commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Done {
    /// It is on stable storage now.
    Now,
    /// It was before: a repeat changes nothing.
    Before,
}

/// Why a stage, commit or abort was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum StagingError {
    /// A row is not of the documented form. Reject.
    #[error(transparent)]
    Row(#[from] EntryError),
    /// A row is no write to Orion. Reject.
    #[error("row {row}: {method} {path} is no write of NGSIv2 or NGSI-LD")]
    NoWrite { row: usize, method: String, path: String },
    /// A row has too many headers. Reject.
    #[error("row {row}: {headers} headers, and at most {MAX_HEADERS} are taken")]
    TooManyHeaders { row: usize, headers: usize },
    /// An attempt is not staged: it expired, or never was. Reject; stage anew.
    #[error("attempts that are not staged (any more): {}", .0.join(", "))]
    NotStaged(Vec<String>),
    /// So many others have committed since that nobody knows any more which of
    /// its batches count. Reject; a new query may write what is missing.
    #[error(
        "the query {0} has not committed here for so long that which of its batches were applied \
         is not known any more, and a repeat would not be noticed: go on under another name (in \
         Spark a new checkpoint, or another txnAppId), from where the results are wanted"
    )]
    Forgotten(String),
    /// The log refused it. Retry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The commit is durable, but not remembered beyond its segment. Retry.
    #[error(transparent)]
    Mark(#[from] PositionError),
    /// The log is still being read after the start. Retry.
    #[error("the write-backs are still being read after the start")]
    NotReady,
}

impl Staging {
    /// Staging into `log`. Nothing is answered before [`Staging::run`] has
    /// read what is staged already.
    #[must_use]
    pub fn new(log: Arc<Log>, expiry: Duration, metrics: SparkMetrics) -> Self {
        let (ledger, ready) = (Mutex::default(), watch::Sender::new(false));
        let (steps, under_way) = (Jobs::default(), AtomicUsize::new(0));
        let (kind, is_fed_by_a_relay) = (Kind::Own, false);
        Self { log, ledger, ready, steps, expiry, metrics, kind, is_fed_by_a_relay, under_way }
    }

    /// Staging into the log of what another gateway pulls from here.
    #[must_use]
    pub fn of_outbox(log: Arc<Log>, expiry: Duration, metrics: SparkMetrics) -> Self {
        Self { kind: Kind::Outbox, ..Self::new(log, expiry, metrics) }
    }

    /// What is staged, committed or aborted now.
    #[must_use]
    pub fn steps(&self) -> Jobs {
        self.steps.clone()
    }

    /// Reads what is staged, then drops what no commit came for, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ledger = self.ledger.lock().await;
        if stop.run_until_cancelled(self.scan(&mut ledger)).await.is_none() {
            return;
        }
        if self.kind == Kind::Own && !self.is_fed_by_a_relay {
            self.forget_the_relay(&mut ledger).await;
        }
        // The log still tells of commits whose queries were forgotten since.
        self.forget_outlived(&mut ledger).await;
        drop(ledger);
        self.ready.send_replace(true);
        let mut ticks =
            tokio::time::interval(self.expiry.div_f32(24.0).max(Duration::from_secs(1)));
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.expire().await;
            self.forget_outlived(&mut *self.ledger.lock().await).await;
        }
    }

    async fn scan(&self, ledger: &mut Ledger) {
        for (name, mark) in self.log.marks() {
            if let (Some(query), Ok(last)) = (name.strip_prefix(MARK), mark.parse()) {
                ledger.committed.remember(query, last);
            }
        }
        let bounds = self.log.bounds();
        let mut needed = vec![self.log.position(STAGED)];
        if self.kind == Kind::Own {
            ledger.pulled = self.marked_place();
            needed.push(self.log.position(PULLED));
        }
        let mut at = needed.into_iter().flatten().min().unwrap_or(bounds.earliest);
        at = at.max(bounds.earliest);
        let mut failing = false;
        while at < bounds.next {
            match self.log.read(at..bounds.next, SCAN_BYTES).await {
                Ok(batch) => {
                    (at, failing) = (batch.next, false);
                    let records = batch.records().unwrap_or_else(|error| {
                        error!(%error, "write-backs cannot be read; they are left out");
                        Vec::new()
                    });
                    for record in records {
                        ledger.read(record);
                    }
                }
                Err(ReadError::Gone { earliest, .. }) => at = earliest,
                // Half of what was committed is worse than nobody who asks: a
                // commit that is not known of would be taken once more.
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        error!(%error, at, "write-backs cannot be read; commits wait until they can");
                    }
                    tokio::time::sleep(SCAN_AGAIN).await;
                }
            }
        }
    }

    async fn ready(&self) -> Result<(), StagingError> {
        let mut ready = self.ready.subscribe();
        let waiting = ready.wait_for(|ready| *ready);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StagingError::NotReady),
        }
    }

    /// Keeps the rows of one task's attempt, and `share`, their memory, until
    /// then.
    pub(super) async fn stage(
        self: &Arc<Self>,
        batch: Batch,
        attempt: String,
        rows: Bytes,
        share: Share,
    ) -> Result<Done, StagingError> {
        check_rows(&rows)?;
        self.ready().await?;
        let staging = Arc::clone(self);
        to_the_end(self.steps.begin(), async move {
            let staged = staging.stage_now(batch, attempt, rows).await;
            drop(share);
            staged
        })
        .await
    }

    /// Makes the named attempts count, in their order, in one atomic step.
    /// `once`: the query ends with it, and nobody will repeat it much later.
    pub(super) async fn commit(
        self: &Arc<Self>,
        batch: Batch,
        attempts: Vec<String>,
        once: bool,
    ) -> Result<Done, StagingError> {
        self.ready().await?;
        let staging = Arc::clone(self);
        let step = async move { staging.commit_now(batch, attempts, once).await };
        to_the_end(self.steps.begin(), step).await
    }

    /// Drops what is staged for a batch.
    pub(super) async fn abort(self: &Arc<Self>, batch: Batch) -> Result<Done, StagingError> {
        self.ready().await?;
        let staging = Arc::clone(self);
        to_the_end(self.steps.begin(), async move { staging.abort_now(batch).await }).await
    }

    async fn stage_now(
        &self,
        batch: Batch,
        attempt: String,
        rows: Bytes,
    ) -> Result<Done, StagingError> {
        let ledger = self.ledger.lock().await;
        if ledger.is_settled(&batch, &attempt) {
            return Ok(Done::Before);
        }
        let is_known = ledger.knows(&batch.query);
        drop(ledger);
        self.refuse_forgotten(is_known, &batch.query).await?;
        let entry = Entry::Staged { batch: batch.clone(), attempt: attempt.clone(), rows };
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let appended = self.append(&entry).await;
        if let Ok(seq) = appended {
            self.ledger.lock().await.stage(batch, attempt, seq);
        }
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        appended?;
        Ok(Done::Now)
    }

    async fn commit_now(
        &self,
        batch: Batch,
        attempts: Vec<String>,
        once: bool,
    ) -> Result<Done, StagingError> {
        // Held to the end: two commits of one batch must not both count.
        let mut ledger = self.ledger.lock().await;
        if ledger.committed.covers(&batch) {
            // The mark may be what failed the first time.
            self.mark(&ledger, &batch.query).await?;
            return Ok(Done::Before);
        }
        self.refuse_forgotten(ledger.knows(&batch.query), &batch.query).await?;
        let attempts = ledger.find(&batch, attempts)?;
        let seq = self.append(&Entry::Commit { batch: batch.clone(), attempts, once }).await?;
        ledger.commit(&batch, seq, once);
        self.metrics.accepted();
        self.mark(&ledger, &batch.query).await?;
        if ledger.committed.are_many() {
            self.forget_outlived(&mut ledger).await;
        }
        self.move_on(&ledger).await;
        Ok(Done::Now)
    }

    async fn abort_now(&self, batch: Batch) -> Result<Done, StagingError> {
        let mut ledger = self.ledger.lock().await;
        if !ledger.staged.contains_key(&batch) {
            return Ok(Done::Before);
        }
        self.append(&Entry::Abort { batch: batch.clone(), attempts: Vec::new() }).await?;
        ledger.staged.remove(&batch);
        self.move_on(&ledger).await;
        Ok(Done::Now)
    }

    async fn expire(&self) {
        let mut ledger = self.ledger.lock().await;
        for (batch, attempts) in ledger.expired(self.expiry) {
            // The relay tells of those, by an abort.
            if self.is_fed_by_a_relay && batch.is_over_a_relay() {
                continue;
            }
            let count = attempts.len() as u64;
            let entry = Entry::Abort { batch: batch.clone(), attempts: attempts.clone() };
            if let Err(error) = self.append(&entry).await {
                info!(%error, "expired attempts cannot be dropped yet");
                return;
            }
            ledger.drop_attempts(&batch, &attempts);
            self.metrics.expired(count);
            let Batch { query, batch } = batch;
            warn!(query, batch, attempts = count, "staged attempts expired: no commit came");
        }
        self.move_on(&ledger).await;
    }

    /// In an outbox: what lies below the oldest staged attempt need not be
    /// read at the next start.
    async fn move_on(&self, ledger: &Ledger) {
        if self.kind == Kind::Own {
            return;
        }
        // Asked for before the count: what begins after it gets a higher number.
        let next = self.log.bounds().next;
        if self.under_way.load(Ordering::Acquire) > 0 {
            return;
        }
        let staged = ledger.staged.values().flat_map(BTreeMap::values).map(|staged| staged.seq);
        let position = staged.min().unwrap_or(next).min(next);
        if self.log.position(STAGED).is_none_or(|at| at < position) {
            // It only means that the next start reads more.
            let _ = self.log.acknowledge(STAGED, None, position, false).await;
        }
    }

    async fn append(&self, entry: &Entry) -> Result<Sequence, AppendError> {
        Ok(self.log.append(vec![entry.to_line(SystemTime::now())]).await?.start)
    }
}

/// Runs a step on a task of its own. Whoever asked for it may go in the middle,
/// and what is in the log by then must be in the ledger too: a commit that it
/// did not know of would be taken once more.
async fn to_the_end(
    under_way: Job,
    step: impl Future<Output = Result<Done, StagingError>> + Send + 'static,
) -> Result<Done, StagingError> {
    let step = async move {
        let done = step.await;
        drop(under_way);
        done
    };
    tokio::spawn(boxed(step)).await.unwrap_or(Err(StagingError::Append(AppendError::Closed)))
}

/// Refuses a bad row now, while somebody is there to hear it.
pub(super) fn check_rows(rows: &[u8]) -> Result<(), StagingError> {
    for (at, row) in write_back::rows(rows).enumerate() {
        let row = row?;
        let is_write = row.method.parse().is_ok_and(|method| ngsi::is_write(&method, &row.path));
        if !is_write {
            let (method, path) = (row.method, row.path);
            return Err(StagingError::NoWrite { row: at + 1, method, path });
        }
        if row.headers.len() > MAX_HEADERS {
            let headers = row.headers.len();
            return Err(StagingError::TooManyHeaders { row: at + 1, headers });
        }
    }
    Ok(())
}
