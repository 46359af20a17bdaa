//! The words of the house: a notification, a record, a sequence number, and
//! the JSON line in which both the store and the Spark API carry them.
//!
//! A line is one JSON object and ends with LF; LF never occurs inside it:
//!
//! ```json
//! {"seq":7,"received":"2026-11-22T10:55:08.123456Z","method":"POST","path":"/notify/press?x=1",
//!  "headers":{"fiware-service":"plant1"},"body":"{\"data\":[]}"}
//! ```
//!
//! `received` is by the box's own clock. Where that was not set yet (it said
//! a time before 2025) `"clock":"unset"` follows it: the time is worth
//! nothing then, and the order is that of `seq`, as ever.
//!
//! `body` is the body byte for byte; where it is not UTF-8 the member is
//! `body_base64` instead. A header that came more than once stands in
//! `headers` joined by `, ` (RFC 9110, 5.3); where that, or a value that is
//! not UTF-8, would lose something, `header_lines` holds every header line
//! as `[name, value]`, or `[name, null, base64]`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::timestamp;

/// The number of a record in its log: given out once in an epoch, never reused.
pub type Sequence = u64;

/// One HTTP request (or message) from a context broker or for it, kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// When the gateway had read it, by the box's own clock (UTC).
    pub received: SystemTime,
    /// The HTTP method, upper case.
    pub method: String,
    /// Path and query, as they stood in the request line.
    pub path: String,
    /// Every kept header line, in order; names are lower case, values raw.
    pub headers: Vec<(String, Bytes)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// A notification with its place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: Sequence,
    /// What came.
    pub notification: Notification,
}

/// An encoded notification that still lacks its number: everything of its
/// line behind `{"seq":N,`. Made by the producer, so that the one committer
/// of a log has only to put the number in front.
#[derive(Debug, Clone)]
pub struct Line {
    tail: Bytes,
    received_ms: u64,
}

/// Before this (2025-01-01) no gateway was built: a clock that says so was
/// not set yet. ms since 1970.
const CLOCK_FLOOR_MS: u64 = 1_735_689_600_000;

/// A time in ms since 1970, or 0 where the clock that told it was not set:
/// such a time is no age.
#[must_use]
pub fn trusted_ms(time: SystemTime) -> u64 {
    let ms = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
    u64::try_from(ms).ok().filter(|ms| *ms >= CLOCK_FLOOR_MS).unwrap_or(0)
}

/// Why a line could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the form above.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// A base64 member that is not base64.
    #[error("not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// A `received` that is not RFC 3339.
    #[error("not a time: {0}")]
    Time(#[from] timestamp::Error),
    /// Neither `body` nor `body_base64`.
    #[error("a record without a body")]
    NoBody,
}

impl Line {
    /// Encodes a request. `headers` are its kept lines in order, names in
    /// lower case.
    #[must_use]
    pub fn encode(
        received: SystemTime,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Self {
        // Quotes in a JSON body are escaped: an eighth more is usual.
        let mut out = Vec::with_capacity(320 + body.len() + body.len() / 4);
        out.extend_from_slice(b"\"received\":\"");
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}", timestamp::micros(received));
        out.push(b'"');
        let received_ms = trusted_ms(received);
        if received_ms == 0 {
            out.extend_from_slice(b",\"clock\":\"unset\"");
        }
        out.extend_from_slice(b",\"method\":");
        push_json(&mut out, method);
        out.extend_from_slice(b",\"path\":");
        push_json(&mut out, path);
        push_headers(&mut out, headers);
        if let Ok(text) = std::str::from_utf8(body) {
            out.extend_from_slice(b",\"body\":");
            push_json(&mut out, text);
        } else {
            out.extend_from_slice(b",\"body_base64\":\"");
            out.extend_from_slice(BASE64_STANDARD.encode(body).as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
        Self { tail: out.into(), received_ms }
    }

    /// When it was received, as [`trusted_ms`] tells it.
    #[must_use]
    pub fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// How many bytes the line takes, without its number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.len()
    }

    /// Never: a line holds at least its members' names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// Appends the whole line, with its number, to `out`.
    pub fn write_numbered(&self, seq: Sequence, out: &mut Vec<u8>) {
        let _ = write!(out, "{{\"seq\":{seq},");
        out.extend_from_slice(&self.tail);
    }
}

/// The number of a whole line and when it was received, as [`trusted_ms`]
/// tells it. `None` where the line is not what [`Line`] writes: one JSON
/// object that begins with these two, and LF.
#[must_use]
pub fn stamp_of(line: &[u8]) -> Option<(Sequence, u64)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (seq, rest) = text.strip_prefix("{\"seq\":")?.split_once(",\"received\":\"")?;
    let received = rest.get(..rest.find('"')?)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
    let seq = if is_number { seq.parse().ok()? } else { return None };
    Some((seq, trusted_ms(timestamp::parse(received).ok()?)))
}

