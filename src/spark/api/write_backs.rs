//! Write-backs in: staged and committed, or one at a time as NGSI writes. Those
//! for another gateway wait here until it pulls them.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::super::access::{Identity, Right};
use super::super::pass_through::PassThrough;
use super::super::records;
use super::super::staging::{Done, Staging};
use super::owner::Owner;
use super::refusals::{
    Refused, bad_batch, bad_request, not_allowed, not_yours, position_refused, replica_refused,
    staging_refused,
};
use super::{Session, not_granted, who_are_you};
use crate::serve::{self, Body};
use crate::store::{Log, LogStatus};
use crate::write_back::{Batch, PULLED, is_token};

impl Session {
    /// Where write-backs for a gateway are staged.
    async fn staging(&self, who: &Identity, owner: &Owner) -> Result<Arc<Staging>, Refused> {
        self.grant(who, Right::WriteBack, owner, None)?;
        match owner {
            Owner::Own => Ok(Arc::clone(&self.api.staging)),
            Owner::Remote(_) | Owner::New(_) => {
                let staging = self.api.outboxes.of(self.name_of(owner)).await;
                staging.map_err(|error| replica_refused(&error))
            }
        }
    }

    pub(super) async fn pass_through(
        &self,
        who: &Identity,
        owner: &Owner,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        self.grant(who, Right::WriteBack, owner, None)?;
        if matches!(owner, Owner::Own) {
            return Ok(self.api.pass_through.answer(path, request).await);
        }
        let log = self.api.store.outbox_for(self.name_of(owner)).await;
        let log = log.map_err(|error| replica_refused(&error))?;
        Ok(PassThrough { log, ..self.api.pass_through.clone() }.answer(path, request).await)
    }

    pub(super) async fn stage(
        &self,
        who: &Identity,
        owner: &Owner,
        batch: Option<Batch>,
        attempt: String,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let staging = self.staging(who, owner).await?;
        let batch = batch.ok_or_else(bad_batch)?;
        if !is_token(&attempt) || matches!(attempt.as_str(), "commit" | "abort") {
            return Err(bad_batch());
        }
        let (rows, share) = self.body(request).await?;
        let staged = staging.stage(batch, attempt, rows, share).await;
        staged.map(|done| self::done("staged", done)).map_err(|error| staging_refused(&error))
    }

    pub(super) async fn commit(
        &self,
        who: &Identity,
        owner: &Owner,
        batch: Option<Batch>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Commit {
            attempts: Vec<String>,
            #[serde(default)]
            once: bool,
        }
        let staging = self.staging(who, owner).await?;
        let batch = batch.ok_or_else(bad_batch)?;
        let (body, _share) = self.body(request).await?;
        let Commit { attempts, once } = serde_json::from_slice(&body)
            .map_err(|error| bad_request(&format!("the body is {{\"attempts\":[…]}}: {error}")))?;
        let committed = staging.commit(batch, attempts, once).await;
        committed.map(|done| self::done("committed", done)).map_err(|error| staging_refused(&error))
    }

    pub(super) async fn abort(
        &self,
        who: &Identity,
        owner: &Owner,
        batch: Option<Batch>,
    ) -> Result<Response<Body>, Refused> {
        let staging = self.staging(who, owner).await?;
        let aborted = staging.abort(batch.ok_or_else(bad_batch)?).await;
        aborted.map(|done| self::done("aborted", done)).map_err(|error| staging_refused(&error))
    }

    /// What waits for a gateway; only that one pulls it. Made by its first
    /// look, so that it need not ask again and again whether there is any.
    async fn outbox(&self, who: &Identity, owner: &Owner) -> Result<Arc<Log>, Refused> {
        if matches!(owner, Owner::Own) {
            return Err(not_allowed());
        }
        let name = self.name_of(owner);
        if !who.0.eq_ignore_ascii_case(name) {
            return Err(not_yours(who, name));
        }
        if !self.is_its_uplink(who, owner, None) {
            return Err(Refused::new(not_granted(who, Right::Uplink)));
        }
        // With its staging, which drops what expires.
        let made = self.api.outboxes.of(name).await;
        made.map_err(|error| replica_refused(&error))?;
        let log = self.api.store.outbox_for(name).await.map_err(|error| replica_refused(&error))?;
        if let Some(remote) = self.api.store.remote(name) {
            remote.hear();
        }
        Ok(log)
    }

    pub(super) async fn outbox_state(
        &self,
        who: &Identity,
        owner: &Owner,
    ) -> Result<Response<Body>, Refused> {
        let log = self.outbox(who, owner).await?;
        let status = LogStatus { name: "write-backs".to_owned(), ..log.status() };
        Ok(serve::json(StatusCode::OK, &status))
    }

    pub(super) async fn pull(
        &self,
        who: &Identity,
        owner: &Owner,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let log = self.outbox(who, owner).await?;
        let (query, headers) = (request.uri().query(), request.headers());
        let (budget, bounds) = (&self.api.budget, &self.bounds);
        let answered = records::answer(&log, query, headers, bounds, budget, &self.stop);
        let (answer, records, bytes) = answered.await;
        if !self.is_still(who, headers) {
            return Ok(who_are_you());
        }
        self.api.metrics.sent(&Self::label(owner, "write-backs"), records, bytes);
        Ok(answer)
    }

    pub(super) async fn pulled(
        &self,
        who: &Identity,
        owner: &Owner,
        consumer: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let log = self.outbox(who, owner).await?;
        if consumer != PULLED {
            return Err(bad_request("the one consumer of write-backs is uplink"));
        }
        let asked = self.acknowledgement(request).await?;
        match log.acknowledge_as(PULLED, asked).await {
            Ok(position) => {
                let body = json!({ "epoch": log.epoch(), "position": position });
                Ok(serve::json(StatusCode::OK, &body))
            }
            Err(error) => Err(position_refused(&log, &error)),
        }
    }
}

pub(super) fn batch_of(query: &str, batch: &str) -> Option<Batch> {
    let batch = batch.parse().ok()?;
    is_token(query).then(|| Batch { query: query.to_owned(), batch })
}

fn done(what: &str, done: Done) -> Response<Body> {
    serve::json(StatusCode::OK, &json!({ what: true, "done": done }))
}
