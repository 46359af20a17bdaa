//! Settings of the store: `[store]` and `[[stream]]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to new records when a stream has reached its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The oldest segment is deleted, read or not: Orion never resends, so a
    /// refusal would lose the newest instead.
    #[default]
    DropOldest,
    /// New ones are refused until there is room.
    Reject,
}

/// `[store]`: what holds for every stream, unless its `[[stream]]` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes on the disk at which a segment is sealed and the next begun.
    #[serde(with = "crate::units::size")]
    pub segment_bytes: u64,
    /// Longest wait for a fuller group: for as many requests as the last
    /// commit answered, and never longer than that commit took. Fewer, larger
    /// writes spare the flash; a lone client never waits.
    #[serde(with = "crate::units::duration")]
    pub linger: Duration,
    /// How long each commit of a stream waits for more records, however few
    /// come. Each is answered so much later, and the flash written so much
    /// less; none by default. Orion gives up after 5 s.
    #[serde(with = "crate::units::duration")]
    pub gather: Duration,
    /// How long a log that has work may stand still: a single sync takes no
    /// longer on any disk that works. Then the process ends, to be started
    /// anew; at half of it `/ready` says so.
    #[serde(with = "crate::units::duration")]
    pub stuck_after: Duration,
    /// zstd's level for stored groups.
    pub compression_level: i32,
    /// Free bytes of the disk below which a stream counts as full.
    #[serde(with = "crate::units::size")]
    pub min_free: u64,
    /// Most streams there may be; further names go to `default`.
    pub max_streams: usize,
    /// Bytes on the disk that a stream may take.
    #[serde(with = "crate::units::size")]
    pub max_bytes: u64,
    /// Age at which records are deleted, read or not; none without it.
    #[serde(with = "crate::units::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// What happens at `max_bytes` or below `min_free`.
    pub when_full: WhenFull,
    /// How long a consumer may be silent before it no longer holds records.
    #[serde(with = "crate::units::duration::option", skip_serializing_if = "Option::is_none")]
    pub consumer_expiry: Option<Duration>,
    /// How long a consumer that a reader holds by a lease may be silent before
    /// another reader may have it.
    #[serde(with = "crate::units::duration")]
    pub lease_expiry: Duration,
    /// Bytes on the disk for write-backs that wait for Orion. When full, new
    /// ones are refused; none is ever deleted.
    #[serde(with = "crate::units::size")]
    pub write_backs_max_bytes: u64,
    /// Bytes on the disk for dead letters; the oldest go first.
    #[serde(with = "crate::units::size")]
    pub dead_letters_max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            linger: Duration::from_millis(2),
            gather: Duration::ZERO,
            stuck_after: Duration::from_secs(30),
            compression_level: 1,
            min_free: 128 << 20,
            max_streams: 16,
            max_bytes: 2 << 30,
            max_age: None,
            when_full: WhenFull::DropOldest,
            consumer_expiry: None,
            lease_expiry: Duration::from_mins(1),
            write_backs_max_bytes: 1 << 30,
            dead_letters_max_bytes: 64 << 20,
        }
    }
}

/// `[[stream]]`: a stream that is made at start, and what differs for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Its name, `[a-z0-9._-]{1,64}`.
    pub name: String,
    /// As in `[store]`.
    #[serde(with = "crate::units::size::option", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// As in `[store]`.
    #[serde(with = "crate::units::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// As in `[store]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// As in `[store]`.
    #[serde(with = "crate::units::duration::option", skip_serializing_if = "Option::is_none")]
    pub consumer_expiry: Option<Duration>,
}

/// `[relay]`: what is kept for other gateways. Which of them may hand anything
/// over is told by the right `uplink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Most gateways there may be.
    pub max_gateways: usize,
    /// Bytes on the disk for the replica of a stream.
    #[serde(with = "crate::units::size")]
    pub max_bytes: u64,
    /// Age at which records of a replica are deleted, read or not; none
    /// without it.
    #[serde(with = "crate::units::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// What happens at `max_bytes`: the gateway keeps what is refused here.
    pub when_full: WhenFull,
    /// Bytes on the disk at which a segment of a replica or outbox is sealed:
    /// the memory that each of them takes grows with it.
    #[serde(with = "crate::units::size")]
    pub segment_bytes: u64,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            max_gateways: 256,
            max_bytes: 256 << 20,
            max_age: None,
            when_full: WhenFull::Reject,
            segment_bytes: 1 << 20,
        }
    }
}

/// What one log is held to: a stream's settings over the store's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes on the disk.
    pub max_bytes: u64,
    /// Age of a record.
    pub max_age: Option<Duration>,
    /// What happens at the limit.
    pub when_full: WhenFull,
    /// Silence after which a consumer holds nothing any more.
    pub consumer_expiry: Option<Duration>,
    /// Silence after which a lease holds nobody off any more.
    pub lease_expiry: Duration,
    /// Bytes at which a segment is sealed.
    pub segment_bytes: u64,
    /// Free bytes of the disk below which the log counts as full.
    pub min_free: u64,
    /// Wait of a commit for more records.
    pub gather: Duration,
}

impl Config {
    /// The limits of a stream.
    #[must_use]
    pub fn limits_of(&self, stream: Option<&StreamConfig>) -> LogLimits {
        let max_bytes = stream.and_then(|s| s.max_bytes).unwrap_or(self.max_bytes);
        LogLimits {
            max_bytes,
            max_age: stream.and_then(|s| s.max_age).or(self.max_age),
            when_full: stream.and_then(|s| s.when_full).unwrap_or(self.when_full),
            consumer_expiry: stream.and_then(|s| s.consumer_expiry).or(self.consumer_expiry),
            lease_expiry: self.lease_expiry,
            segment_bytes: self.segment_bytes_within(max_bytes),
            min_free: self.min_free,
            gather: self.gather,
        }
    }

    pub(super) fn limits_of_replica(&self, relay: &RelayConfig) -> LogLimits {
        LogLimits {
            max_age: relay.max_age,
            consumer_expiry: self.consumer_expiry,
            segment_bytes: relay.segment_bytes,
            ..self.internal(relay.max_bytes, relay.when_full)
        }
    }

    pub(super) fn limits_of_outbox(&self, relay: &RelayConfig) -> LogLimits {
        LogLimits { segment_bytes: relay.segment_bytes, ..self.limits_of_write_backs() }
    }

    pub(super) fn limits_of_write_backs(&self) -> LogLimits {
        self.internal(self.write_backs_max_bytes, WhenFull::Reject)
    }

    pub(super) fn limits_of_dead_letters(&self) -> LogLimits {
        self.internal(self.dead_letters_max_bytes, WhenFull::DropOldest)
    }

    fn internal(&self, max_bytes: u64, when_full: WhenFull) -> LogLimits {
        LogLimits {
            max_bytes,
            max_age: None,
            when_full,
            consumer_expiry: None,
            lease_expiry: self.lease_expiry,
            segment_bytes: self.segment_bytes_within(max_bytes),
            min_free: self.min_free,
            gather: Duration::ZERO,
        }
    }

    /// A log that may hold little must be able to give up a small part of it.
    fn segment_bytes_within(&self, max_bytes: u64) -> u64 {
        self.segment_bytes.min((max_bytes / 8).max(1 << 20))
    }
}

/// Whether `name` may name a stream.
#[must_use]
pub fn is_stream_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    // `.` and `..` would be folders of their own kind.
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && name.bytes().any(|b| b != b'.')
}
