//! Records out, positions in.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::access::{Identity, On, Right};
use super::super::query::Query;
use super::super::records;
use super::owner::Owner;
use super::refusals::{Refused, bad_request, not_found, position_refused};
use super::{Session, who_are_you};
use crate::record::Sequence;
use crate::serve::{self, Body};
use crate::store::{Acknowledgement, Lease, Log, LogStatus, RemoteGateway};
use crate::write_back::is_token;

/// The body of an acknowledgement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    epoch: Option<String>,
    position: Sequence,
    lease: Option<String>,
    #[serde(default)]
    takes_over: Vec<String>,
}

impl Session {
    /// Who is here, with what: a reader of a whole fleet asks once.
    pub(super) fn gateways(
        &self,
        who: &Identity,
        query: Option<&str>,
    ) -> Result<Response<Body>, Refused> {
        let query = Query::parse(query, &["stream", "right"]).map_err(|e| bad_request(&e))?;
        let only = query.text("stream");
        let right = match query.text("right") {
            None | Some("read") => Right::Read,
            Some("write-back") => Right::WriteBack,
            Some(_) => return Err(bad_request("right is read or write-back")),
        };
        self.grant_any(who, right)?;
        let is_told = |gateway: &str, streams: &[Value]| match right {
            Right::WriteBack => self.may(who, right, gateway, None),
            _ => !streams.is_empty(),
        };
        let mut gateways = Vec::new();
        let (id, remotes) = (&self.api.id, self.api.store.remotes());
        let streams = self.own_streams(who, only, !remotes.is_empty());
        if is_told(id, &streams) {
            gateways.push(json!({ "gateway": id, "streams": streams }));
        }
        for remote in remotes {
            let (id, streams) = (remote.name(), self.streams_of(who, &remote, only));
            if is_told(id, &streams) {
                // Only of another gateway, and null where it has not been heard since
                // the start: what is told of it is a replica, and may be behind.
                let heard = remote.heard().map(|age| age.as_secs());
                gateways.push(json!({ "gateway": id, "heard_seconds": heard, "streams": streams }));
            }
        }
        Ok(serve::json(StatusCode::OK, &json!({ "gateways": gateways })))
    }

