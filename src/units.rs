//! Durations and sizes as people write them: `"30s"`, `"2GiB"`.
//!
//! Every module's `Config` uses these through `#[serde(with = "…")]`, so that a
//! bad value is told the same way everywhere. The messages never repeat the
//! value: whoever reports them knows whether it may be shown.

use std::fmt;

use serde::de::{Error, Visitor};

const NOT_A_DURATION: &str =
    "not a duration; write a number with its unit, for example \"30s\", \"5min\" or \"2h\"";
const DURATION_WITHOUT_UNIT: &str =
    "a duration needs its unit; write it in quotes with one, for example \"30s\"";
const NEGATIVE_DURATION: &str = "a duration cannot be negative; write for example \"30s\"";
const NOT_A_SIZE: &str = "not a size; write for example \"2GiB\", \"512MiB\" or a number of bytes";
const NEGATIVE_SIZE: &str = "a size cannot be negative; write for example \"2GiB\"";
const HUGE_SIZE: &str = "a size beyond any disk; write for example \"2GiB\"";

/// Whether a message is one of this module's own, which are known to hold
/// nothing of the value they complain about.
#[must_use]
pub fn is_own_message(message: &str) -> bool {
    [NOT_A_DURATION, DURATION_WITHOUT_UNIT, NEGATIVE_DURATION, NOT_A_SIZE, NEGATIVE_SIZE, HUGE_SIZE]
        .contains(&message)
}

/// `#[serde(with = "crate::units::duration")]` for a [`Duration`](std::time::Duration).
pub mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Writes the duration as [`humantime`] does: `"2h 30m"`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads what [`humantime`] reads; a number alone is refused, because
    /// nobody knows whether its writer meant seconds or milliseconds.
    ///
    /// # Errors
    /// Where the value is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(super::DurationVisitor)
    }

    /// The same for an `Option<Duration>`; add `#[serde(default)]` to the field
    /// where the struct does not have it.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        /// As [`super::serialize`].
        ///
        /// # Errors
        /// Those of the serializer.
        #[allow(clippy::ref_option)] // the signature is serde's
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// As [`super::deserialize`].
        ///
        /// # Errors
        /// Where the value is not a duration.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            #[derive(Deserialize)]
            struct Read(#[serde(with = "super")] Duration);
            Ok(Option::<Read>::deserialize(deserializer)?.map(|read| read.0))
        }
    }
}

/// `#[serde(with = "crate::units::size")]` for a `u64` of bytes.
pub mod size {
    use serde::{Deserializer, Serializer};

    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

    /// The size in the largest unit that holds it exactly: `"2GiB"`, `"1000B"`.
    #[must_use]
    pub fn display(bytes: u64) -> String {
        UNITS
            .iter()
            .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
            .map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
    }

    /// Writes the size as [`display`] does, so that it reads back unchanged.
    ///
    /// # Errors
    /// Those of the serializer.
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&display(*bytes))
    }

    /// Reads what [`bytesize`] reads; a number alone is bytes.
    ///
    /// # Errors
    /// Where the value is not a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(super::SizeVisitor)
    }

    /// The same for an `Option<u64>`; add `#[serde(default)]` to the field
    /// where the struct does not have it.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        /// As [`super::serialize`].
        ///
        /// # Errors
        /// Those of the serializer.
        #[allow(clippy::ref_option)] // the signature is serde's
        pub fn serialize<S: Serializer>(
            bytes: &Option<u64>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => super::serialize(bytes, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// As [`super::deserialize`].
        ///
        /// # Errors
        /// Where the value is not a size.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<u64>, D::Error> {
            #[derive(Deserialize)]
            struct Read(#[serde(with = "super")] u64);
            Ok(Option::<Read>::deserialize(deserializer)?.map(|read| read.0))
        }
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = std::time::Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as \"30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let text = text.trim();
        humantime::parse_duration(text).map_err(|_| {
            E::custom(match text.parse::<f64>() {
                Ok(number) if number >= 0.0 => DURATION_WITHOUT_UNIT,
                _ if text.starts_with('-') => NEGATIVE_DURATION,
                _ => NOT_A_DURATION,
            })
        })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Err(E::custom(if number < 0 { NEGATIVE_DURATION } else { DURATION_WITHOUT_UNIT }))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(E::custom(DURATION_WITHOUT_UNIT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom(DURATION_WITHOUT_UNIT))
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a size such as \"2GiB\" or a number of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let text = text.trim();
        let size = text.parse::<bytesize::ByteSize>().map_err(|_| {
            E::custom(if text.starts_with('-') { NEGATIVE_SIZE } else { NOT_A_SIZE })
        })?;
        // The parser saturates instead of failing.
        if size.0 == u64::MAX { Err(E::custom(HUGE_SIZE)) } else { Ok(size.0) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::custom(NEGATIVE_SIZE))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Limits {
        #[serde(with = "super::duration")]
        max_age: Duration,
        #[serde(with = "super::duration::option")]
        expiry: Option<Duration>,
        #[serde(with = "super::size")]
        max_bytes: u64,
        #[serde(with = "super::size::option")]
        warn_at: Option<u64>,
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { max_age: Duration::from_hours(1), expiry: None, max_bytes: 7, warn_at: None }
        }
    }

    fn read(json: &str) -> Result<Limits, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn people_write_units() {
        let limits =
            read(r#"{"max_age":"2h 30min","expiry":"30s","max_bytes":"2GiB","warn_at":1048576}"#);
        assert_eq!(
            limits.unwrap(),
            Limits {
                max_age: Duration::from_mins(150),
                expiry: Some(Duration::from_secs(30)),
                max_bytes: 2 << 30,
                warn_at: Some(1 << 20),
            }
        );
    }

    #[test]
    fn a_number_alone_is_bytes_but_no_duration() {
        assert_eq!(read(r#"{"max_bytes":5}"#).unwrap().max_bytes, 5);
        for json in [r#"{"max_age":5}"#, r#"{"expiry":5}"#, r#"{"max_age":"5"}"#] {
            let message = read(json).unwrap_err();
            assert!(message.contains("needs its unit") && message.contains("\"30s\""), "{message}");
        }
    }

    #[test]
    fn garbage_and_negatives_are_refused() {
        for json in [
            r#"{"max_age":"30 parsecs"}"#,
            r#"{"max_age":"-30s"}"#,
            r#"{"max_age":-30}"#,
            r#"{"max_age":""}"#,
            r#"{"expiry":true}"#,
            r#"{"max_bytes":"2 Gigs"}"#,
            r#"{"max_bytes":"-1"}"#,
            r#"{"max_bytes":-1}"#,
            r#"{"max_bytes":1.5}"#,
            r#"{"max_bytes":"99999999999TiB"}"#,
            r#"{"warn_at":""}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_written_reads_back_unchanged() {
        for max_bytes in [0, 1, 1000, 1024, 1536 << 20, 3 << 40, (1 << 53) + 1] {
            let limits = Limits {
                max_age: Duration::from_millis(86_399_123),
                expiry: Some(Duration::ZERO),
                max_bytes,
                warn_at: Some(max_bytes),
            };
            assert_eq!(read(&serde_json::to_string(&limits).unwrap()).unwrap(), limits);
        }
    }
}
