//! A target's settings, ready for use: clients, static headers, token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use tracing::error;

use super::Error;
use super::config::{Config, TargetConfig};
use crate::lookups::Lookups;

/// Orion may close an idle connection at any time; sooner is safer for us.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Endpoint {
    /// Lower case; empty for the default target.
    pub tenant: String,
    /// Without a slash at its end.
    pub url: String,
    /// Static headers, in lower case.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub token_header: HeaderName,
    token_prefix: String,
    token_file: Option<PathBuf>,
    pub timeout: Duration,
    /// Keeps its connections.
    pub client: reqwest::Client,
    /// Makes a new connection each time: a kept one that Orion is just closing
    /// loses the answer, and some requests must not be sent twice.
    pub fresh: reqwest::Client,
}

impl Endpoint {
    /// All targets of a configuration, the default one first.
    pub(super) fn all(config: &Config) -> Result<Vec<Self>, Error> {
        let targets = config.targets();
        for (at, target) in targets.iter().enumerate().skip(1) {
            if target.tenant.is_empty() {
                return Err(Error::Config("an [[orion.target]] needs a tenant".to_owned()));
            }
            if targets[..at].iter().any(|other| other.tenant == target.tenant) {
                let tenant = &target.tenant;
                let twice = format!("two [[orion.target]] are for the tenant {tenant}");
                return Err(Error::Config(twice));
            }
        }
        if config.parallel == 0 || config.window == 0 || config.timeout.is_zero() {
            let zero = "parallel, window and timeout of [orion] must be more than 0";
            return Err(Error::Config(zero.to_owned()));
        }
        targets.into_iter().map(|target| Self::new(target, config.timeout)).collect()
    }

    fn new(config: TargetConfig, timeout: Duration) -> Result<Self, Error> {
        let url = config.url.unwrap_or_default();
        let wrong = |why: &str| Error::Config(format!("orion.url {url:?} {why}"));
        let parsed = reqwest::Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("must have no ? or #"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Error::Config(
                "orion.url must hold no password; use token_file".to_owned(),
            ));
        }
        let mut headers = Vec::new();
        for (name, value) in &config.headers {
            let bad = || Error::Config(format!("orion.headers: {name:?} is not allowed in HTTP"));
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.push((HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value));
        }
        let token_header = config.token_header.unwrap_or_default();
        let (name, scheme) = token_header.split_once(':').unwrap_or((&token_header, ""));
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let token_header_name = name.map_err(|_| {
            Error::Config(format!("orion.token_header {token_header:?} is no header"))
        })?;
        let scheme = scheme.trim();
        let token_prefix = if scheme.is_empty() { String::new() } else { format!("{scheme} ") };
        let tls = match parsed.scheme() {
            "https" => Some(crate::tls::client_config(config.ca.as_deref(), None)?),
            _ => None,
        };
        let client = |kept: bool| {
            let builder = reqwest::Client::builder()
                .no_proxy()
                .dns_resolver(Arc::new(Lookups::default()))
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .http1_only()
                .timeout(timeout)
                // Less than the whole, so that "not sent" can be told from "no answer".
                .connect_timeout(timeout.mul_f64(0.7))
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(if kept { usize::MAX } else { 0 });
            let builder = match tls.clone() {
                Some(tls) => builder.tls_backend_preconfigured(tls),
                // Without this the system's authorities would be looked for.
                None => builder.tls_certs_only([]),
            };
            builder.build().map_err(|error| Error::Config(format!("orion.url: {error}")))
        };
        crate::tls::install_provider();
        Ok(Self {
            tenant: config.tenant,
            headers,
            token_header: token_header_name,
            token_prefix,
            token_file: config.token_file,
            timeout,
            client: client(true)?,
            fresh: client(false)?,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// For people and metrics.
    pub(super) fn name(&self) -> &str {
        if self.tenant.is_empty() { "default" } else { &self.tenant }
    }

    /// The token as it stands in its file now; `None` where there is no file
    /// or it is unreadable, which is reported.
    pub(super) async fn read_token(&self) -> Option<HeaderValue> {
        let path = self.token_file.as_ref()?;
        let token = match tokio::fs::read_to_string(path).await {
            Ok(token) => token,
            Err(error) => {
                error!(target = self.name(), path = %path.display(), %error, "the token for Orion cannot be read");
                return None;
            }
        };
        let value = HeaderValue::from_str(&format!("{}{}", self.token_prefix, token.trim()));
        if value.is_err() {
            error!(target = self.name(), path = %path.display(), "the token for Orion holds what no header may hold");
        }
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
