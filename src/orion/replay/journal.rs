//! The outcomes journal: what became of units at or above the low-water mark,
//! so that a restart takes no finished entity back.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::Error;
use super::unit::UnitId;
use crate::record::{Line, Sequence};
use crate::store::{AppendError, Log, ReadError};
use crate::write_back::APPLIED;

const READ_BYTES: usize = 256 * 1024;
/// How long after a failed write the next is tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A record of the outcomes log.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    /// Epoch of the write-back log that the ids belong to.
    pub log: String,
    /// Certainly not sent, though noted as sending earlier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cleared: Vec<UnitId>,
    /// About to be sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sending: Vec<UnitId>,
    /// Applied, or a dead letter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<UnitId>,
}

impl Note {
    pub(super) fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.sending.is_empty() && self.done.is_empty()
    }

    /// The highest entry that it is about.
    pub(super) fn highest(&self) -> Sequence {
        let ids = self.cleared.iter().chain(&self.sending).chain(&self.done);
        ids.map(|id| id.0).max().unwrap_or(0)
    }

    fn to_line(&self) -> Line {
        // Numbers and a string always serialise.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Line::encode(SystemTime::now(), "POST", "/outcomes", &[], &body)
    }
}

/// Which records of the outcomes log are still needed.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// Each record with the highest entry that it is about, in order.
    records: VecDeque<(Sequence, Sequence)>,
    end: Sequence,
}

impl Needed {
    pub(super) fn add(&mut self, records: &Range<Sequence>, highest: Sequence) {
        if let Some(record) = records.end.checked_sub(1) {
            self.records.push_back((record, highest));
            self.end = records.end;
        }
    }

    /// The first record that is needed still when every entry below `applied`
    /// is done.
    pub(super) fn lowest(&mut self, applied: Sequence) -> Sequence {
        while self.records.front().is_some_and(|(_, highest)| *highest < applied) {
            self.records.pop_front();
        }
        self.records.front().map_or(self.end, |(record, _)| *record)
    }
}

/// What the journal holds of entries at or above the low-water mark.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub done: HashSet<UnitId>,
    /// Sent, without an outcome.
    pub sending: HashSet<UnitId>,
    pub needed: Needed,
}

/// Reads the journal.
pub(super) async fn load(log: &Log, epoch: &str, applied: Sequence) -> Result<Past, Error> {
    let mut past = Past::default();
    let mut at = log.bounds().earliest.max(log.position(APPLIED).unwrap_or(0));
    past.needed.end = at;
    while at < log.bounds().next {
        let batch = match log.read(at..Sequence::MAX, READ_BYTES).await {
            Ok(batch) => batch,
            Err(ReadError::Gone { earliest, reason }) => {
                error!(
                    from = at,
                    until = earliest,
                    ?reason,
                    "outcomes are gone; some write-backs may be applied once more"
                );
                at = earliest.max(at + 1);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match batch.records() {
            Ok(records) => {
                for record in records {
                    match serde_json::from_slice(&record.notification.body) {
                        Ok(note) => past.take(record.seq, note, epoch, applied),
                        Err(error) => error!(seq = record.seq, %error, "an outcome is unreadable"),
                    }
                }
            }
            Err(error) => error!(from = at, %error, "outcomes are unreadable"),
        }
        at = batch.next.max(at + 1);
    }
    Ok(past)
}

impl Past {
    fn take(&mut self, record: Sequence, note: Note, epoch: &str, applied: Sequence) {
        self.needed.add(&(record..record + 1), note.highest());
        if note.log != epoch {
            return;
        }
        let current = |id: &UnitId| id.0 >= applied;
        for id in note.cleared {
            self.sending.remove(&id);
        }
        self.sending.extend(note.sending.into_iter().filter(current));
        for id in note.done.into_iter().filter(current) {
            self.sending.remove(&id);
            self.done.insert(id);
        }
    }
}

/// Writes a note, however long the disk refuses it: nothing may go on before
/// it is durable.
pub(super) async fn write(log: Arc<Log>, note: Note) -> Result<Range<Sequence>, Error> {
    let mut failing = false;
    loop {
        match log.append(vec![note.to_line()]).await {
            Ok(records) => {
                if failing {
                    info!("outcomes of write-backs are noted again");
                }
                return Ok(records);
            }
            Err(AppendError::Closed) => return Err(Error::Closed),
            Err(reason) => {
                if !std::mem::replace(&mut failing, true) {
                    error!(%reason, "outcomes of write-backs cannot be noted; the replay waits");
                }
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}
