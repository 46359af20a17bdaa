//! What a relay kept for this gateway, on its way into the log: each entry of
//! the relay's outbox exactly once, whatever fails in between.
//!
//! Entries are appended together with how far the outbox is taken over by
//! then, as one atomic step. A commit names its attempts by their numbers in
//! this log, so it begins a step of its own, after theirs.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::{error, warn};

use super::committed::Last;
use super::{Ledger, MARK, Staging};
use crate::boxed::boxed;
use crate::record::{Line, Record, Sequence};
use crate::store::{AppendError, PositionError};
use crate::write_back::{Attempt, Batch, Entry, PULLED, Pulled};

/// Name of the mark that holds a [`Pulled`] in JSON; newer ones stand in the
/// log, from the position of the consumer [`PULLED`] on.
const PLACE: &str = "pulled";
/// A group of the log holds no more than a few times as many.
const MOST_IN_A_STEP: usize = 512;

/// How far the outbox is taken over, and which entry of this log says so.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `None`: the mark says it.
    pub seq: Option<Sequence>,
    pub pulled: Pulled,
}

/// Why nothing, or not all, was taken over. Retry later; what was taken over
/// does not come twice.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The log refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Its state could not be written.
    #[error(transparent)]
    Mark(#[from] PositionError),
    /// The log is still being read after the start.
    #[error("the write-backs are still being read after the start")]
    NotReady,
}

/// Entries to be appended together.
#[derive(Default)]
struct Step {
    lines: Vec<Line>,
    /// In their order; `None` for one that makes no sense, kept for the replay
    /// to report.
    entries: Vec<Option<Entry>>,
}

impl Step {
    fn add(&mut self, received: SystemTime, entry: Entry) {
        self.lines.push(entry.to_line(received));
        self.entries.push(Some(entry));
    }
}

impl Staging {
    /// What a relay staged and has not committed yet is the relay's to drop.
    #[must_use]
    pub fn fed_by_a_relay(self, is_fed_by_a_relay: bool) -> Self {
        Self { is_fed_by_a_relay, ..self }
    }

    /// How far the relay's outbox is taken over.
    ///
    /// # Errors
    /// [`TakeOverError::NotReady`].
    pub async fn taken_over(&self) -> Result<Option<Pulled>, TakeOverError> {
        self.ready().await.map_err(|_| TakeOverError::NotReady)?;
        Ok(self.ledger.lock().await.pulled.as_ref().map(|place| place.pulled.clone()))
    }

