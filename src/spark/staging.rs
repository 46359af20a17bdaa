//! Staging and committing: a Spark batch's write-backs count in one atomic
//! step, or not at all, however often Spark tries.
//!
//! A task stages its rows under (query, batch, attempt) and hands the token to
//! the driver; the driver commits the tokens that count. The gateway remembers
//! the last batch of each query, so that a repeated commit is answered as done.

mod pulled;

pub use pulled::TakeOverError;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::SparkMetrics;
use crate::boxed::boxed;
use crate::budget::Share;
use crate::health::{Job, Jobs};
use crate::ngsi;
use crate::record::{Record, Sequence};
use crate::store::{AppendError, Log, PositionError, ReadError};
use crate::write_back::{self, Attempt, Batch, Entry, EntryError, PULLED, STAGED};

/// How long the start-up scan may keep a request waiting.
const PATIENCE: Duration = Duration::from_secs(20);
const SCAN_BYTES: usize = 1 << 20;
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

#[derive(Default)]
struct Ledger {
    staged: BTreeMap<Batch, BTreeMap<String, Staged>>,
    committed: HashMap<String, u64>,
    pulled: Option<pulled::Place>,
}

struct Staged {
    seq: Sequence,
    since: Instant,
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
    /// An attempt is not staged: it expired, or never was. Reject; stage anew.
    #[error("attempts that are not staged (any more): {}", .0.join(", "))]
    NotStaged(Vec<String>),
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
        drop(ledger);
        self.ready.send_replace(true);
        let mut ticks =
            tokio::time::interval(self.expiry.div_f32(24.0).max(Duration::from_secs(1)));
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.expire().await;
        }
    }

    async fn scan(&self, ledger: &mut Ledger) {
        for (name, batch) in self.log.marks() {
            if let (Some(query), Ok(batch)) = (name.strip_prefix(MARK), batch.parse()) {
                ledger.committed.insert(query.to_owned(), batch);
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
        while at < bounds.next {
            match self.log.read(at..bounds.next, SCAN_BYTES).await {
                Ok(batch) => {
                    at = batch.next;
                    let records = batch.records().unwrap_or_else(|error| {
                        error!(%error, "write-backs cannot be read; they are left out");
                        Vec::new()
                    });
                    for record in records {
                        ledger.read(record);
                    }
                }
                Err(ReadError::Gone { earliest, .. }) => at = earliest,
                Err(error) => {
                    error!(%error, "write-backs cannot be read; staged attempts behind {at} are not known");
                    return;
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
    pub(super) async fn commit(
        self: &Arc<Self>,
        batch: Batch,
        attempts: Vec<String>,
    ) -> Result<Done, StagingError> {
        self.ready().await?;
        let staging = Arc::clone(self);
        to_the_end(self.steps.begin(), async move { staging.commit_now(batch, attempts).await })
            .await
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
        if self.ledger.lock().await.is_settled(&batch, &attempt) {
            return Ok(Done::Before);
        }
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

    async fn commit_now(&self, batch: Batch, attempts: Vec<String>) -> Result<Done, StagingError> {
        // Held to the end: two commits of one batch must not both count.
        let mut ledger = self.ledger.lock().await;
        if ledger.committed.get(&batch.query).is_some_and(|last| *last >= batch.batch) {
            // The mark may be what failed the first time.
            self.mark(&batch.query, ledger.committed[&batch.query]).await?;
            return Ok(Done::Before);
        }
        let attempts = ledger.find(&batch, attempts)?;
        self.append(&Entry::Commit { batch: batch.clone(), attempts }).await?;
        ledger.commit(&batch);
        self.metrics.accepted();
        self.mark(&batch.query, batch.batch).await?;
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

    async fn mark(&self, query: &str, batch: u64) -> Result<(), PositionError> {
        self.log.set_mark(&format!("{MARK}{query}"), &batch.to_string()).await
    }
}

impl Ledger {
    fn read(&mut self, record: Record) {
        let seq = record.seq;
        // The replay reports what cannot be read.
        if let Ok(entry) = Entry::from_record(record) {
            self.apply(seq, entry);
        }
    }

    fn apply(&mut self, seq: Sequence, entry: Entry) {
        match entry {
            Entry::Staged { batch, attempt, .. } => self.stage(batch, attempt, seq),
            Entry::Commit { batch, .. } => self.commit(&batch),
            Entry::Abort { batch, attempts } if attempts.is_empty() => {
                self.staged.remove(&batch);
            }
            Entry::Abort { batch, attempts } => self.drop_attempts(&batch, &attempts),
            Entry::Pulled(pulled) => self.pulled = Some(pulled::Place { seq: Some(seq), pulled }),
            Entry::Request(_) => {}
        }
    }

    fn is_settled(&self, batch: &Batch, attempt: &str) -> bool {
        let committed = self.committed.get(&batch.query).is_some_and(|last| *last >= batch.batch);
        committed || self.staged.get(batch).is_some_and(|staged| staged.contains_key(attempt))
    }

    fn stage(&mut self, batch: Batch, attempt: String, seq: Sequence) {
        let staged = Staged { seq, since: Instant::now() };
        self.staged.entry(batch).or_default().insert(attempt, staged);
    }

    fn find(&self, batch: &Batch, attempts: Vec<String>) -> Result<Vec<Attempt>, StagingError> {
        let staged = self.staged.get(batch);
        let mut missing = Vec::new();
        let mut found = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            match staged.and_then(|staged| staged.get(&attempt)) {
                // Named twice it is still one.
                Some(staged) if found.iter().any(|one: &Attempt| one.seq == staged.seq) => {}
                Some(staged) => found.push(Attempt { attempt, seq: staged.seq }),
                None => missing.push(attempt),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(StagingError::NotStaged(missing)) }
    }

    /// Settles a batch, and whatever was left of earlier ones.
    fn commit(&mut self, batch: &Batch) {
        self.staged.retain(|other, _| other.query != batch.query || other.batch > batch.batch);
        let last = self.committed.entry(batch.query.clone()).or_insert(batch.batch);
        *last = batch.batch.max(*last);
    }

    fn drop_attempts(&mut self, batch: &Batch, attempts: &[String]) {
        if let Some(staged) = self.staged.get_mut(batch) {
            staged.retain(|attempt, _| !attempts.contains(attempt));
            if staged.is_empty() {
                self.staged.remove(batch);
            }
        }
    }

    fn expired(&self, expiry: Duration) -> Vec<(Batch, Vec<String>)> {
        let mut expired = Vec::new();
        for (batch, staged) in &self.staged {
            let old = staged.iter().filter(|(_, staged)| staged.since.elapsed() >= expiry);
            let old: Vec<String> = old.map(|(attempt, _)| attempt.clone()).collect();
            if !old.is_empty() {
                expired.push((batch.clone(), old));
            }
        }
        expired
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
    }
    Ok(())
}
