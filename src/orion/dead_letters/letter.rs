//! What a dead letter says, and how its log keeps it.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ngsi::EntityKey;
use crate::record::{Line, Record, Sequence};
use crate::write_back::Request;

/// How much of Orion's answer is kept.
pub const MAX_ANSWER: usize = 16 * 1024;

/// A write-back that will not reach Orion by itself, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// What was to be sent; none where it could not even be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<LetterRequest>,
    /// What could not be read, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Why it is here.
    pub reason: String,
    /// Orion's status, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Orion's body, at most [`MAX_ANSWER`] bytes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// The entities it would have changed; empty where that cannot be told.
    pub entities: Vec<Entity>,
    /// Where it stood in the write-back log.
    pub write_back: Place,
    /// When it came here.
    #[serde(with = "crate::timestamp")]
    pub time: SystemTime,
}

/// An entity, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Empty for the default tenant.
    pub tenant: String,
    /// Its id.
    pub id: String,
}

/// Names a write-back: its log, the entry, and the place in that.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Epoch of the write-back log.
    pub log: String,
    /// Number of the entry.
    pub seq: Sequence,
    /// Place of the attempt in its commit.
    pub attempt: u32,
    /// Place of the row in its attempt.
    pub row: u32,
    /// Place of the part in a batch cut for Orion's limit.
    pub part: u32,
}

/// The request of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterRequest {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header lines whose values are text.
    pub headers: Vec<(String, String)>,
    /// The other header lines, values in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers_base64: Vec<(String, String)>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl From<&Request> for LetterRequest {
    fn from(request: &Request) -> Self {
        let mut headers = Vec::new();
        let mut headers_base64 = Vec::new();
        for (name, value) in &request.headers {
            match std::str::from_utf8(value) {
                Ok(text) => headers.push((name.clone(), text.to_owned())),
                Err(_) => headers_base64.push((name.clone(), BASE64_STANDARD.encode(value))),
            }
        }
        let (body, body_base64) = match std::str::from_utf8(&request.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(BASE64_STANDARD.encode(&request.body))),
        };
        let (method, path) = (request.method.clone(), request.path.clone());
        Self { method, path, headers, headers_base64, body, body_base64 }
    }
}

impl LetterRequest {
    /// The request as the write-back log takes it; `None` where base64 in it
    /// is damaged.
    #[must_use]
    pub fn to_request(&self) -> Option<Request> {
        let decode = |coded: &String| BASE64_STANDARD.decode(coded).ok().map(Bytes::from);
        let mut headers: Vec<(String, Bytes)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), Bytes::from(value.clone())))
            .collect();
        for (name, coded) in &self.headers_base64 {
            headers.push((name.clone(), decode(coded)?));
        }
        let body = match (&self.body, &self.body_base64) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(coded)) => decode(coded)?,
            (None, None) => Bytes::new(),
        };
        Some(Request { method: self.method.clone(), path: self.path.clone(), headers, body })
    }
}

impl From<&EntityKey> for Entity {
    fn from(key: &EntityKey) -> Self {
        Self { tenant: key.tenant.to_string(), id: key.id.clone() }
    }
}

/// How an open dead letter was settled by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It stands in the write-back log again.
    Retried,
    /// It is given up.
    Dropped,
}

/// A record of the dead letters' log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Item {
    Dead(Box<DeadLetter>),
    Resolved { id: Sequence, how: How },
    Superseded { id: Sequence },
}

/// A dead letter on its way into the log: its line, and of the rest what is
/// looked up in memory. Its body may be large, and is here once.
#[derive(Debug)]
pub struct Sealed {
    pub(super) line: Line,
    /// The letter without request and answer.
    pub(super) rest: Box<DeadLetter>,
}

impl From<DeadLetter> for Sealed {
    fn from(letter: DeadLetter) -> Self {
        let whole = Item::Dead(Box::new(letter));
        let line = whole.to_line();
        let Item::Dead(mut rest) = whole else { unreachable!("made so above") };
        (rest.request, rest.answer, rest.unreadable) = (None, None, None);
        Self { line, rest }
    }
}

impl Item {
    pub(super) fn to_line(&self) -> Line {
        // Strings, numbers and times always serialise.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Line::encode(SystemTime::now(), "POST", "/dead-letters", &[], &body)
    }

    pub(super) fn from_record(record: &Record) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&record.notification.body)
    }
}
