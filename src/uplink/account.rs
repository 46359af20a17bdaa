//! What a request accounts for: each number of its range is a record in its
//! body, or lies in a hole that it names.

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use crate::record::Sequence;
use crate::store::{Batch, GoneReason};

/// More would make the request's head too long; the rest goes with the next.
const MOST_HOLES: usize = 64;

/// Numbers that carry no record, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Hole {
    from: Sequence,
    until: Sequence,
    reason: &'static str,
}

/// A part of a stream as the relay is told it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub from: Sequence,
    pub until: Sequence,
    pub holes: Vec<Hole>,
    /// Frames as they are stored, one behind the other.
    pub body: Bytes,
    pub frames: usize,
    pub records: u64,
}

impl Account {
    /// Of what was read from `from` on. What lies between its groups was never
    /// given out: reading skips nothing else.
    pub(super) fn of(from: Sequence, read: Batch) -> Self {
        let (mut at, mut records) = (from, 0);
        let (mut holes, mut body) = (Vec::new(), BytesMut::new());
        let mut unused = |from, until| {
            if from < until {
                holes.push(Hole { from, until, reason: "unused" });
            }
            holes.len() < MOST_HOLES
        };
        body.reserve(read.groups.iter().map(|group| group.frame.len()).sum());
        let mut frames = 0;
        for group in read.groups {
            if !unused(at, group.header.first) {
                return Self {
                    from,
                    until: group.header.first,
                    holes,
                    body: body.freeze(),
                    frames,
                    records,
                };
            }
            frames += 1;
            body.extend_from_slice(&group.frame);
            records += u64::from(group.header.count);
            at = group.header.first + u64::from(group.header.count);
        }
        unused(at, read.next);
        Self { from, until: read.next, holes, body: body.freeze(), frames, records }
    }

    /// Of numbers that cannot be read any more.
    pub(super) fn gone(from: Sequence, until: Sequence, reason: GoneReason) -> Self {
        let reason = match reason {
            GoneReason::Acknowledged => "acknowledged",
            GoneReason::Evicted => "evicted",
            GoneReason::Lost => "lost",
        };
        let holes = vec![Hole { from, until, reason }];
        Self { from, until, holes, body: Bytes::new(), frames: 0, records: 0 }
    }

    /// The query of the request, without the epoch.
    pub(super) fn query(&self) -> String {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        let Self { from, until, .. } = self;
        let range = format!("from={from}&until={until}");
        if self.holes.is_empty() {
            return range;
        }
        // Plain strings and numbers always serialise.
        let holes = serde_json::to_string(&self.holes).unwrap_or_default();
        format!("{range}&holes={}", utf8_percent_encode(&holes, NON_ALPHANUMERIC))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_were_never_given_out_are_named_behind_the_last_record_too() {
        let account = Account::of(5, Batch { groups: Vec::new(), next: 65_536 });
        assert_eq!((account.from, account.until, account.records), (5, 65_536, 0));
        assert_eq!(account.holes, [Hole { from: 5, until: 65_536, reason: "unused" }]);
        let nothing = Account::of(5, Batch { groups: Vec::new(), next: 5 });
        assert!(nothing.holes.is_empty());
    }

    #[test]
    fn a_hole_goes_into_the_query_in_a_form_that_no_proxy_changes() {
        let query = Account::gone(0, 7, GoneReason::Evicted).query();
        let (range, holes) = query.split_once("&holes=").unwrap();
        assert_eq!(range, "from=0&until=7");
        let holes = percent_encoding::percent_decode_str(holes).decode_utf8().unwrap();
        assert_eq!(holes, r#"[{"from":0,"until":7,"reason":"evicted"}]"#);
    }
}
