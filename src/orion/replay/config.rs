//! `[orion]`: where write-backs go, and how hard they are pushed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to updates of one entity that pile up while Orion is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coalesce {
    /// Each is sent.
    #[default]
    Off,
    /// Plain updates of the same entity are merged, the newest value winning:
    /// the values between never reach Orion, nor its subscribers.
    Latest,
}

/// `[orion]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Orion is; a path in it stands in front of every write-back's.
    pub url: String,
    /// Requests in flight, for each target.
    pub parallel: usize,
    /// Time for one request, from connecting to the end of the answer.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
    /// How often a write-back may fail, while others succeed, before it goes
    /// to the dead letters; at least twice.
    pub max_attempts: u32,
    /// Upper bound of the first wait after a failure; doubled with each.
    #[serde(with = "crate::units::duration")]
    pub backoff_min: Duration,
    /// Upper bound of every wait.
    #[serde(with = "crate::units::duration")]
    pub backoff_max: Duration,
    /// Requests a second, for each target; not limited without it. What a
    /// tenth of a second allows goes at once, at least one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<f64>,
    /// Whether updates that pile up are merged.
    pub coalesce: Coalesce,
    /// Headers for write-backs that do not carry them. A tenant here is for
    /// write-backs that name none, in either of its two headers.
    pub headers: BTreeMap<String, String>,
    /// File that holds a token, sent with every request in place of any that
    /// the write-back carries. Read again when Orion answers 401 or 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Header for the token, with what stands in front of it:
    /// `"Authorization: Bearer"`, or `"X-Auth-Token"`.
    pub token_header: String,
    /// Most unfinished write-backs in memory. Needs a restart.
    pub window: usize,
    /// PEM file of the authorities that sign Orion's certificate; the
    /// system's without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// `[[orion.target]]`: what differs for a tenant. Adding or removing one
    /// needs a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<TargetConfig>,
}

/// `[[orion.target]]`: what differs for write-backs of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetConfig {
    /// The Fiware-Service or NGSILD-Tenant whose write-backs it takes.
    pub tenant: String,
    /// As in `[orion]`. Another server is not shown the token of `[orion]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// In addition to those of `[orion]`, and before them.
    pub headers: BTreeMap<String, String>,
    /// As in `[orion]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// As in `[orion]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_header: Option<String>,
    /// As in `[orion]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:1026".to_owned(),
            parallel: 8,
            timeout: Duration::from_secs(10),
            max_attempts: 10,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            max_rate: None,
            coalesce: Coalesce::Off,
            headers: BTreeMap::new(),
            token_file: None,
            token_header: "Authorization: Bearer".to_owned(),
            window: 512,
            ca: None,
            target: Vec::new(),
        }
    }
}

impl Config {
    /// The settings of every target, the default one (of no tenant) first.
    pub(super) fn targets(&self) -> Vec<TargetConfig> {
        let default = TargetConfig {
            tenant: String::new(),
            url: Some(self.url.clone()),
            headers: lower(&self.headers),
            token_file: self.token_file.clone(),
            token_header: Some(self.token_header.clone()),
            ca: self.ca.clone(),
        };
        let own = self.target.iter().map(|target| {
            let elsewhere = target.url.as_ref().is_some_and(|url| *url != self.url);
            let mut headers = default.headers.clone();
            headers.extend(lower(&target.headers));
            let inherited = if elsewhere { None } else { self.token_file.clone() };
            TargetConfig {
                tenant: target.tenant.trim().to_ascii_lowercase(),
                url: target.url.clone().or_else(|| default.url.clone()),
                headers,
                token_file: target.token_file.clone().or(inherited),
                token_header: target.token_header.clone().or_else(|| default.token_header.clone()),
                ca: target.ca.clone().or_else(|| self.ca.clone()),
            }
        });
        std::iter::once(default.clone()).chain(own).collect()
    }
}

fn lower(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}
