//! Records of another gateway in: it hands over what it has, at the numbers
//! that it has there.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use super::super::access::{Identity, Right};
use super::super::query::Query;
use super::owner::Owner;
use super::refusals::{
    Refused, bad_request, gap, malformed, not_yours, replica_refused, replicate_refused,
};
use super::{Session, not_granted};
use crate::record::Sequence;
use crate::serve::{self, Body};
use crate::store::{self, Hole, Part};

/// Bytes of lines that are taken, for each of `spark.max_body`. A line is up to
/// six times as long as the body in it: control characters are escaped.
const LINES: u64 = 16;
/// Bytes of frames that are taken, for each of those, and for the headers: a
/// body that does not compress is longer packed, as text, than it was.
const PACKED: u64 = 2;
const HEADERS: u64 = 1 << 20;

/// The query of what is handed over.
struct Range {
    epoch: String,
    from: Sequence,
    until: Sequence,
    holes: Vec<Hole>,
}

impl Range {
    fn parse(query: Option<&str>) -> Result<Self, String> {
        let query = Query::parse(query, &["epoch", "from", "until", "holes"])?;
        let missing = |name: &str| format!("{name} is missing");
        let epoch = query.text("epoch").ok_or_else(|| missing("epoch"))?.to_owned();
        let from = query.number("from")?.ok_or_else(|| missing("from"))?;
        let until = query.number("until")?.ok_or_else(|| missing("until"))?;
        if from > until {
            return Err(format!("until={until} is below from={from}"));
        }
        let holes = query.text("holes").map(serde_json::from_str).transpose();
        let holes = holes.map_err(|error| {
            format!("holes is [{{\"from\":a,\"until\":b,\"reason\":\"unused\"}},…], the reason unused, lost, evicted or acknowledged: {error}")
        })?;
        Ok(Self { epoch, from, until, holes: holes.unwrap_or_default() })
    }
}

impl Session {
    pub(super) async fn replicate(
        &self,
        who: &Identity,
        owner: &Owner,
        stream: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let name = self.name_of(owner);
        if matches!(owner, Owner::Own) || !who.0.eq_ignore_ascii_case(name) {
            return Err(not_yours(who, name));
        }
        if !self.is_its_uplink(who, owner, Some(stream)) {
            return Err(Refused::new(not_granted(who, Right::Uplink)));
        }
        let range = Range::parse(request.uri().query()).map_err(|e| bad_request(&e))?;
        let packed = is_packed(request.headers())?;
        // Any record whose body is within spark.max_body fits.
        let most = self.api.config.max_body.saturating_mul(PACKED).saturating_add(HEADERS);
        let (body, share) = self.body_upto(request, most).await?;
        let (epoch, from) = (range.epoch.clone(), range.from);
        let store = &self.api.store;
        if let Some(remote) = store.remote(name) {
            remote.hear();
        }
        let known = store.remote(name).and_then(|remote| remote.replica(stream, Some(&epoch)));
        if known.is_none() && from > 0 {
            // Nothing is made for it before it begins at its beginning.
            return Err(gap(0));
        }
        let parts = self.unpack(body, packed, range).await?;
        let log = if let Some(log) = known {
            log
        } else {
            let made = store.replica_for(name, stream, &epoch).await;
            made.map_err(|error| replica_refused(&error))?
        };
        // One that was not known before is heard of for the first time.
        if let Some(remote) = store.remote(name) {
            remote.hear();
        }
        let records = parts.iter().map(|part| match part {
            Part::Group(group) => u64::from(group.header.count),
            Part::Hole(_) => 0,
        });
        let records = records.sum();
        let next = log.replicate(from, parts).await;
        drop(share);
        let next = next.map_err(|error| replicate_refused(&error))?;
        self.api.metrics.replicated(records);
        Ok(serve::json(StatusCode::OK, &json!({ "epoch": epoch, "next": next })))
    }

    async fn unpack(&self, body: Bytes, packed: bool, range: Range) -> Result<Vec<Part>, Refused> {
        // Never closed.
        let _permit = self.unpacking.acquire().await;
        let max_bytes = self.api.config.max_body.saturating_mul(LINES).saturating_add(HEADERS);
        let level = self.api.compression_level;
        let parts = tokio::task::spawn_blocking(move || {
            let Range { from, until, holes, .. } = range;
            store::Incoming { body: &body, packed, from, until, holes, max_bytes, level }.parts()
        });
        match parts.await {
            Ok(parts) => parts.map_err(|error| malformed(&error)),
            Err(_) => Err(Refused::new(serve::busy("the gateway is stopping"))),
        }
    }
}

fn is_packed(headers: &HeaderMap) -> Result<bool, Refused> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"zstd") => Ok(true),
        Some(_) => Err(Refused::new(serve::refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "the body is JSON lines, as they are or as zstd frames",
        ))),
    }
}
