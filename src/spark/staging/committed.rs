//! The last batch that each query committed: of the queries that committed
//! last, so that what is remembered does not grow with the years.
//!
//! A repeat of a batch that is remembered is answered as done. Two kinds:
//!
//! - A query that goes on is forgotten once so many others have committed
//!   after it. Its name is noted first, and whatever comes of it then is
//!   refused: nobody knows any more whether it is a repeat.
//! - One that ended with its only commit is repeated by the process that made
//!   up its name, and by nobody later. It is forgotten after a while; its
//!   attempts went with its commit, so a repeat is refused as not staged.
//!
//! Who committed last is told by the numbers of the commits, never by a clock.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::record::Sequence;
use crate::write_back::Batch;

/// Queries of each kind that are remembered.
pub(super) const MOST: usize = 512;
/// Above that so many are forgotten together: it costs a write of the state.
pub(super) const AT_A_TIME: usize = 64;
/// Stands behind the numbers in the mark of a query that has ended.
const ENDED: &str = "once";

/// The last batch of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub batch: u64,
    /// The number of its commit; 0 where an earlier version has not noted it.
    commit: Sequence,
    /// Nothing comes after it.
    once: bool,
    /// When this process learned of it.
    since: Instant,
}

/// As a mark in the log's state.
impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.batch, self.commit)?;
        if self.once { write!(f, " {ENDED}") } else { Ok(()) }
    }
}

impl FromStr for Last {
    type Err = std::num::ParseIntError;

    fn from_str(mark: &str) -> Result<Self, Self::Err> {
        let mut words = mark.split(' ');
        let batch = words.next().unwrap_or_default().parse()?;
        let commit = words.next().map_or(Ok(0), str::parse)?;
        let once = words.next() == Some(ENDED);
        Ok(Self { batch, commit, once, since: Instant::now() })
    }
}

impl PartialEq for Last {
    fn eq(&self, other: &Self) -> bool {
        (self.batch, self.commit, self.once) == (other.batch, other.commit, other.once)
    }
}

#[derive(Default)]
pub(super) struct Committed(HashMap<String, Last>);

/// Queries that need not, or cannot, be remembered any longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outlived {
    /// They have ended.
    pub ended: Vec<String>,
    /// They may come back, and are to be refused then.
    pub unfinished: Vec<String>,
}

impl Committed {
    pub(super) fn of(&self, query: &str) -> Option<Last> {
        self.0.get(query).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Last)> {
        self.0.iter()
    }

    /// Whether that batch, or a later one of its query, counts already.
    pub(super) fn covers(&self, batch: &Batch) -> bool {
        self.of(&batch.query).is_some_and(|last| last.batch >= batch.batch)
    }

    /// What a mark says.
    pub(super) fn remember(&mut self, query: &str, last: Last) {
        self.0.insert(query.to_owned(), last);
    }

    /// A batch counts, by the commit of that number.
    pub(super) fn settle(&mut self, batch: &Batch, commit: Sequence, once: bool) {
        let new = Last { batch: batch.batch, commit, once, since: Instant::now() };
        let last = self.0.entry(batch.query.clone()).or_insert(new);
        let batch = last.batch.max(new.batch);
        *last = Last { batch, commit: last.commit.max(commit), ..new };
    }

    pub(super) fn forget(&mut self, query: &str) {
        self.0.remove(query);
    }

    /// Which ones are to be forgotten: those that ended longer than `expiry`
    /// ago, and the earliest of too many. None of those that are `needed`.
    pub(super) fn outlived(&self, expiry: Duration, needed: impl Fn(&str) -> bool) -> Outlived {
        let ended = self.earliest(|_, last| last.once, &needed);
        let too_many = |of: &[(&str, Last)]| if of.len() > MOST { of.len() - MOST } else { 0 };
        let beyond = too_many(&ended);
        let ended = ended.iter().enumerate();
        let ended = ended.filter(|(at, (_, last))| *at < beyond || last.since.elapsed() >= expiry);
        let ended = ended.map(|(_, (query, _))| (*query).to_owned()).collect();
        let mut unfinished = Vec::new();
        // Apart: those here must outlast their relay's memory of the same ones.
        for over_a_relay in [false, true] {
            let is_one = |query: &str, last: &Last| {
                !last.once && Batch::is_query_over_a_relay(query) == over_a_relay
            };
            let all = self.earliest(is_one, &needed);
            let beyond = &all[..too_many(&all)];
            unfinished.extend(beyond.iter().map(|(query, _)| (*query).to_owned()));
        }
        Outlived { ended, unfinished }
    }

