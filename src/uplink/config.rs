//! `[uplink]`: where the relay is, and how much of the line is its.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The relay's Spark API, `https://relay.example:8443`; without it there
    /// is no uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Authority (PEM) that signs the relay's certificate; the system's
    /// without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Certificate (PEM) that the relay knows the gateway by: its first DNS
    /// name is the gateway's `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Bytes a second of records on the line; not limited without it.
    #[serde(with = "crate::units::size::option", skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The streams that the relay gets; all where none is listed. Needs a
    /// restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// Most bytes of lines in one request; on the line they are a fraction.
    #[serde(with = "crate::units::size")]
    pub max_batch: u64,
    /// How long a request may take, beside the wait of a long-poll. Requests
    /// become smaller where the line is too slow for it.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            ca: None,
            cert: None,
            key: None,
            rate: None,
            streams: Vec::new(),
            max_batch: 4 << 20,
            timeout: Duration::from_mins(2),
        }
    }
}

impl Config {
    /// Whether the relay gets this stream.
    #[must_use]
    pub fn sends(&self, stream: &str) -> bool {
        self.streams.is_empty() || self.streams.iter().any(|listed| listed == stream)
    }
}
