//! Points in time as text, as RFC 3339 has them. They are read here and not by
//! `humantime`, which knows none after January 2038 where `usize` has 32 bits.
//!
//! For `#[serde(with = "crate::timestamp")]`, and `crate::timestamp::option`.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A text that is no point in time.
pub type Error = time::error::Parse;

/// Reads one.
///
/// # Errors
/// Where the text is not RFC 3339.
pub fn parse(text: &str) -> Result<SystemTime, Error> {
    Ok(OffsetDateTime::parse(text, &Rfc3339)?.into())
}

/// The last that has a text: the end of the year 9999.
const LAST: Duration = Duration::new(253_402_300_799, 999_999_999);

/// One that can be written: those before 1970, and after 9999, have no text
/// here. No clock shows them; a broken certificate may.
fn with_a_text(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)
}

/// Its text, to the microsecond.
#[must_use]
pub fn micros(time: SystemTime) -> impl Display {
    humantime::format_rfc3339_micros(with_a_text(time))
}

/// Writes one, with as many digits of a second as it has.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339(with_a_text(*time)))
}

/// Reads one.
///
/// # Errors
/// Where it is not RFC 3339.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// One that may not be there.
pub mod option {
    use super::{Deserialize, Deserializer, Serializer, SystemTime};

    /// Writes it, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it, or null.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(with = "super")] SystemTime);
        Ok(Option::<Written>::deserialize(deserializer)?.map(|Written(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Certificate {
        #[serde(with = "super")]
        not_after: SystemTime,
        #[serde(default, with = "super::option")]
        renewed: Option<SystemTime>,
    }

    #[test]
    fn times_after_january_2038_are_read_as_they_were_written() {
        for seconds in [0, 1_795_000_000, 1 << 31, 1 << 32, 253_402_300_799] {
            for nanos in [0, 123_456_000, 999_999_999] {
                let not_after = UNIX_EPOCH + Duration::new(seconds, nanos);
                for renewed in [None, Some(not_after)] {
                    let written = Certificate { not_after, renewed };
                    let text = serde_json::to_string(&written).unwrap();
                    let read: Certificate = serde_json::from_str(&text).unwrap();
                    assert_eq!(read, written, "{text}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_text_is_written_as_the_nearest_that_has() {
        for (text, nearest) in [
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999Z"),
        ] {
            let not_after = parse(text).unwrap();
            assert_eq!(micros(not_after).to_string(), nearest);
            serde_json::to_string(&Certificate { not_after, renewed: Some(not_after) }).unwrap();
        }
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        for text in ["", "2026", "2026-11-26", "2026-13-26T00:00:00Z", "26 November", "\u{0}"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Certificate>(r#"{"not_after":1}"#).is_err());
    }
}
