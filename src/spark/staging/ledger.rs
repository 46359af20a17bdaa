//! What is staged, and what has been committed: the log's entries, as far as
//! they matter for the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::StagingError;
use super::committed::{Committed, Outlived};
use super::pulled;
use crate::record::{Record, Sequence};
use crate::write_back::{Attempt, Batch, Entry};

#[derive(Default)]
pub(super) struct Ledger {
    pub staged: BTreeMap<Batch, BTreeMap<String, Staged>>,
    pub committed: Committed,
    pub pulled: Option<pulled::Place>,
}

pub(super) struct Staged {
    pub seq: Sequence,
    since: Instant,
}

impl Ledger {
    pub(super) fn read(&mut self, record: Record) {
        let seq = record.seq;
        // The replay reports what cannot be read.
        if let Ok(entry) = Entry::from_record(record) {
            self.apply(seq, entry);
        }
    }

    pub(super) fn apply(&mut self, seq: Sequence, entry: Entry) {
        match entry {
            Entry::Staged { batch, attempt, .. } => self.stage(batch, attempt, seq),
            Entry::Commit { batch, once, .. } => self.commit(&batch, seq, once),
            Entry::Abort { batch, attempts } if attempts.is_empty() => {
                self.staged.remove(&batch);
            }
            Entry::Abort { batch, attempts } => self.drop_attempts(&batch, &attempts),
            Entry::Pulled(pulled) => self.pulled = Some(pulled::Place { seq: Some(seq), pulled }),
            Entry::Request(_) => {}
        }
    }

    pub(super) fn is_settled(&self, batch: &Batch, attempt: &str) -> bool {
        self.committed.covers(batch)
            || self.staged.get(batch).is_some_and(|staged| staged.contains_key(attempt))
    }

    /// Whether anything of a query is remembered or under way.
    pub(super) fn knows(&self, query: &str) -> bool {
        self.committed.of(query).is_some() || self.has_staged(query)
    }

    fn has_staged(&self, query: &str) -> bool {
        let first = Batch { query: query.to_owned(), batch: 0 };
        self.staged.range(first..).next().is_some_and(|(batch, _)| batch.query == query)
    }

    /// The queries that need not be remembered any longer.
    pub(super) fn outlived(&self, expiry: Duration) -> Outlived {
        self.committed.outlived(expiry, |query| self.has_staged(query))
    }

    pub(super) fn stage(&mut self, batch: Batch, attempt: String, seq: Sequence) {
        let staged = Staged { seq, since: Instant::now() };
        self.staged.entry(batch).or_default().insert(attempt, staged);
    }

    pub(super) fn find(
        &self,
        batch: &Batch,
        attempts: Vec<String>,
    ) -> Result<Vec<Attempt>, StagingError> {
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
    pub(super) fn commit(&mut self, batch: &Batch, seq: Sequence, once: bool) {
        self.staged.retain(|other, _| other.query != batch.query || other.batch > batch.batch);
        self.committed.settle(batch, seq, once);
    }

    pub(super) fn drop_attempts(&mut self, batch: &Batch, attempts: &[String]) {
        if let Some(staged) = self.staged.get_mut(batch) {
            staged.retain(|attempt, _| !attempts.contains(attempt));
            if staged.is_empty() {
                self.staged.remove(batch);
            }
        }
    }

    pub(super) fn expired(&self, expiry: Duration) -> Vec<(Batch, Vec<String>)> {
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
