//! `[spark]` and `[pass_through]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reading::AnswerBounds;
use crate::pace::Pace;

/// `[spark]`: the API that Spark reads from and writes to, always with TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate chain (PEM); without one, that of the own authority in
    /// `data_dir/pki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authority (PEM) whose client certificates are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens, `NAME TOKEN` a line, for clients without a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Names that may not connect any more, one a line; read anew on SIGHUP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_file: Option<PathBuf>,
    /// Connections at a time; without it as many as there may be gateways
    /// whose relay this one is, and some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Most bytes of lines in one answer, whatever a client asks for.
    #[serde(with = "crate::units::size")]
    pub max_answer: u64,
    /// Longest wait of a long-poll, whatever a client asks for.
    #[serde(with = "crate::units::duration")]
    pub max_wait: Duration,
    /// Part of an answer that live records may take before the backlog, where
    /// a client reads both; 0 to 0.9, and 0 is strict order.
    pub live_share: f64,
    /// Bytes a second on the line for the backlogs of all consumers together;
    /// live records are not held back. Not limited without it.
    #[serde(with = "crate::units::size::option", skip_serializing_if = "Option::is_none")]
    pub drain_rate: Option<u64>,
    /// Most bytes of one staged attempt or write-back; 413 above. A task with
    /// more stages several attempts and commits them together.
    #[serde(with = "crate::units::size")]
    pub max_body: u64,
    /// How long a request may take to send its body.
    #[serde(with = "crate::units::duration")]
    pub body_timeout: Duration,
    /// How long a staged attempt waits for its commit.
    #[serde(with = "crate::units::duration")]
    pub stage_expiry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            cert: None,
            key: None,
            client_ca: None,
            token_file: None,
            deny_file: None,
            max_connections: None,
            max_answer: 8 << 20,
            max_wait: Duration::from_mins(1),
            live_share: 0.25,
            drain_rate: None,
            max_body: 8 << 20,
            body_timeout: Duration::from_mins(2),
            stage_expiry: Duration::from_hours(24),
        }
    }
}

impl Config {
    /// What the settings allow an answer with records.
    pub(super) fn answer_bounds(&self) -> AnswerBounds {
        AnswerBounds {
            max_bytes: self.max_answer,
            max_wait: self.max_wait,
            live_share: self.live_share,
            drain: self.drain_rate.map(|rate| Arc::new(Pace::new(rate))),
        }
    }
}

/// `[pass_through]`: NGSI writes on a listener of their own, for code that
/// wrote to Orion before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PassThroughConfig {
    /// Where it listens; nowhere without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Certificate chain (PEM) for TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Bearer tokens, as `spark.token_file`. Needed with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Allows plain HTTP on an address other than loopback.
    pub allow_plain: bool,
}
