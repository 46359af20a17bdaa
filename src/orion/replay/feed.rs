//! Reads the write-back log in order and makes units of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::error;

use super::Error;
use super::endpoint::Endpoint;
use super::staged::Staged;
use super::unit::{Content, Unit, UnitId, contents};
use crate::record::{Record, Sequence};
use crate::store::{Group, Log, ReadError};
use crate::write_back::{self, Attempt, Entry, Request};

const READ_BYTES: usize = 256 * 1024;
/// Bodies in memory, in KiB.
const MEMORY_KIB: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(1);

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Fed {
    /// An entry begins that needs staged ones from this one on, until it is
    /// done.
    Begin { seq: Sequence, needs: Sequence },
    /// The next unit.
    Unit(Box<Unit>),
    /// All entries below `next` are read; `staged` is the oldest staged
    /// attempt that may still be committed.
    End { next: Sequence, staged: Option<Sequence> },
}

/// Bounds what is in memory.
#[derive(Debug, Clone)]
pub(super) struct Gates {
    window: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// Units read beyond the oldest unfinished one. The engine adds what it
    /// has done.
    pub ahead: Arc<Semaphore>,
}

impl Gates {
    pub(super) fn new(window: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(1 << 24)));
        Self {
            window: semaphore(window),
            memory: semaphore(MEMORY_KIB as usize),
            // Each may have to be noted in the journal, and found there again.
            ahead: semaphore(window.saturating_mul(64)),
        }
    }

    async fn admit(&self, bytes: usize) -> Option<Vec<OwnedSemaphorePermit>> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(MEMORY_KIB).min(MEMORY_KIB);
        self.ahead.acquire().await.ok()?.forget();
        let window = Arc::clone(&self.window).acquire_owned().await.ok()?;
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib).await.ok()?;
        Some(vec![window, memory])
    }
}

pub(super) struct Feed {
    pub log: Arc<Log>,
    /// Where to read on.
    pub at: Sequence,
    /// Entries below have no unfinished unit.
    pub applied: Sequence,
    pub staged: Staged,
    /// Units that are done already.
    pub done: HashSet<UnitId>,
    /// Units that were sent and have no outcome.
    pub sending: HashSet<UnitId>,
    pub endpoints: Arc<ArcSwap<Vec<Arc<Endpoint>>>>,
    pub gates: Gates,
    pub out: mpsc::Sender<Fed>,
}

/// The engine has gone.
struct Gone;

