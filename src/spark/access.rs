//! Who may do what: names from certificates or bearer tokens, and what each
//! is granted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::serve::Client;

/// Something that a client may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Read records and states.
    Read,
    /// Move and remove consumers' positions.
    Acknowledge,
    /// Write to Orion.
    WriteBack,
    /// Append to replicas.
    Uplink,
}

/// `[[client]]`: what the client of a name may do. Where no client is listed,
/// everyone who can authenticate may read, acknowledge and write back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// The DNS name in its certificate, or the name before its token; `*` is
    /// any name.
    pub name: String,
    /// What it may do.
    pub allow: Vec<Right>,
    /// On which streams; all where none is listed.
    pub streams: Vec<String>,
    /// Of which gateways; all where none is listed.
    pub gateways: Vec<String>,
}

/// Everything that decides who may do what; read anew on SIGHUP.
#[derive(Debug, Clone, Default)]
pub struct Access {
    grants: Vec<Grant>,
    tokens: Vec<(String, String)>,
    denied: BTreeSet<String>,
    replaced: CancellationToken,
}

/// Why a file of tokens or denied names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is not of its form. The line is not shown: it may hold a secret.
    #[error("{}:{line}: a line is NAME TOKEN, or a TOKEN alone, of at least 16 characters", path.display())]
    Token {
        /// In which file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
    },
}

/// What a request is about, as far as grants tell it apart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct On<'a> {
    /// `None`: it concerns no particular one.
    pub gateway: Option<&'a str>,
    /// As above.
    pub stream: Option<&'a str>,
}

/// Somebody known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity(pub String);

/// In a grant: whoever can authenticate.
const ANYBODY: &str = "*";
const SHORTEST_TOKEN: usize = 16;
/// The name of whoever brings a token that stands alone on its line.
const UNNAMED: &str = "token";

impl Access {
    /// Reads the files of tokens (`NAME TOKEN` or `TOKEN` a line) and of
    /// denied names (one a line); `#` begins a comment.
    ///
    /// # Errors
    /// Where a file cannot be read, or a token is too short.
    pub fn load(
        grants: Vec<Grant>,
        token_file: Option<&Path>,
        deny_file: Option<&Path>,
    ) -> Result<Self, AccessError> {
        let mut tokens = Vec::new();
        if let Some(path) = token_file {
            for (line, text) in lines(path)? {
                let mut words = text.split_whitespace();
                let (name, token) = match (words.next(), words.next(), words.next()) {
                    (Some(token), None, None) => (UNNAMED, token),
                    (Some(name), Some(token), None) => (name, token),
                    _ => return Err(AccessError::Token { path: path.to_owned(), line }),
                };
                if token.len() < SHORTEST_TOKEN {
                    return Err(AccessError::Token { path: path.to_owned(), line });
                }
                tokens.push((name.to_owned(), token.to_owned()));
            }
        }
        let denied = match deny_file {
            None => BTreeSet::new(),
            Some(path) => lines(path)?.into_iter().map(|(_, name)| name.to_lowercase()).collect(),
        };
        Ok(Self { grants, tokens, denied, replaced: CancellationToken::new() })
    }

    /// Puts another one in its place; who was let in by the old one is asked
    /// again.
    pub fn replace(place: &ArcSwap<Self>, new: Self) {
        place.swap(Arc::new(new)).replaced.cancel();
    }

    /// Waits until another one stands in its place.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// Who sends this, where it is anybody known and not denied.
    pub(super) fn identify(&self, client: &Client, headers: &HeaderMap) -> Option<Identity> {
        let name = match &client.name {
            Some(name) => Some(name.clone()),
            None => self.name_of_token(headers),
        }?;
        (!self.denied.contains(&name.to_lowercase())).then_some(Identity(name))
    }

    fn name_of_token(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let given = value.strip_prefix(b"Bearer ")?;
        // Every token is compared, so that the time tells nothing.
        let mut found = None;
        for (name, token) in &self.tokens {
            if bool::from(given.ct_eq(token.as_bytes())) {
                found = Some(name.clone());
            }
        }
        found
    }

