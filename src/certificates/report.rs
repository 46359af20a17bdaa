//! What there is to say of a certificate, and what a person is to do.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::tls::{self, date};

/// Before a certificate ends, so long is it warned of.
const WARNING: Duration = Duration::from_hours(30 * 24);
/// A client whose certificate ended so long ago is one that has gone.
const GONE: Duration = Duration::from_hours(7 * 24);
const DAY: u64 = 24 * 60 * 60;

/// Who renews a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The gateway: its own server's certificate.
    OwnServer,
    /// This box's authority, by a person, for a client.
    OwnClient,
    /// This box's authority itself.
    OwnAuthority,
    /// The relay's authority.
    Relay,
    /// The relay's authority itself.
    RelayAuthority,
    /// Somebody else.
    Elsewhere,
    /// Authorities of somebody else.
    Authority,
}

/// A file of certificates in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it is used as: a setting, mostly.
    pub used_as: String,
    /// Who renews it.
    pub origin: Origin,
}

/// How much there is to care about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Concern {
    /// It ends within 30 days.
    Ending,
    /// What is in its file cannot be used; what was there before still is.
    Unusable,
    /// It has ended.
    Expired,
}

/// A certificate in use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// Where it is.
    pub path: PathBuf,
    /// What it is used as: a setting, mostly.
    #[serde(default)]
    pub used_as: String,
    /// When it ends; none where that cannot be read.
    #[serde(with = "crate::timestamp::option")]
    pub not_after: Option<SystemTime>,
    /// Whether there is anything to care about.
    #[serde(default)]
    pub concern: Option<Concern>,
    /// What that is, and what to do.
    pub problem: Option<String>,
}

/// The certificate that a client showed last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The name in it.
    pub client: String,
    /// When it ends.
    #[serde(with = "crate::timestamp")]
    pub not_after: SystemTime,
    /// Whether there is anything to care about.
    pub concern: Option<Concern>,
    /// What that is, and what to do.
    pub problem: Option<String>,
}

impl Certificate {
    /// Reads what matters of a certificate. While the clock is not set nothing
    /// is said of its end.
    #[must_use]
    pub fn of(file: &File, now: SystemTime) -> Self {
        let File { path, used_as, origin } = file.clone();
        let end = match origin {
            Origin::OwnAuthority | Origin::RelayAuthority | Origin::Authority => {
                tls::authority_ends(&path, now)
            }
            _ => tls::not_after(&path),
        };
        match end {
            Err(error) => Self {
                path,
                used_as,
                not_after: None,
                concern: Some(Concern::Unusable),
                problem: Some(error.to_string()),
            },
            Ok(end) => {
                let judged = judge(end, now);
                let problem = judged.as_ref().map(|(_, what)| format!("{what}: {}", file.remedy()));
                let concern = judged.map(|(concern, _)| concern);
                Self { path, used_as, not_after: Some(end), concern, problem }
            }
        }
    }

    /// What its file holds now is not what is in use.
    pub(super) fn is_not_used(&mut self, why: &str) {
        let concern = self.concern.unwrap_or(Concern::Unusable);
        self.concern = Some(concern);
        self.problem = Some(format!("{why}; what was read before stays in use"));
    }
}

impl ClientCertificate {
    /// `None` for a client that has gone.
    pub(super) fn of(client: String, not_after: SystemTime, now: SystemTime) -> Option<Self> {
        let judged = judge(not_after, now);
        if judged.is_some() && not_after + GONE < now {
            return None;
        }
        let problem = judged.as_ref().map(|(_, what)| {
            format!("{what}: run `ngsi-ferry pki renew`, and give the client its new certificate")
        });
        Some(Self { client, not_after, concern: judged.map(|(concern, _)| concern), problem })
    }
}

/// What is to be said of an end, by this clock.
fn judge(end: SystemTime, now: SystemTime) -> Option<(Concern, String)> {
    if tls::is_unset(now) {
        return None;
    }
    match end.duration_since(now) {
        Err(_) => Some((Concern::Expired, format!("expired on {}", date(end)))),
        Ok(left) if left < WARNING => {
            let what = match left.as_secs() / DAY {
                0 => "expires within a day".to_owned(),
                1 => "expires in 1 day".to_owned(),
                days => format!("expires in {days} days"),
            };
            Some((Concern::Ending, format!("{what}, on {}", date(end))))
        }
        Ok(_) => None,
    }
}

impl File {
    /// What a person is to do about its end.
    fn remedy(&self) -> String {
        let path = self.path.display();
        let name = self.path.file_name().unwrap_or_default().display();
        match self.origin {
            Origin::OwnServer => "run `ngsi-ferry pki renew`".to_owned(),
            Origin::OwnClient => format!(
                "run `ngsi-ferry pki renew`, and give the new {name} to the client; its key stays the same"
            ),
            Origin::OwnAuthority => {
                "run `ngsi-ferry pki renew`, and give the new ca.pem to every client".to_owned()
            }
            Origin::Relay => format!(
                "run `ngsi-ferry pki renew` on the relay, and copy this gateway's new certificate to {path}"
            ),
            Origin::RelayAuthority => {
                format!("run `ngsi-ferry pki renew` on the relay, and copy its ca.pem to {path}")
            }
            Origin::Elsewhere => format!(
                "have it renewed by who issued it, and put it at {path}, and its key beside it"
            ),
            Origin::Authority => {
                format!("get the authority's new certificate, and put it at {path}")
            }
        }
    }
}