    pub(super) fn streams(&self, who: &Identity, owner: &Owner) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::Read, owner, None)?;
        let streams = match owner {
            Owner::Own => self.own_streams(who, None, false),
            Owner::Remote(remote) => self.streams_of(who, remote, None),
            Owner::New(_) => Vec::new(),
        };
        let body = json!({ "gateway": self.name_of(owner), "streams": streams });
        Ok(serve::json(StatusCode::OK, &body))
    }

    /// The states of the own streams that a client may read; on a relay only
    /// of those that are used.
    fn own_streams(&self, who: &Identity, only: Option<&str>, is_relay: bool) -> Vec<Value> {
        let logs = self.api.store.streams();
        let wanted = logs.iter().filter(|log| only.is_none_or(|only| log.name() == only));
        let readable =
            wanted.filter(|log| self.may(who, Right::Read, &self.api.id, Some(log.name())));
        let states = readable.map(|log| log.status());
        let used = states.filter(|log| !is_relay || log.next > 0 || !log.consumers.is_empty());
        used.map(|status| json!(status)).collect()
    }

    /// As [`Session::own_streams`], of another gateway.
    fn streams_of(&self, who: &Identity, remote: &RemoteGateway, only: Option<&str>) -> Vec<Value> {
        let wanted = remote.streams().into_iter();
        let wanted = wanted.filter(|(name, _)| only.is_none_or(|only| name == only));
        let readable =
            wanted.filter(|(name, _)| self.may(who, Right::Read, remote.name(), Some(name)));
        readable.filter_map(|(name, replicas)| state_of(&name, &replicas)).collect()
    }

    fn may(&self, who: &Identity, right: Right, gateway: &str, stream: Option<&str>) -> bool {
        self.api.access.load().may(who, right, On { gateway: Some(gateway), stream })
    }

    fn grant_any(&self, who: &Identity, right: Right) -> Result<(), Refused> {
        if self.api.access.load().may(who, right, On::default()) {
            return Ok(());
        }
        Err(Refused::new(super::not_granted(who, right)))
    }

    pub(super) fn stream(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: &str,
        query: Option<&str>,
    ) -> Result<Response<Body>, Refused> {
        let query = Query::parse(query, &["epoch"]).map_err(|e| bad_request(&e))?;
        let epoch = query.text("epoch");
        if !self.is_its_uplink(who, owner, Some(stream)) {
            self.grant(who, Right::Read, owner, Some(stream))?;
        }
        let log = self.log_of(owner, stream, epoch)?;
        if epoch.is_some_and(|epoch| epoch != log.epoch()) {
            return Err(not_found(&format!("there is no such epoch of stream {stream} here")));
        }
        let state = match owner {
            Owner::Remote(remote) if epoch.is_none() => {
                let streams = remote.streams().into_iter();
                let mut found = streams.filter(|(name, _)| name == stream);
                found.find_map(|(name, replicas)| state_of(&name, &replicas))
            }
            _ => None,
        };
        let state =
            state.unwrap_or_else(|| json!(LogStatus { name: stream.to_owned(), ..log.status() }));
        Ok(serve::json(StatusCode::OK, &state))
    }

    pub(super) async fn records(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: &str,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::Read, owner, Some(stream))?;
        let (query, headers) = (request.uri().query(), request.headers());
        let log = self.log_of(owner, stream, records::epoch_in(query))?;
        let bounds = &self.bounds;
        let answered = records::answer(&log, query, headers, bounds, &self.api.budget, &self.stop);
        let (answer, records, bytes) = answered.await;
        // It may have waited long, and who was denied meanwhile gets nothing.
        if !self.is_still(who, headers) {
            return Ok(who_are_you());
        }
        self.grant(who, Right::Read, owner, Some(stream))?;
        self.api.metrics.sent(&Self::label(owner, stream), records, bytes);
        Ok(answer)
    }

    pub(super) async fn acknowledge(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: &str,
        consumer: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::Acknowledge, owner, Some(stream))?;
        let newest = self.log_of(owner, stream, None)?;
        if !is_token(consumer) {
            return Err(bad_request("a consumer's name is 1 to 128 of A-Z a-z 0-9 . _ : -"));
        }
        let query = Query::parse(request.uri().query(), &["rewind"]);
        let rewind = query.and_then(|query| query.flag("rewind")).map_err(|e| bad_request(&e))?;
        let asked = Acknowledgement { rewind, ..self.acknowledgement(request).await? };
        let log = self.log_of(owner, stream, asked.epoch.as_deref())?;
        let moved = match owner {
            Owner::Remote(remote) => remote.acknowledge(&newest, stream, consumer, asked).await,
            _ => log.acknowledge_as(consumer, asked).await.map(|position| (log.epoch(), position)),
        };
        match moved {
            Ok((epoch, position)) => {
                let body = json!({ "epoch": epoch, "position": position });
                Ok(serve::json(StatusCode::OK, &body))
            }
            Err(error) => Err(position_refused(&log, &error)),
        }
    }

    pub(super) async fn acknowledgement(
        &self,
        request: Request<Incoming>,
    ) -> Result<Acknowledgement, Refused> {
        let (body, _share) = self.body(request).await?;
        let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
            bad_request(&format!("the body is {{\"epoch\":…,\"position\":N}}: {error}"))
        })?;
        let Asked { epoch, position, lease, takes_over } = asked;
        if lease.iter().chain(&takes_over).any(|token| !is_token(token)) {
            return Err(bad_request("a lease is 1 to 128 of A-Z a-z 0-9 . _ : -"));
        }
        let lease = lease.map(|token| Lease { token, takes_over });
        Ok(Acknowledgement { position, epoch, rewind: false, lease })
    }

    pub(super) async fn forget(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: &str,
        consumer: &str,
    ) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::Acknowledge, owner, Some(stream))?;
        let log = self.log_of(owner, stream, None)?;
        let forgotten = match owner {
            Owner::Remote(remote) => remote.forget(stream, consumer).await,
            _ => log.forget(consumer).await,
        };
        match forgotten {
            Ok(true) => Ok(serve::empty(StatusCode::NO_CONTENT)),
            Ok(false) => Err(not_found(&format!("{stream} has no consumer {consumer}"))),
            Err(error) => Err(position_refused(&log, &error)),
        }
    }
}

/// The state of a stream's newest replica, and what there is of earlier ones.
fn state_of(stream: &str, replicas: &[Arc<Log>]) -> Option<Value> {
    let (newest, earlier) = replicas.split_last()?;
    let mut state = json!(LogStatus { name: stream.to_owned(), ..newest.status() });
    let earlier: Vec<Value> = earlier
        .iter()
        .map(|log| log.status())
        .filter(|status| status.records > 0)
        .map(|status| json!(LogStatus { name: stream.to_owned(), ..status }))
        .collect();
    if !earlier.is_empty() {
        state["earlier"] = earlier.into();
    }
    let removed: Vec<_> = replicas.iter().flat_map(|log| log.removed()).collect();
    if !removed.is_empty() {
        state["removed"] = json!(removed);
    }
    Some(state)
}