    /// Whether somebody may do something, on a stream and of a gateway where it
    /// concerns one.
    pub(super) fn may(&self, who: &Identity, right: Right, on: On<'_>) -> bool {
        if self.grants.is_empty() {
            return right != Right::Uplink;
        }
        let is_theirs =
            |grant: &&Grant| grant.name == ANYBODY || grant.name.eq_ignore_ascii_case(&who.0);
        let within = |listed: &[String], name: Option<&str>| {
            listed.is_empty() || name.is_none_or(|name| listed.iter().any(|listed| listed == name))
        };
        self.grants.iter().filter(is_theirs).any(|grant| {
            grant.allow.contains(&right)
                && within(&grant.streams, on.stream)
                && within(&grant.gateways, on.gateway)
        })
    }
}

fn lines(path: &Path) -> Result<Vec<(usize, String)>, AccessError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| AccessError::Read { path: path.to_owned(), source })?;
    Ok(text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default().trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn bearer(token: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(token));
        headers
    }

    fn access(grants: Vec<Grant>, tokens: &str, denied: &str) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        let (token_file, deny_file) = (folder.path().join("tokens"), folder.path().join("denied"));
        std::fs::write(&token_file, tokens).unwrap();
        std::fs::write(&deny_file, denied).unwrap();
        Access::load(grants, Some(&token_file), Some(&deny_file))
    }

    #[test]
    fn a_token_names_its_client_and_a_wrong_one_nobody() {
        let access = access(vec![], "spark-1 0123456789abcdef # job\n", "").unwrap();
        let who = |value| access.identify(&Client::default(), &bearer(value));
        assert_eq!(who("Bearer 0123456789abcdef"), Some(Identity("spark-1".to_owned())));
        assert_eq!(who("Bearer 0123456789abcdeg"), None);
        assert_eq!(who("0123456789abcdef"), None);
    }

    #[test]
    fn a_denied_name_is_nobody() {
        let access = access(vec![], "", "Spark-1\n").unwrap();
        let client = |name: &str| Client { address: None, name: Some(name.to_owned()) };
        assert_eq!(access.identify(&client("spark-1"), &HeaderMap::new()), None);
        assert!(access.identify(&client("spark-2"), &HeaderMap::new()).is_some());
    }

    #[test]
    fn a_listed_client_may_do_what_is_listed_and_nothing_else() {
        let grant = Grant {
            name: "spark-1".to_owned(),
            allow: vec![Right::Read],
            streams: vec!["press".to_owned()],
            gateways: vec!["edge1".to_owned()],
        };
        let access = access(vec![grant], "", "").unwrap();
        let who = Identity("spark-1".to_owned());
        let on = |gateway, stream| On { gateway: Some(gateway), stream: Some(stream) };
        assert!(access.may(&who, Right::Read, on("edge1", "press")));
        assert!(!access.may(&who, Right::Read, on("edge1", "oven")));
        assert!(!access.may(&who, Right::Read, on("edge2", "press")));
        assert!(!access.may(&who, Right::Acknowledge, on("edge1", "press")));
        assert!(!access.may(&Identity("other".to_owned()), Right::Read, on("edge1", "press")));
    }

    #[test]
    fn a_star_lets_any_name_in_and_without_a_grant_nobody_may_hand_anything_over() {
        let who = Identity("edge7".to_owned());
        let fleet = Grant { name: "*".to_owned(), allow: vec![Right::Uplink], ..Grant::default() };
        let open = access(vec![fleet], "", "").unwrap();
        assert!(open.may(&who, Right::Uplink, On::default()));
        assert!(!open.may(&who, Right::Read, On::default()));
        let bare = access(vec![], "", "").unwrap();
        assert!(!bare.may(&who, Right::Uplink, On::default()));
        assert!(bare.may(&who, Right::Read, On::default()));
    }

    #[test]
    fn a_short_token_is_refused_by_its_line_without_showing_it() {
        let error = access(vec![], "\nspark-1 hunter2\n", "").unwrap_err().to_string();
        assert!(error.contains(":2:") && !error.contains("hunter2"), "{error}");
    }
}
