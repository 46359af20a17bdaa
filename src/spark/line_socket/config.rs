//! `[[line_socket]]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::size;

/// `[[line_socket]]`: a stream as lines over TCP, for Spark's
/// `socketTextStream` and whatever else reads a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The stream whose records go out.
    pub stream: String,
    /// Its consumer on that stream.
    pub consumer: String,
    /// What a line holds.
    pub form: Form,
    /// What several clients get.
    pub clients: Clients,
    /// What is sent once more to whoever connects after a client has gone.
    pub repeat_window: Window,
    /// How long a client may take nothing of what is sent to it.
    #[serde(with = "crate::units::duration")]
    pub patience: Duration,
    /// Where every client gets all: how long one that has gone is waited for.
    #[serde(with = "crate::units::duration")]
    pub place_expiry: Duration,
    /// Clients at a time; further ones wait in the kernel.
    pub max_clients: usize,
    /// Certificate chain (PEM) for TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authority (PEM) by which every client must have a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9998)),
            stream: crate::store::DEFAULT_STREAM.to_owned(),
            consumer: "line-socket".to_owned(),
            form: Form::Connector,
            clients: Clients::Share,
            repeat_window: Window::Bytes(4 << 20),
            patience: Duration::from_mins(1),
            place_expiry: Duration::from_mins(10),
            max_clients: 16,
            cert: None,
            key: None,
            client_ca: None,
        }
    }
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Time, headers and normalized body, as the FIWARE `PySpark` Connector wrote it.
    Connector,
    /// The body alone.
    Body,
}

/// What several clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// Each record goes to one of them.
    Share,
    /// Each record goes to each of them.
    Repeat,
}

/// How much of what a client's kernel has acknowledged may be lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last so many records: `"1000"`.
    Records(usize),
    /// The last so many bytes of lines: `"4MiB"`.
    Bytes(u64),
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => write!(f, "{records}"),
            Self::Bytes(bytes) => f.write_str(&size::display(*bytes)),
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a number of records, as \"1000\", or a size, as \"4MiB\"";
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORM)
            }

            fn visit_u64<E: serde::de::Error>(self, records: u64) -> Result<Window, E> {
                let records = usize::try_from(records).unwrap_or(usize::MAX);
                // Each is remembered for each client.
                if records > MOST_RECORDS {
                    return Err(E::custom("at most 1000000 records"));
                }
                Ok(Window::Records(records))
            }

            fn visit_i64<E: serde::de::Error>(self, records: i64) -> Result<Window, E> {
                self.visit_u64(u64::try_from(records).map_err(|_| E::custom(FORM))?)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Window, E> {
                if let Ok(records) = text.trim().parse() {
                    return self.visit_u64(records);
                }
                let bytes: bytesize::ByteSize = text.parse().map_err(|_| E::custom(FORM))?;
                Ok(Window::Bytes(bytes.as_u64()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

const MOST_RECORDS: usize = 1_000_000;
