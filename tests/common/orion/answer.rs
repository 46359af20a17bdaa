//! The broker's answers, spelled as Orion 4.7 spells them.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// An answer before it is put on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Option<Value>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    pub fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// An `NGSIv2` error.
    pub fn v2(status: u16, error: &str, description: impl Into<String>) -> Self {
        Self::json(status, json!({"error": error, "description": description.into()}))
    }

    /// An NGSI-LD error.
    pub fn ld(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::json(status, ld_problem(status, kind, title, detail))
    }

    /// The bytes on the wire. As Orion 4.7 does: a 204 has no
    /// `Content-Length`, every other answer has one.
    ///
    /// # Panics
    /// Where a test gives a 204 a body.
    pub fn to_bytes(&self, correlator: &str) -> Vec<u8> {
        assert!(self.status != 204 || self.body.is_none(), "a 204 has no body: {self:?}");
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: Sun, 22 Nov 2026 10:55:06 GMT\r\n\
             Fiware-Correlator: {correlator}\r\n",
            self.status,
            reason(self.status)
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.body.is_some() {
            head.push_str("Content-Type: application/json\r\n");
        }
        if self.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        head.push_str(&body);
        head.into_bytes()
    }
}

/// An NGSI-LD problem, alone or inside a 207.
pub fn ld_problem(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Value {
    json!({
        "type": format!("https://uri.etsi.org/ngsi-ld/errors/{kind}"),
        "title": title,
        "detail": detail.into(),
        "status": status,
    })
}

fn reason(status: u16) -> String {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown")
        .to_owned()
}