    /// Takes over entries of the relay's outbox, in order, those below
    /// `upto.next`. What was taken over before is left out. Another epoch than
    /// before is another outbox: what was staged and not committed in the old
    /// one is dropped.
    ///
    /// Entries below `acknowledged` were taken over by a gateway of this name
    /// whose store is gone: what they asked of Orion is not repeated, and what
    /// they staged may still be committed.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub async fn take_over(
        self: &Arc<Self>,
        records: Vec<Record>,
        upto: Pulled,
        acknowledged: Sequence,
    ) -> Result<(), TakeOverError> {
        self.ready().await.map_err(|_| TakeOverError::NotReady)?;
        let staging = Arc::clone(self);
        // On a task of its own: log and ledger must not part where the uplink
        // is stopped in the middle.
        let step = async move { staging.take_over_now(records, upto, acknowledged).await };
        let taken = tokio::spawn(boxed(step)).await;
        taken.unwrap_or(Err(TakeOverError::Append(AppendError::Closed)))
    }

    async fn take_over_now(
        &self,
        records: Vec<Record>,
        upto: Pulled,
        acknowledged: Sequence,
    ) -> Result<(), TakeOverError> {
        let mut under_way = self.steps.begin();
        let mut ledger = self.ledger.lock().await;
        self.remember_commits(&ledger).await?;
        let known = ledger.pulled.as_ref().map(|place| place.pulled.clone());
        let from = match known {
            Some(known) if known.epoch == upto.epoch => known.next,
            Some(_) => {
                self.begin_anew(&mut ledger, &upto.epoch).await?;
                0
            }
            None => 0,
        };
        let mut step = Step::default();
        for record in records.into_iter().filter(|record| record.seq >= from) {
            let at = record.seq;
            let received = record.notification.received;
            let line = Line::from(&record.notification);
            let entry = Entry::from_record(record);
            let settles = matches!(entry, Ok(Entry::Commit { .. } | Entry::Abort { .. }));
            if !step.lines.is_empty() && (settles || step.lines.len() >= MOST_IN_A_STEP) {
                let pulled = Pulled { next: at, ..upto.clone() };
                // There may be hundreds of steps.
                under_way.gets_on();
                self.append_step(&mut ledger, std::mem::take(&mut step), pulled).await?;
            }
            match entry {
                Ok(entry) => {
                    let own = self.own(&ledger, entry, at < acknowledged);
                    for entry in own {
                        step.add(received, entry);
                    }
                }
                Err(error) => {
                    error!(seq = at, %error, "an entry of the relay's outbox makes no sense");
                    step.lines.push(line);
                    step.entries.push(None);
                }
            }
        }
        let is_news = ledger.pulled.as_ref().is_none_or(|place| place.pulled != upto);
        if is_news {
            self.append_step(&mut ledger, step, upto).await?;
        }
        Ok(())
    }

    /// An entry of the outbox, as this log keeps it; none for what changes
    /// nothing. `is_done`: it was taken over before.
    fn own(&self, ledger: &Ledger, entry: Entry, is_done: bool) -> Vec<Entry> {
        match entry {
            Entry::Request(_) if !is_done => vec![entry],
            Entry::Request(_) | Entry::Pulled(_) => Vec::new(),
            Entry::Staged { batch, attempt, rows } => {
                vec![Entry::Staged { batch: batch.over_a_relay(), attempt, rows }]
            }
            Entry::Abort { batch, attempts } => {
                let batch = batch.over_a_relay();
                let is_staged = ledger.staged.contains_key(&batch);
                is_staged.then_some(Entry::Abort { batch, attempts }).into_iter().collect()
            }
            Entry::Commit { batch, .. } if is_done => {
                let last = batch.over_a_relay();
                let settled = |batch: &&Batch| batch.query == last.query && **batch <= last;
                let settled = ledger.staged.keys().filter(settled).cloned();
                settled.map(|batch| Entry::Abort { batch, attempts: Vec::new() }).collect()
            }
            Entry::Commit { batch, attempts, once } => {
                let batch = batch.over_a_relay();
                if ledger.committed.covers(&batch) {
                    // A relay that was wiped has committed it once more.
                    return Vec::new();
                }
                let attempts = attempts.into_iter().map(|one| one.attempt).collect();
                let attempts = self.find_all(ledger, &batch, attempts);
                vec![Entry::Commit { batch, attempts, once }]
            }
        }
    }

    /// As [`Ledger::find`]; one that is not there gets a number that no
    /// attempt has, so that the replay reports its rows as gone.
    fn find_all(&self, ledger: &Ledger, batch: &Batch, attempts: Vec<String>) -> Vec<Attempt> {
        let staged = ledger.staged.get(batch);
        let mut found: Vec<Attempt> = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let seq = staged.and_then(|staged| staged.get(&attempt)).map(|staged| staged.seq);
            if seq.is_none() {
                let Batch { query, batch } = batch;
                error!(query, batch, attempt, "the relay committed an attempt that is not here");
            }
            let seq = seq.unwrap_or_else(|| self.log.bounds().next);
            if found.iter().all(|one| one.attempt != attempt) {
                found.push(Attempt { attempt, seq });
            }
        }
        found
    }

    /// The outbox is another one: its staged attempts will never be committed.
    async fn begin_anew(&self, ledger: &mut Ledger, epoch: &str) -> Result<(), TakeOverError> {
        let old = ledger.staged.keys().filter(|batch| batch.is_over_a_relay());
        let old: Vec<Batch> = old.cloned().collect();
        warn!(
            epoch,
            staged_batches = old.len(),
            "the relay has begun a new outbox: it was wiped or restored; what was staged in the old one is dropped"
        );
        let mut step = Step::default();
        for batch in old {
            step.add(SystemTime::now(), Entry::Abort { batch, attempts: Vec::new() });
        }
        let pulled = Pulled { epoch: epoch.to_owned(), next: 0 };
        self.append_step(ledger, step, pulled).await
    }

    async fn append_step(
        &self,
        ledger: &mut Ledger,
        mut step: Step,
        pulled: Pulled,
    ) -> Result<(), TakeOverError> {
        step.add(SystemTime::now(), Entry::Pulled(pulled));
        if ledger.pulled.is_none() {
            // From here on the log says how far it is.
            let earliest = self.log.bounds().next;
            self.log.acknowledge(PULLED, None, earliest, false).await?;
        }
        for entry in step.entries.iter().flatten() {
            if let Entry::Commit { batch, .. } = entry {
                self.report_forgotten(ledger, batch).await?;
            }
        }
        let numbers = self.log.append(step.lines).await?;
        let mut committed = Vec::new();
        for (seq, entry) in numbers.zip(step.entries) {
            let Some(entry) = entry else { continue };
            match &entry {
                Entry::Commit { batch, .. } => {
                    committed.push(batch.clone());
                    self.metrics.accepted();
                }
                Entry::Request(_) => self.metrics.accepted(),
                _ => {}
            }
            ledger.apply(seq, entry);
        }
        for batch in committed {
            self.mark(ledger, &batch.query).await?;
        }
        if ledger.committed.are_many() {
            self.forget_outlived(ledger).await;
        }
        Ok(())
    }

    /// The relay refuses what it has forgotten, and remembers no query longer
    /// than its gateways do; one that was wiped takes a repeat for new.
    async fn report_forgotten(&self, ledger: &Ledger, batch: &Batch) -> Result<(), TakeOverError> {
        let is_remembered = ledger.committed.of(&batch.query).is_some();
        if !is_remembered && self.log.knows_name(&batch.query).await? {
            let Batch { query, batch } = batch;
            error!(
                query,
                batch,
                "a query comes back that was forgotten here, over a relay that was wiped: if this batch was committed before, it is applied twice; compare Orion with the job's results"
            );
        }
        Ok(())
    }

    /// Marks that could not be written when their commit was.
    async fn remember_commits(&self, ledger: &Ledger) -> Result<(), TakeOverError> {
        let marks = self.log.marks();
        for (query, last) in ledger.committed.iter() {
            let marked = marks.get(&format!("{MARK}{query}"));
            if marked.and_then(|marked| marked.parse::<Last>().ok()) != Some(*last) {
                self.mark(ledger, query).await?;
            }
        }
        Ok(())
    }

    /// Notes how far the outbox is taken over beside the log, so that the
    /// entries that say so need not be kept. Tells it: the relay may forget
    /// what lies below.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    pub async fn settle_taken_over(&self) -> Result<Option<Pulled>, TakeOverError> {
        self.ready().await.map_err(|_| TakeOverError::NotReady)?;
        let mut ledger = self.ledger.lock().await;
        self.settle_place(&mut ledger).await
    }

    async fn settle_place(&self, ledger: &mut Ledger) -> Result<Option<Pulled>, TakeOverError> {
        let Some(place) = &mut ledger.pulled else { return Ok(None) };
        if let Some(seq) = place.seq {
            // A struct of a string and a number always serialises.
            let json = serde_json::to_string(&place.pulled).unwrap_or_default();
            self.log.set_mark(PLACE, &json).await?;
            self.log.acknowledge(PULLED, None, seq + 1, false).await?;
            place.seq = None;
        }
        Ok(Some(place.pulled.clone()))
    }

    pub(super) fn marked_place(&self) -> Option<Place> {
        let marks = self.log.marks();
        let pulled = serde_json::from_str(marks.get(PLACE)?).ok()?;
        Some(Place { seq: None, pulled })
    }

    /// Without an uplink nobody moves its position: it must hold nothing.
    pub(super) async fn forget_the_relay(&self, ledger: &mut Ledger) {
        if self.log.position(PULLED).is_none() {
            return;
        }
        let forgotten = match self.settle_place(ledger).await {
            Ok(_) => self.log.forget(PULLED).await.map_err(TakeOverError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            warn!(%error, "the position of an uplink that is no more is kept until the next start");
        }
    }
}