impl From<&Notification> for Line {
    fn from(n: &Notification) -> Self {
        let headers: Vec<_> =
            n.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        Self::encode(n.received, &n.method, &n.path, &headers, &n.body)
    }
}

impl Notification {
    /// The first value of a header, where it is UTF-8. `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value).ok()
    }
}

impl Record {
    /// Reads a line, with or without its LF.
    ///
    /// # Errors
    /// Where the line is not what [`Line`] writes.
    pub fn decode(line: &[u8]) -> Result<Self, DecodeError> {
        let stored: StoredLine<'_> = serde_json::from_slice(line)?;
        let body = match (stored.body, stored.body_base64) {
            (Some(text), _) => Bytes::from(text.into_owned().into_bytes()),
            (None, Some(coded)) => Bytes::from(BASE64_STANDARD.decode(coded.as_bytes())?),
            (None, None) => return Err(DecodeError::NoBody),
        };
        let headers = match stored.header_lines {
            None => stored
                .headers
                .into_iter()
                .map(|(name, value)| (name.into_owned(), Bytes::from(value.into_owned())))
                .collect(),
            Some(lines) => {
                let mut headers = Vec::with_capacity(lines.len());
                for line in lines {
                    headers.push(line.into_header()?);
                }
                headers
            }
        };
        Ok(Self {
            seq: stored.seq,
            notification: Notification {
                received: timestamp::parse(&stored.received)?,
                method: stored.method.into_owned(),
                path: stored.path.into_owned(),
                headers,
                body,
            },
        })
    }
}

#[derive(Deserialize)]
struct StoredLine<'a> {
    seq: Sequence,
    #[serde(borrow)]
    received: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    headers: OrderedHeaders<'a>,
    #[serde(borrow)]
    header_lines: Option<Vec<HeaderLine<'a>>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body_base64: Option<Cow<'a, str>>,
}

/// A JSON object whose members stay in their order.
struct OrderedHeaders<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> IntoIterator for OrderedHeaders<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for OrderedHeaders<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = OrderedHeaders<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of header names and values")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    headers.push((name, value));
                }
                Ok(OrderedHeaders(headers))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// serde borrows a `Cow` only as a struct's field; this is that field.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum HeaderLine<'a> {
    Text(Cow<'a, str>, Cow<'a, str>),
    Raw(Cow<'a, str>, (), String),
}

impl HeaderLine<'_> {
    fn into_header(self) -> Result<(String, Bytes), DecodeError> {
        Ok(match self {
            Self::Text(name, value) => (name.into_owned(), Bytes::from(value.into_owned())),
            Self::Raw(name, (), coded) => {
                (name.into_owned(), Bytes::from(BASE64_STANDARD.decode(coded)?))
            }
        })
    }
}

fn push_json(out: &mut Vec<u8>, text: &str) {
    // A str always serialises, and writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn push_headers(out: &mut Vec<u8>, headers: &[(&str, &[u8])]) {
    out.extend_from_slice(b",\"headers\":{");
    let start = out.len();
    let mut plain = true;
    let mut seen: Vec<&str> = Vec::with_capacity(16);
    for &(name, value) in headers {
        let Ok(value) = std::str::from_utf8(value) else {
            plain = false;
            break;
        };
        if seen.contains(&name) {
            plain = false;
            break;
        }
        seen.push(name);
        if out.len() > start {
            out.push(b',');
        }
        push_json(out, name);
        out.push(b':');
        push_json(out, value);
    }
    if plain {
        out.push(b'}');
        return;
    }
    out.truncate(start);
    push_joined_headers(out, headers);
}

