//! What a log serves and what it says is gone, number by number.

use std::ops::Range;

use ngsi_ferry::record::Sequence;
use ngsi_ferry::store::{GoneReason, HoleReason, Log, LogStatus, ReadError};

use crate::bed::content;

/// Numbers as ranges, in order and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers(pub Vec<Range<Sequence>>);

impl Numbers {
    pub fn one(range: Range<Sequence>) -> Self {
        Self(vec![range])
    }

    pub fn add(&mut self, range: Range<Sequence>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push(range),
        }
    }

    pub fn contains(&self, seq: Sequence) -> bool {
        self.0.iter().any(|range| range.contains(&seq))
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Those of them that `of` names too.
    pub fn among(&self, of: impl Iterator<Item = Sequence>) -> Vec<Sequence> {
        of.filter(|seq| self.contains(*seq)).collect()
    }
}

/// What a reader sees who begins at 0 and goes wherever it is told to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    pub served: Numbers,
    /// Told by 410, reason `lost`.
    pub lost: Numbers,
    /// Told by 410, another reason.
    pub deleted: Numbers,
    /// Skipped without a word.
    pub skipped: Numbers,
    pub next: Sequence,
}

impl Picture {
    /// Reads everything; each record must be the one of its number.
    pub async fn of(log: &Log, what: &str) -> Self {
        Self::from(log, 0, what).await
    }

    /// As [`Picture::of`], of a number and all above.
    pub async fn from(log: &Log, mut at: Sequence, what: &str) -> Self {
        let mut picture = Self { next: log.bounds().next, ..Self::default() };
        while at < picture.next {
            match log.read(at..picture.next, 200_000).await {
                Ok(batch) => {
                    for record in batch.records().unwrap() {
                        let seq = record.seq;
                        assert!(seq >= at && seq < batch.next, "{what}: {seq} is out of order");
                        let right = content(seq);
                        let same = record.notification.body == right.body
                            && record.notification.path == right.path;
                        assert!(same, "{what}: {seq} came back as another");
                        picture.skipped.add(at..seq);
                        picture.served.add(seq..seq + 1);
                        at = seq + 1;
                    }
                    assert!(batch.next >= at, "{what}: reading must get on");
                    picture.skipped.add(at..batch.next);
                    at = batch.next;
                }
                Err(ReadError::Gone { earliest, reason }) => {
                    assert!(earliest > at, "{what}: reading must get on");
                    match reason {
                        GoneReason::Lost => picture.lost.add(at..earliest),
                        _ => picture.deleted.add(at..earliest),
                    }
                    at = earliest;
                }
                Err(error) => panic!("{what}: {at}: {error}"),
            }
        }
        picture
    }

    /// What the status says must be what a reader is told.
    pub fn agrees_with(&self, status: &LogStatus, what: &str) {
        assert_eq!(status.lost, reported(status).count(), "{what}: the counter");
        let mut reported = Numbers::default();
        for hole in &status.holes {
            // Who asks for unused numbers before lost ones is told where to go on.
            let is_told = self.lost.contains(hole.from);
            if hole.reason == HoleReason::Lost || is_told {
                reported.add(hole.from..hole.until);
            }
        }
        assert_eq!(reported, self.lost, "{what}: the holes that are reported");
        assert_eq!(status.next, self.next, "{what}");
    }
}

/// The lost ranges of a log's status.
pub fn reported(status: &LogStatus) -> Numbers {
    let mut lost = Numbers::default();
    for hole in status.holes.iter().filter(|hole| hole.reason == HoleReason::Lost) {
        lost.add(hole.from..hole.until);
    }
    lost
}
