//! The words of the write-back log: what Spark wants written to Orion, as
//! the HTTP requests that asked for it.
//!
//! An entry is a request kept whole, in one of five forms told by its path:
//!
//! | request | meaning |
//! |---|---|
//! | `… /v2/…`, `… /ngsi-ld/v1/…` | one write-back (the pass-through) |
//! | `PUT /write-backs/{query}/{batch}/{attempt}` | rows of one Spark task, staged; the body is JSON lines of [`Row`] |
//! | `POST /write-backs/{query}/{batch}/commit` | the attempts that count, in order, and where they are |
//! | `POST /write-backs/{query}/{batch}/abort` | attempts that do not count |
//! | `POST /pulled` | how far the relay's outbox has been taken over |
//!
//! Write-backs have an order: the entry's number, the attempt's place in its
//! commit, the row's place in its attempt. A commit settles its whole batch:
//! attempts of that query and batch, or of earlier batches, that it does not
//! name are dropped with it.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::record::{Line, Notification, Record, Sequence};

/// Consumer of the write-back log: every write-back of an entry below its
/// position has an outcome.
pub const APPLIED: &str = "replay";
/// Consumer of the write-back log: no staged attempt below its position can
/// still be committed or still has rows to be applied.
pub const STAGED: &str = "stages";

/// Consumer of a relay's outbox: the gateway has pulled every entry below its
/// position.
pub const PULLED: &str = "uplink";

const PREFIX: &str = "/write-backs/";
const PULLED_PATH: &str = "/pulled";
/// In front of a query that came over a relay. No token has it: a query that
/// writes to the gateway itself is never taken for one of the same name.
const OVER_A_RELAY: &str = "~";

/// Names a batch of a Spark query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// The query's own id.
    pub query: String,
    /// Spark's number of the batch.
    pub batch: u64,
}

/// How far a relay's outbox has been taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// Which outbox.
    pub epoch: String,
    /// Every entry below has been.
    pub next: Sequence,
}

impl Batch {
    /// This batch of a relay's outbox, as the gateway calls it.
    #[must_use]
    pub fn over_a_relay(self) -> Self {
        Self { query: format!("{OVER_A_RELAY}{}", self.query), ..self }
    }

    /// Whether it is one of those.
    #[must_use]
    pub fn is_over_a_relay(&self) -> bool {
        Self::is_query_over_a_relay(&self.query)
    }

    /// Whether a query is one whose batches are.
    #[must_use]
    pub fn is_query_over_a_relay(query: &str) -> bool {
        query.starts_with(OVER_A_RELAY)
    }
}

/// An attempt that a commit names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its token.
    pub attempt: String,
    /// The number of the entry that staged it.
    pub seq: Sequence,
}

/// An entry of the write-back log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// One write-back.
    Request(Request),
    /// Rows that count once a commit names them.
    Staged {
        /// Whose.
        batch: Batch,
        /// The task's token.
        attempt: String,
        /// JSON lines; read them with [`rows`].
        rows: Bytes,
    },
    /// Staged rows that count now.
    Commit {
        /// Whose.
        batch: Batch,
        /// In the order in which they are applied.
        attempts: Vec<Attempt>,
        /// The query has ended with it: nothing comes after.
        once: bool,
    },
    /// Staged rows that never count; all of the batch where none is named.
    Abort {
        /// Whose.
        batch: Batch,
        /// Which.
        attempts: Vec<String>,
    },
    /// The entries before it in the same commit of the log, and whatever was
    /// pulled before them, are those of a relay's outbox up to here.
    Pulled(Pulled),
}

/// A request for Orion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path and query, as Orion is to see it.
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, Bytes)>,
    /// Body, byte for byte.
    pub body: Bytes,
}

/// A row as a Spark task stages it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    method: String,
    path: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// Text that is the body, or JSON that stands for itself.
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