impl Feed {
    /// Reads until the engine goes or the log is closed.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut end = self.log.watch_end();
        let mut failing = false;
        loop {
            let at = self.at;
            if end.wait_for(|end| *end > at).await.is_err() {
                return Ok(());
            }
            match self.log.read(at..Sequence::MAX, READ_BYTES).await {
                Ok(batch) => {
                    failing = false;
                    for group in &batch.groups {
                        if self.group(group).await.is_err() {
                            return Ok(());
                        }
                    }
                    self.at = batch.next;
                }
                Err(ReadError::Gone { earliest, reason }) => {
                    // Below the low-water mark nothing was waiting.
                    if earliest > self.applied {
                        error!(
                            from = at,
                            until = earliest,
                            ?reason,
                            "write-backs are gone and cannot be applied"
                        );
                    }
                    self.at = earliest.max(at + 1);
                }
                Err(reason) => {
                    if !std::mem::replace(&mut failing, true) {
                        error!(%reason, "the write-backs cannot be read; the replay waits");
                    }
                    tokio::time::sleep(PATIENCE).await;
                }
            }
            if self.end(self.at).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn group(&mut self, group: &Group) -> Result<(), Gone> {
        let first = group.header.first;
        let lines = match group.lines() {
            Ok(lines) => lines,
            Err(error) => {
                let count = group.header.count;
                error!(seq = first, count, %error, "write-backs are unreadable");
                let reason = format!(
                    "{count} entries of the write-back log from {first} on cannot be read: {error}"
                );
                return self.unfit(UnitId(first, 0, 0, 0), SystemTime::now(), reason, None).await;
            }
        };
        for (seq, line) in (first..).zip(lines.split_inclusive(|byte| *byte == b'\n')) {
            match Record::decode(line) {
                Ok(record) => self.entry(record).await?,
                Err(error) => {
                    error!(seq, %error, "a write-back is unreadable");
                    let text = String::from_utf8_lossy(line).into_owned();
                    let reason = format!("its entry cannot be read: {error}");
                    self.unfit(UnitId(seq, 0, 0, 0), SystemTime::now(), reason, Some(text)).await?;
                }
            }
            self.end(seq + 1).await?;
        }
        Ok(())
    }

    async fn end(&self, next: Sequence) -> Result<(), Gone> {
        self.tell(Fed::End { next, staged: self.staged.lowest() }).await
    }

    async fn tell(&self, fed: Fed) -> Result<(), Gone> {
        self.out.send(fed).await.map_err(|_| Gone)
    }

    async fn entry(&mut self, record: Record) -> Result<(), Gone> {
        let (seq, received) = (record.seq, record.notification.received);
        let id = UnitId(seq, 0, 0, 0);
        let entry = match Entry::from_record(record) {
            Ok(entry) => entry,
            Err(error) => {
                error!(seq, %error, "an entry of the write-back log makes no sense");
                return self.unfit(id, received, error.to_string(), None).await;
            }
        };
        let is_new = seq >= self.applied;
        match entry {
            Entry::Request(request) if is_new => self.request(id, received, request).await,
            Entry::Request(_) | Entry::Pulled(_) => Ok(()),
            Entry::Staged { batch, attempt, .. } => {
                self.staged.add(batch, attempt, seq);
                Ok(())
            }
            Entry::Abort { batch, attempts } => {
                self.staged.abort(&batch, &attempts);
                Ok(())
            }
            Entry::Commit { batch, attempts, .. } => {
                if is_new {
                    if let Some(needs) = attempts.iter().map(|attempt| attempt.seq).min() {
                        self.tell(Fed::Begin { seq, needs }).await?;
                    }
                    for (at, attempt) in (0..).zip(&attempts) {
                        self.attempt(UnitId(seq, at, 0, 0), received, attempt).await?;
                    }
                }
                self.staged.settle(&batch);
                Ok(())
            }
        }
    }

    async fn attempt(
        &mut self,
        id: UnitId,
        received: SystemTime,
        attempt: &Attempt,
    ) -> Result<(), Gone> {
        let lines = loop {
            let read = self.log.read_one(attempt.seq).await;
            let record = match read {
                Ok(record) => record,
                Err(ReadError::Gone { .. } | ReadError::Beyond { .. }) => None,
                Err(ReadError::Store(reason)) => {
                    // It may pass; a record that is damaged is Gone the next time.
                    error!(seq = attempt.seq, %reason, "a staged attempt cannot be read; the replay waits");
                    tokio::select! {
                        () = tokio::time::sleep(PATIENCE) => continue,
                        () = self.out.closed() => return Err(Gone),
                    }
                }
            };
            match record.map(Entry::from_record) {
                Some(Ok(Entry::Staged { attempt: token, rows, .. }))
                    if token == attempt.attempt =>
                {
                    break rows;
                }
                _ => {
                    error!(
                        commit = id.0,
                        staged = attempt.seq,
                        attempt = attempt.attempt,
                        "the rows of a committed attempt are gone"
                    );
                    let reason = format!(
                        "the rows of the committed attempt {} (entry {}) are gone",
                        attempt.attempt, attempt.seq
                    );
                    return self.unfit(id, received, reason, None).await;
                }
            }
        };
        for (row, request) in (0..).zip(write_back::rows(&lines)) {
            let id = UnitId(id.0, id.1, row, 0);
            match request {
                Ok(request) => self.request(id, received, request).await?,
                Err(error) => {
                    let line = match &error {
                        write_back::EntryError::Row { row, .. } => {
                            lines.split(|byte| *byte == b'\n').nth(row.saturating_sub(1))
                        }
                        _ => None,
                    };
                    let text = line.map(|line| String::from_utf8_lossy(line).into_owned());
                    self.unfit(id, received, error.to_string(), text).await?;
                }
            }
        }
        Ok(())
    }

    async fn request(
        &mut self,
        id: UnitId,
        received: SystemTime,
        request: Request,
    ) -> Result<(), Gone> {
        let (target, contents) = contents(request, &self.endpoints.load());
        for (part, content) in (0..).zip(contents) {
            self.unit(Unit::new(UnitId(id.0, id.1, id.2, part), target, content, received)).await?;
        }
        Ok(())
    }

    async fn unfit(
        &mut self,
        id: UnitId,
        received: SystemTime,
        reason: String,
        unreadable: Option<String>,
    ) -> Result<(), Gone> {
        // Of entries below, whatever it was is done.
        if id.0 < self.applied {
            return Ok(());
        }
        let content = Content::Unfit { reason, request: None, unreadable };
        self.unit(Unit::new(id, 0, content, received)).await
    }

    async fn unit(&mut self, mut unit: Unit) -> Result<(), Gone> {
        for id in &unit.ids {
            if self.done.remove(id) {
                return Ok(());
            }
            if self.sending.remove(id) {
                unit.ambiguous = true;
                unit.announced = true;
            }
        }
        unit.room = self.gates.admit(unit.bytes()).await.ok_or(Gone)?;
        self.tell(Fed::Unit(Box::new(unit))).await
    }
}
