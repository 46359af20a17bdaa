//! One request to the relay, and what came of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;

use super::Error;
use super::config::Config;
use crate::lookups::Lookups;
use crate::pace::Pace;
use crate::tls;

/// The relay closes connections that are idle for longer.
const IDLE: Duration = Duration::from_secs(10);
/// A line that is quiet for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// TLS included: where a round trip takes two seconds and a fifth of all packets
/// is lost, a connection often needs more than ten seconds, and few need thirty.
const CONNECT: Duration = Duration::from_secs(30);
/// Longer answers are of no relay: what is pulled is asked for in parts.
const MAX_ANSWER: usize = 64 << 20;

/// The settings ready for use.
pub(super) struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    pub url: String,
    pub timeout: Duration,
    /// Most bytes of lines in one request.
    pub max_batch: usize,
    pub pace: Option<Arc<Pace>>,
    pub rate: Option<u64>,
}

/// A request.
pub(super) struct Asked {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub body: Bytes,
    /// The body is zstd frames.
    pub packed: bool,
    /// The relay may wait so long before it answers.
    pub wait: Duration,
    /// What is asked for need not be there.
    pub may_be_missing: bool,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub(super) fn new(method: Method, path: String, body: Bytes) -> Self {
        Self { method, path, body, packed: false, wait: Duration::ZERO, may_be_missing: false }
    }

    pub(super) fn get(path: String) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }
}

impl Client {
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let url = config.url.clone().unwrap_or_default();
        let wrong = |why: &str| Error::Config(format!("uplink.url {url:?} {why}"));
        let parsed = reqwest::Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "https" {
            return Err(wrong("must begin with https://"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("must have no ? or #"));
        }
        let identity = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            _ => None,
        };
        let tls = tls::client_config(config.ca.as_deref(), identity)?;
        tls::install_provider();
        // Of what was sent, so much time may pass until the other end has it: a
        // line that swallows is given up by the kernel before a request may be
        // called too slow. A bad one loses a packet four times in a row now and
        // then, and each repeat takes twice as long to come.
        let unheard = config.timeout / 2;
        let http = reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(Lookups::default()))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT.min(config.timeout))
            .pool_idle_timeout(IDLE)
            .tcp_user_timeout(unheard)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE / 4)
            .tcp_keepalive_retries(3)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| Error::Config(format!("uplink.url: {error}")))?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            timeout: config.timeout,
            max_batch: usize::try_from(config.max_batch).unwrap_or(usize::MAX),
            pace: config.rate.map(|rate| Arc::new(Pace::new(rate))),
            rate: config.rate,
        })
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// What failed on the line, for people. Whether the relay has acted is not
    /// known then.
    pub(super) async fn send(&self, asked: Asked) -> Result<Answer, String> {
        let Asked { method, path, body, packed, wait, .. } = asked;
        let timeout = self.timeout + wait;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.timeout(timeout).header(header::ACCEPT_ENCODING, "zstd");
        if packed {
            request = request.header(header::CONTENT_ENCODING, "zstd");
        }
        let failed = |error: reqwest::Error| {
            if error.is_timeout() && !error.is_connect() {
                format!("no answer within {timeout:?}")
            } else {
                tls::chain(&error)
            }
        };
        let mut answer = request.body(body).send().await.map_err(failed)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("an answer of more than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

impl Answer {
    /// A header that holds a whole number.
    pub(super) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.trim().parse().ok()
    }

    /// The body, where it is of that form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What the relay says of a refusal.
    pub(super) fn says(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Refusal {
            description: String,
        }
        match self.json::<Refusal>() {
            Some(Refusal { description }) => format!("{}: {description}", self.status),
            None => format!("status {}", self.status),
        }
    }

    /// The JSON lines of the body.
    ///
    /// # Errors
    /// Where they do not unpack.
    pub(super) fn lines(&self) -> Result<Vec<u8>, String> {
        use std::io::Read as _;
        if self.headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding != "zstd") {
            return Ok(self.body.to_vec());
        }
        let mut lines = Vec::new();
        let packed = zstd::stream::read::Decoder::new(&self.body[..]);
        let unpacked = packed
            .and_then(|packed| packed.take(MAX_ANSWER as u64 + 1).read_to_end(&mut lines))
            .map_err(|error| format!("an answer that does not unpack: {error}"))?;
        if unpacked > MAX_ANSWER {
            return Err(format!("an answer of more than {MAX_ANSWER} bytes"));
        }
        Ok(lines)
    }
}

/// The name that the relay will know the gateway by: the first DNS name in its
/// certificate.
///
/// # Errors
/// Where the certificate cannot be read.
pub fn certificate_name(cert: &Path) -> Result<Option<String>, tls::Error> {
    let names = tls::names(cert)?;
    let is_dns = |name: &&String| name.parse::<std::net::IpAddr>().is_err() && !name.contains('*');
    Ok(names.iter().find(is_dns).map(|name| name.to_ascii_lowercase()))
}
