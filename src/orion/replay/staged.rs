//! Staged attempts that may still be committed.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Sequence;
use crate::write_back::Batch;

/// The staged attempts seen and not settled, by query and batch.
#[derive(Debug, Default)]
pub(super) struct Staged {
    queries: BTreeMap<String, BTreeMap<u64, Vec<(String, Sequence)>>>,
    seqs: BTreeSet<Sequence>,
}

impl Staged {
    pub(super) fn add(&mut self, batch: Batch, attempt: String, seq: Sequence) {
        self.queries
            .entry(batch.query)
            .or_default()
            .entry(batch.batch)
            .or_default()
            .push((attempt, seq));
        self.seqs.insert(seq);
    }

    /// A commit settles its batch and all before it of its query.
    pub(super) fn settle(&mut self, batch: &Batch) {
        let Some(batches) = self.queries.get_mut(&batch.query) else { return };
        let later = batch.batch.checked_add(1).map(|next| batches.split_off(&next));
        for (_, seq) in std::mem::take(batches).into_values().flatten() {
            self.seqs.remove(&seq);
        }
        match later {
            Some(later) if !later.is_empty() => *batches = later,
            _ => {
                self.queries.remove(&batch.query);
            }
        }
    }

    /// An abort drops the attempts that it names, or all of its batch.
    pub(super) fn abort(&mut self, batch: &Batch, attempts: &[String]) {
        let Some(batches) = self.queries.get_mut(&batch.query) else { return };
        if let Some(staged) = batches.get_mut(&batch.batch) {
            staged.retain(|(attempt, seq)| {
                let dropped = attempts.is_empty() || attempts.contains(attempt);
                if dropped {
                    self.seqs.remove(seq);
                }
                !dropped
            });
            if staged.is_empty() {
                batches.remove(&batch.batch);
            }
        }
        if batches.is_empty() {
            self.queries.remove(&batch.query);
        }
    }

    /// The entry of the oldest of them.
    pub(super) fn lowest(&self) -> Option<Sequence> {
        self.seqs.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(query: &str, batch: u64) -> Batch {
        Batch { query: query.to_owned(), batch }
    }

    #[test]
    fn a_commit_settles_its_batch_and_earlier_ones_of_its_query_only() {
        let mut staged = Staged::default();
        staged.add(batch("q", 1), "a".to_owned(), 0);
        staged.add(batch("p", 1), "b".to_owned(), 1);
        staged.add(batch("q", 2), "c".to_owned(), 2);
        staged.add(batch("q", 3), "d".to_owned(), 3);
        staged.settle(&batch("q", 2));
        assert_eq!(staged.lowest(), Some(1));
        staged.settle(&batch("p", 9));
        assert_eq!(staged.lowest(), Some(3));
        staged.settle(&batch("q", u64::MAX));
        assert_eq!(staged.lowest(), None);
        assert!(staged.queries.is_empty());
    }

    #[test]
    fn an_abort_drops_what_it_names_or_else_its_whole_batch() {
        let mut staged = Staged::default();
        for (seq, attempt) in ["a", "b", "c"].into_iter().enumerate() {
            staged.add(batch("q", 1), attempt.to_owned(), seq as Sequence);
        }
        staged.abort(&batch("q", 1), &["a".to_owned()]);
        assert_eq!(staged.lowest(), Some(1));
        staged.abort(&batch("q", 2), &[]);
        assert_eq!(staged.lowest(), Some(1));
        staged.abort(&batch("q", 1), &[]);
        assert_eq!(staged.lowest(), None);
        assert!(staged.queries.is_empty());
    }
}