/// The form for headers that a plain object cannot hold.
fn push_joined_headers(out: &mut Vec<u8>, headers: &[(&str, &[u8])]) {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for &(name, value) in headers {
        let text = String::from_utf8_lossy(value);
        joined
            .entry(name)
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&text);
            })
            .or_insert_with(|| text.clone().into_owned());
        lines.push(match std::str::from_utf8(value) {
            Ok(value) => HeaderLine::Text(name.into(), value.into()),
            Err(_) => HeaderLine::Raw(name.into(), (), BASE64_STANDARD.encode(value)),
        });
    }
    for (i, (name, value)) in joined.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_json(out, name);
        out.push(b':');
        push_json(out, value);
    }
    out.extend_from_slice(b"},\"header_lines\":");
    // Strings only: this serialises, and writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, &lines);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn round_trip(notification: &Notification) -> Record {
        let mut line = Vec::new();
        Line::from(notification).write_numbered(42, &mut line);
        let first_end = line.iter().position(|b| *b == b'\n');
        assert_eq!(first_end, Some(line.len() - 1), "one line a record");
        Record::decode(&line).unwrap()
    }

    fn any_notification() -> impl Strategy<Value = Notification> {
        let value = prop_oneof![
            "[ -~]{0,20}".prop_map(|s| Bytes::from(s.into_bytes())),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
        ];
        let body = prop_oneof![
            any::<String>().prop_map(|s| Bytes::from(s.into_bytes())),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from),
        ];
        (
            0u64..4_000_000_000_000_000,
            "[A-Z]{1,8}",
            any::<String>(),
            proptest::collection::vec(("[a-d-]{1,3}", value), 0..8),
            body,
        )
            .prop_map(|(micros, method, path, headers, body)| Notification {
                received: UNIX_EPOCH + Duration::from_micros(micros),
                method,
                path,
                headers,
                body,
            })
    }

    proptest! {
        #[test]
        fn whatever_came_is_read_back_byte_for_byte(notification in any_notification()) {
            let record = round_trip(&notification);
            prop_assert_eq!(record.seq, 42);
            prop_assert_eq!(record.notification, notification);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
        }
    }

    #[test]
    fn a_line_has_the_documented_form() {
        let headers = [("fiware-service", &b"plant1"[..])];
        let line = Line::encode(
            timestamp::parse("2026-11-22T10:55:08.123456Z").unwrap(),
            "POST",
            "/notify/press?x=1",
            &headers,
            b"{\"a\":1}",
        );
        let mut out = Vec::new();
        line.write_numbered(7, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"seq":7,"received":"2026-11-22T10:55:08.123456Z","method":"POST","#,
                r#""path":"/notify/press?x=1","headers":{"fiware-service":"plant1"},"#,
                r#""body":"{\"a\":1}"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_time_of_a_clock_that_was_not_set_says_so_and_is_no_age() {
        let line = Line::encode(UNIX_EPOCH + Duration::from_millis(1500), "POST", "/", &[], b"");
        assert_eq!(line.received_ms(), 0);
        let mut out = Vec::new();
        line.write_numbered(7, &mut out);
        let unset = br#"{"seq":7,"received":"1970-01-01T00:00:01.500000Z","clock":"unset","#;
        assert!(out.starts_with(unset), "{}", String::from_utf8_lossy(&out));
        let back = Record::decode(&out).unwrap().notification;
        assert_eq!(back.received, UNIX_EPOCH + Duration::from_millis(1500));
    }

    #[test]
    fn a_repeated_header_survives_and_still_reads_as_one_string() {
        let headers = [("x-a", &b"1"[..]), ("x-b", b"2"), ("x-a", b"3")];
        let line = Line::encode(UNIX_EPOCH, "POST", "/", &headers, b"");
        let mut out = Vec::new();
        line.write_numbered(1, &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["headers"]["x-a"], "1, 3");
        let lines = Record::decode(&out).unwrap().notification.headers;
        let names: Vec<_> = lines.iter().map(|(n, v)| (n.as_str(), v.as_ref())).collect();
        assert_eq!(names, headers);
    }
}
