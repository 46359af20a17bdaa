//! A notification as Orion 4.7 and Orion-LD put it on the wire.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

/// The subscription that notifications name unless told otherwise.
pub const SUBSCRIPTION: &str = "6b02ca0a7877078ce701fe9a";

/// One notification; the fields are what a subscription can change.
#[derive(Debug, Clone)]
pub struct Notification {
    pub method: String,
    /// Absent for the default tenant.
    pub service: Option<String>,
    pub service_path: String,
    pub auth_token: Option<String>,
    /// Absent where the body is empty.
    pub content_type: Option<String>,
    /// Each sent one has its own unless told.
    pub correlator: Option<String>,
    pub format: String,
    /// Of `httpCustom`: Orion lower-cases their names.
    pub custom_headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Notification {
    fn new(format: &str, content_type: Option<&str>, body: Vec<u8>) -> Self {
        Self {
            method: "POST".into(),
            service: None,
            service_path: "/".into(),
            auth_token: None,
            content_type: content_type.map(str::to_owned),
            correlator: None,
            format: format.into(),
            custom_headers: Vec::new(),
            body,
        }
    }

    /// `normalized`, `keyValues` or `values`, with these entities in `data`.
    pub fn of(format: &str, entities: &[Value]) -> Self {
        let body = json!({"subscriptionId": SUBSCRIPTION, "data": entities});
        Self::new(format, Some("application/json; charset=utf-8"), body.to_string().into_bytes())
    }

    /// A reading that can be told from every other: its value is its number.
    pub fn reading(number: u64) -> Self {
        let value = json!({"type": "Number", "value": number, "metadata": {}});
        let id = format!("urn:Press:{}", number % 10);
        Self::of("normalized", &[json!({"id": id, "type": "Press", "reading": value})])
    }

    /// The payload of an `httpCustom`.
    pub fn custom(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("custom", Some(content_type), body.into())
    }

    /// `"payload": null`: `Content-Length: 0` and no `Content-Type`.
    pub fn empty() -> Self {
        Self::new("custom", None, Vec::new())
    }

    #[must_use]
    pub fn tenant(mut self, service: &str, service_path: &str) -> Self {
        self.service = Some(service.into());
        self.service_path = service_path.into();
        self
    }

    /// The bytes on the wire, headers spelled and ordered as captured.
    pub fn to_bytes(&self, to: SocketAddr, path: &str, correlator: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: orion/4.7.0-next libcurl/7.88.1\r\n",
            self.method
        );
        let mut header = |name: &str, value: &str| {
            let _ = write!(head, "{name}: {value}\r\n");
        };
        if let Some(service) = &self.service {
            header("Fiware-Service", service);
        }
        header("Fiware-Servicepath", &self.service_path);
        if let Some(token) = &self.auth_token {
            header("X-Auth-Token", token);
        }
        header("Accept", "application/json");
        header("Content-Length", &self.body.len().to_string());
        if let Some(content_type) = &self.content_type {
            header("Content-Type", content_type);
        }
        header("Fiware-Correlator", correlator);
        header("Ngsiv2-AttrsFormat", &self.format);
        for (name, value) in &self.custom_headers {
            header(&name.to_lowercase(), value);
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}
