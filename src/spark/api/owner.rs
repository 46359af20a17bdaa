//! Whose streams and write-backs a path is about.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::access::{Identity, On, Right};
use super::Session;
use super::refusals::{Refused, not_found};
use crate::store::{Log, RemoteGateway};

/// Whom a path names.
pub(super) enum Owner {
    /// This gateway.
    Own,
    /// A gateway that this one is the relay of.
    Remote(Arc<RemoteGateway>),
    /// One that is not known here yet, and asks itself.
    New(String),
}

impl Session {
    /// Who owns a path, and the path without `/gateways/{name}`.
    pub(super) fn owner_of<'a>(
        &self,
        who: &Identity,
        path: &'a str,
    ) -> Result<(Owner, Cow<'a, str>), Refused> {
        let (version, rest) =
            match (path.strip_prefix("/v1/gateways/"), path.strip_prefix("/gateways/")) {
                (Some(rest), _) => ("/v1", rest),
                (None, Some(rest)) => ("", rest),
                (None, None) => return Ok((Owner::Own, Cow::Borrowed(path))),
            };
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let rest = Cow::Owned(format!("{version}/{rest}"));
        if name == self.api.id {
            return Ok((Owner::Own, rest));
        }
        if let Some(remote) = self.api.store.remote(name) {
            return Ok((Owner::Remote(remote), rest));
        }
        let itself = who.0.eq_ignore_ascii_case(name);
        let on = On { gateway: Some(name), stream: None };
        if itself && self.api.access.load().may(who, Right::Uplink, on) {
            return Ok((Owner::New(name.to_owned()), rest));
        }
        Err(not_found(&format!(
            "there is no gateway {name} here; this is {}, see /v1/gateways for those it is the relay of",
            self.api.id
        )))
    }

    /// The gateway's name.
    pub(super) fn name_of<'a>(&'a self, owner: &'a Owner) -> &'a str {
        match owner {
            Owner::Own => &self.api.id,
            Owner::Remote(remote) => remote.name(),
            Owner::New(name) => name,
        }
    }

    /// How a log of its is called in metrics.
    pub(super) fn label(owner: &Owner, log: &str) -> String {
        match owner {
            Owner::Own => log.to_owned(),
            Owner::Remote(remote) => format!("{}/{log}", remote.name()),
            Owner::New(name) => format!("{name}/{log}"),
        }
    }

    /// A stream's log: of a replica that of an epoch, where there is one, or
    /// the newest.
    pub(super) fn log_of(
        &self,
        owner: &Owner,
        stream: &str,
        epoch: Option<&str>,
    ) -> Result<Arc<Log>, Refused> {
        let found = match owner {
            Owner::Own => self.api.store.stream(stream),
            Owner::Remote(remote) => {
                remote.replica(stream, epoch).or_else(|| remote.replica(stream, None))
            }
            Owner::New(_) => None,
        };
        let missing = || {
            let text = format!("there is no stream {stream} of {}", self.name_of(owner));
            not_found(&text)
        };
        found.ok_or_else(missing)
    }

    /// Whether a gateway asks about itself, and may.
    pub(super) fn is_its_uplink(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: Option<&str>,
    ) -> bool {
        let name = self.name_of(owner);
        let on = On { gateway: Some(name), stream };
        !matches!(owner, Owner::Own)
            && who.0.eq_ignore_ascii_case(name)
            && self.api.access.load().may(who, Right::Uplink, on)
    }
}
