//! An Orion-LD subscription: it reads the raw bytes of answers in a way of its
//! own, and pauses after three failures.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// So many failures one after the other pause a subscription.
pub const FAILURES_TO_PAUSE: u32 = 3;

/// A subscription and what Orion-LD thinks of its receiver.
#[derive(Debug)]
pub struct LdSubscription {
    pub id: String,
    pub tenant: Option<String>,
    /// `Normalized`, `Concise` or `Simplified`.
    pub format: String,
    pub answer_timeout: Duration,
    consecutive_failures: u32,
    paused: bool,
}

/// What one notification came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A success, with the status.
    Success(u16),
    /// A failure, with Orion-LD's reason.
    Failure(String),
    /// The subscription is paused: nothing was sent.
    Paused,
}

impl LdSubscription {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            tenant: None,
            format: "Normalized".into(),
            answer_timeout: Duration::from_secs(5),
            consecutive_failures: 0,
            paused: false,
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What a PATCH of the subscription does.
    pub fn activate(&mut self) {
        self.paused = false;
        self.consecutive_failures = 0;
    }

    /// Notifies of these entities, on a connection of its own.
    pub async fn notify(&mut self, to: SocketAddr, path: &str, entities: &[Value]) -> Delivery {
        let raw = self.to_bytes(to, path, entities);
        self.send(to, &raw).await
    }

    /// Sends these very bytes as one notification, a fixture's for example.
    pub async fn send(&mut self, to: SocketAddr, raw: &[u8]) -> Delivery {
        if self.paused {
            return Delivery::Paused;
        }
        let answer = tokio::time::timeout(self.answer_timeout, exchange(to, raw)).await;
        let judged = match answer {
            Err(_) => Err("timeout".to_owned()),
            Ok(Err(e)) => Err(format!("unable to talk to the endpoint: {e}")),
            Ok(Ok(bytes)) => judge(&bytes),
        };
        match judged {
            Ok(status) => {
                self.consecutive_failures = 0;
                Delivery::Success(status)
            }
            Err(reason) => {
                self.consecutive_failures += 1;
                self.paused = self.consecutive_failures >= FAILURES_TO_PAUSE;
                Delivery::Failure(reason)
            }
        }
    }

    /// The bytes on the wire, in Orion-LD's order of headers.
    pub fn to_bytes(&self, to: SocketAddr, path: &str, entities: &[Value]) -> Vec<u8> {
        let body = json!({
            "id": "urn:ngsi-ld:Notification:1",
            "type": "Notification",
            "subscriptionId": self.id,
            "notifiedAt": "2026-11-22T10:00:02.250Z",
            "data": entities,
        })
        .to_string();
        let mut head = format!(
            "POST {path}?subscriptionId={} HTTP/1.1\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nUser-Agent: orionld/1.10.0\r\nHost: {to}\r\n\
             Accept: application/json\r\nNgsild-Attribute-Format: {}\r\n\
             Link: <https://plant.example/context.jsonld>; \
             rel=\"http://www.w3.org/ns/json-ld#context\"; type=\"application/ld+json\"\r\n",
            self.id,
            body.len(),
            self.format
        );
        if let Some(tenant) = &self.tenant {
            let _ = write!(head, "Ngsild-Tenant: {tenant}\r\n");
        }
        format!("{head}\r\n{body}").into_bytes()
    }
}

/// Orion-LD's judgement of an answer: any 2xx is a success, but every status
/// other than 204 needs the literal `Content-Length:`, spelled exactly so, and
/// the whole body.
pub fn judge(answer: &[u8]) -> Result<u16, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of the headers")?;
    let (start, headers) = head.split_once("\r\n").ok_or("no end of the start line")?;
    let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or("no status in the start line")?;
    match content_length(headers) {
        None if status != 204 => {
            return Err("Content-Length not found but the status code is not a 204".into());
        }
        Some(length) if body.len() < length => return Err("unable to read the whole body".into()),
        _ => {}
    }
    if (200..300).contains(&status) {
        Ok(status)
    } else {
        Err(format!("non 2xx response: {status}"))
    }
}

/// Case-sensitive, as Orion-LD looks for it.
fn content_length(headers: &str) -> Option<usize> {
    let (_, rest) = headers.split_once("Content-Length:")?;
    Some(rest.lines().next().unwrap_or_default().trim().parse().unwrap_or(0))
}

/// Reads until there is an answer to judge, or the peer closes.
async fn exchange(to: SocketAddr, raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(raw).await?;
    let mut answer = Vec::new();
    while stream.read_buf(&mut answer).await? > 0 {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= content_length(head).unwrap_or(0)
        {
            break;
        }
    }
    Ok(answer)
}