    /// Whether it is time to see which ones are [`Committed::outlived`].
    pub(super) fn are_many(&self) -> bool {
        let count = |once: bool, over_a_relay: bool| {
            let of_it = self.0.iter().filter(|(query, last)| {
                last.once == once && (once || Batch::is_query_over_a_relay(query) == over_a_relay)
            });
            of_it.count()
        };
        [(true, false), (false, false), (false, true)]
            .into_iter()
            .any(|(once, over_a_relay)| count(once, over_a_relay) >= MOST + AT_A_TIME)
    }

    fn earliest(
        &self,
        is_one: impl Fn(&str, &Last) -> bool,
        needed: impl Fn(&str) -> bool,
    ) -> Vec<(&str, Last)> {
        let all = self.0.iter().filter(|(query, last)| is_one(query, last) && !needed(query));
        let mut all: Vec<_> = all.map(|(query, last)| (query.as_str(), *last)).collect();
        all.sort_unstable_by(|(a, x), (b, y)| (x.commit, a).cmp(&(y.commit, b)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn committed(queries: impl IntoIterator<Item = String>, once: bool) -> Committed {
        let mut committed = Committed::default();
        for (commit, query) in (1..).zip(queries) {
            committed.settle(&Batch { query, batch: 0 }, commit, once);
        }
        committed
    }

    #[test]
    fn the_marks_of_earlier_versions_are_read_and_new_ones_read_back() {
        let old: Last = "7".parse().unwrap();
        assert_eq!((old.batch, old.commit, old.once), (7, 0, false));
        for mark in ["7 12", "0 3 once"] {
            assert_eq!(mark.parse::<Last>().unwrap().to_string(), mark);
        }
        assert!("seven 1".parse::<Last>().is_err());
    }

    #[test]
    fn those_that_committed_last_are_remembered_and_needed_ones_too() {
        let mut committed = committed((0..MOST + AT_A_TIME).map(|n| format!("q{n}")), false);
        assert!(committed.are_many());
        committed.settle(&Batch { query: "q0".to_owned(), batch: 1 }, 9000, false);
        let outlived = committed.outlived(DAY, |query| query == "q1");
        assert_eq!(outlived.unfinished.len(), AT_A_TIME - 1, "q1 is needed");
        assert_eq!(outlived.unfinished[0], "q2", "q0 is in use again");
        assert!(outlived.ended.is_empty());
    }

    #[test]
    fn those_of_a_relay_push_none_of_ours_out() {
        let names = (0..MOST).flat_map(|n| [format!("q{n}"), format!("~q{n}")]);
        let committed = committed(names, false);
        assert!(!committed.are_many());
        assert_eq!(committed.outlived(DAY, |_| false), Outlived::default());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_forgotten_after_a_while_and_is_no_reason_to_refuse() {
        let committed = committed(["a".to_owned(), "b".to_owned()], true);
        assert_eq!(committed.outlived(DAY, |_| false), Outlived::default());
        tokio::time::advance(DAY).await;
        let outlived = committed.outlived(DAY, |_| false);
        assert_eq!((outlived.ended.len(), outlived.unfinished.len()), (2, 0));
    }

    #[test]
    fn a_late_repeat_takes_no_batch_back() {
        let mut committed = Committed::default();
        let batch = |batch| Batch { query: "q".to_owned(), batch };
        committed.settle(&batch(7), 20, false);
        committed.settle(&batch(6), 10, false);
        assert!(committed.covers(&batch(7)) && !committed.covers(&batch(8)));
        assert_eq!(committed.of("q").unwrap().to_string(), "7 20");
    }
}
