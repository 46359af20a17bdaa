//! What was sent and what was acknowledged, to compare with what came out.

use std::collections::BTreeMap;

use crate::common::http::Answer;

/// One notification sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Counted from 0 in the order of sending.
    pub id: u64,
    /// With its `; cbnotif=`: unique unless the notification brought its own.
    pub correlator: String,
    pub body: Vec<u8>,
    /// How often its bytes went out: 2 after libcurl's repeat.
    pub times: u32,
    pub outcome: Outcome,
}

/// What Orion saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    UnderWay,
    /// Any answer at all; Orion takes 500 and 503 for a success too.
    Answered(u16),
    Refused,
    TimedOut,
    Closed,
}

impl Sent {
    /// Whether the receiver promised to keep it.
    pub fn acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(200..=299))
    }
}

#[derive(Debug, Default, Clone)]
pub struct Ledger {
    entries: Vec<Sent>,
}

/// The ledger against what came out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Acknowledged, and did not come out: a broken promise.
    pub missing: Vec<u64>,
    /// Came out more than once.
    pub repeated: Vec<u64>,
    /// Came out, though never sent: correlator and body.
    pub unknown: Vec<(String, Vec<u8>)>,
}

impl Comparison {
    pub fn is_exact(&self) -> bool {
        *self == Self::default()
    }
}

impl Ledger {
    pub(super) fn begin(&mut self, correlator: &str, body: &[u8]) -> u64 {
        let id = self.entries.len() as u64;
        self.entries.push(Sent {
            id,
            correlator: correlator.to_owned(),
            body: body.to_vec(),
            times: 0,
            outcome: Outcome::UnderWay,
        });
        id
    }

    pub(super) fn update(&mut self, id: u64, how: impl FnOnce(&mut Sent)) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.id == id) {
            how(entry);
        }
    }

    pub fn sent(&self) -> &[Sent] {
        &self.entries
    }

    pub fn acknowledged(&self) -> Vec<&Sent> {
        self.entries.iter().filter(|e| e.acknowledged()).collect()
    }

    /// What Orion counts in `failsCounter`: no answer at all.
    pub fn failed(&self) -> Vec<&Sent> {
        let ok = |e: &&Sent| !matches!(e.outcome, Outcome::Answered(_) | Outcome::UnderWay);
        self.entries.iter().filter(ok).collect()
    }

    /// Compares with what came out, as `(Fiware-Correlator, body)`.
    pub fn compare(&self, out: impl IntoIterator<Item = (String, Vec<u8>)>) -> Comparison {
        let mut counted: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
        for record in out {
            *counted.entry(record).or_default() += 1;
        }
        let mut comparison = Comparison::default();
        // Identical notifications are told apart by how many there are.
        for entry in &self.entries {
            let key = (entry.correlator.clone(), entry.body.clone());
            match counted.get_mut(&key) {
                Some(left) if *left > 0 => *left -= 1,
                _ if entry.acknowledged() => comparison.missing.push(entry.id),
                _ => {}
            }
        }
        for ((correlator, body), left) in counted {
            let known = self.entries.iter().find(|e| e.correlator == correlator && e.body == body);
            match known {
                _ if left == 0 => {}
                Some(entry) => comparison.repeated.push(entry.id),
                None => comparison.unknown.push((correlator, body)),
            }
        }
        comparison
    }
}

pub(super) fn outcome(answer: &Answer) -> Outcome {
    Outcome::Answered(answer.status)
}