/// Why an entry or a row could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A row of a staged attempt is not of the documented form.
    #[error(
        "row {row}: {source}; a row is {{\"method\":…,\"path\":…,\"headers\":{{…}},\"body\":…}}"
    )]
    Row {
        /// Which, from 1.
        row: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The record is none of the five forms.
    #[error("{method} {path} is not an entry of the write-back log")]
    Form {
        /// Its method.
        method: String,
        /// Its path.
        path: String,
    },
    /// A commit, abort or place of the relay whose body cannot be read.
    #[error("the list of attempts, or the place in the outbox: {0}")]
    Attempts(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct CommitBody {
    attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    once: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct AbortBody {
    attempts: Vec<String>,
}

impl Entry {
    /// The line that the log keeps of it.
    #[must_use]
    pub fn to_line(&self, received: SystemTime) -> Line {
        let own = |method: &str, batch: &Batch, last: &str, body: &[u8]| {
            let path = format!("{PREFIX}{}/{}/{last}", batch.query, batch.batch);
            Line::encode(received, method, &path, &[], body)
        };
        // Plain strings and numbers always serialise.
        let json = |body: serde_json::Result<Vec<u8>>| body.unwrap_or_default();
        match self {
            Self::Request(request) => request.to_line(received),
            Self::Staged { batch, attempt, rows } => own("PUT", batch, attempt, rows),
            Self::Commit { batch, attempts, once } => {
                let body = CommitBody { attempts: attempts.clone(), once: *once };
                own("POST", batch, "commit", &json(serde_json::to_vec(&body)))
            }
            Self::Abort { batch, attempts } => {
                let body = AbortBody { attempts: attempts.clone() };
                own("POST", batch, "abort", &json(serde_json::to_vec(&body)))
            }
            Self::Pulled(pulled) => {
                let body = json(serde_json::to_vec(pulled));
                Line::encode(received, "POST", PULLED_PATH, &[], &body)
            }
        }
    }

    /// Reads an entry back.
    ///
    /// # Errors
    /// Where the record is none of the five forms.
    pub fn from_record(record: Record) -> Result<Self, EntryError> {
        let Notification { method, path, headers, body, .. } = record.notification;
        if path == PULLED_PATH {
            return Ok(Self::Pulled(serde_json::from_slice(&body)?));
        }
        let Some((batch, last)) = own_path(&path) else {
            if path.starts_with("/v2/") || path.starts_with("/ngsi-ld/") {
                return Ok(Self::Request(Request { method, path, headers, body }));
            }
            return Err(EntryError::Form { method, path });
        };
        Ok(match (method.as_str(), last) {
            ("PUT", attempt) => Self::Staged { batch, attempt: attempt.to_owned(), rows: body },
            ("POST", "commit") => {
                let CommitBody { attempts, once } = serde_json::from_slice(&body)?;
                Self::Commit { batch, attempts, once }
            }
            ("POST", "abort") => {
                let AbortBody { attempts } = serde_json::from_slice(&body)?;
                Self::Abort { batch, attempts }
            }
            _ => return Err(EntryError::Form { method, path }),
        })
    }
}

impl Request {
    /// The line that a log keeps of it.
    #[must_use]
    pub fn to_line(&self, received: SystemTime) -> Line {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        Line::encode(received, &self.method, &self.path, &headers, &self.body)
    }

    /// The first value of a header, where it is UTF-8. `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// The rows of a staged attempt, in order.
pub fn rows(lines: &[u8]) -> impl Iterator<Item = Result<Request, EntryError>> {
    let lines = lines.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(at, line)| {
        let failed = |source| EntryError::Row { row: at + 1, source };
        let row: Row<'_> = serde_json::from_slice(line).map_err(failed)?;
        let body = match row.body.map(RawValue::get) {
            None | Some("null") => Bytes::new(),
            Some(text) if text.starts_with('"') => {
                Bytes::from(serde_json::from_str::<String>(text).map_err(failed)?)
            }
            Some(json) => Bytes::copy_from_slice(json.as_bytes()),
        };
        let mut headers: Vec<(String, Bytes)> = row
            .headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), Bytes::from(value)))
            .collect();
        if !body.is_empty() && !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), Bytes::from_static(b"application/json")));
        }
        Ok(Request { method: row.method, path: row.path, headers, body })
    })
}

/// Most headers of a request: as many as the intake and the pass-through take.
pub const MAX_HEADERS: usize = 100;

/// Whether `text` may name a query or an attempt: it stands in a path.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

fn own_path(path: &str) -> Option<(Batch, &str)> {
    let mut parts = path.strip_prefix(PREFIX)?.splitn(3, '/');
    let (query, batch, last) = (parts.next()?, parts.next()?, parts.next()?);
    Some((Batch { query: query.to_owned(), batch: batch.parse().ok()? }, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(entry: &Entry) -> Entry {
        let mut line = Vec::new();
        entry.to_line(SystemTime::now()).write_numbered(3, &mut line);
        Entry::from_record(Record::decode(&line).unwrap()).unwrap()
    }

    #[test]
    fn every_entry_is_read_back_as_it_was() {
        let batch = Batch { query: "q-1".to_owned(), batch: 7 };
        let attempt = "0-abc".to_owned();
        let entries = [
            Entry::Staged { batch: batch.clone(), attempt: attempt.clone(), rows: "x\n".into() },
            Entry::Commit {
                batch: batch.clone(),
                attempts: vec![Attempt { attempt: attempt.clone(), seq: 9 }],
                once: true,
            },
            Entry::Abort { batch, attempts: vec![attempt] },
            Entry::Pulled(Pulled { epoch: "ab12".to_owned(), next: 17 }),
            Entry::Request(Request {
                method: "PATCH".to_owned(),
                path: "/v2/entities/a/attrs?type=T".to_owned(),
                headers: vec![("fiware-service".to_owned(), "plant1".into())],
                body: "{}".into(),
            }),
        ];
        for entry in entries {
            assert_eq!(there_and_back(&entry), entry);
        }
    }

    #[test]
    fn a_row_may_give_its_body_as_json_or_as_text() {
        let lines = concat!(
            r#"{"method":"PATCH","path":"/v2/entities/a/attrs","body":{"t":{"value":1.50}}}"#,
            "\n\n",
            r#"{"method":"PUT","path":"/v2/x","headers":{"Content-Type":"text/plain"},"body":"1.50"}"#,
            "\n",
            r#"{"method":"DELETE","path":"/v2/entities/a"}"#,
        );
        let rows: Vec<Request> = rows(lines.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(rows[0].body, r#"{"t":{"value":1.50}}"#);
        assert_eq!(rows[0].header("content-type"), Some("application/json"));
        assert_eq!(
            (rows[1].body.as_ref(), rows[1].header("content-type")),
            (&b"1.50"[..], Some("text/plain"))
        );
        assert!(rows[2].body.is_empty() && rows[2].headers.is_empty());
    }

    #[test]
    fn a_bad_row_is_named_by_its_number() {
        let error = rows(b"{\"method\":\"GET\",\"path\":\"/\"}\n{}").nth(1).unwrap().unwrap_err();
        assert!(error.to_string().starts_with("row 2: missing field `method`"), "{error}");
    }
}
