//! A unit: what is sent in one request. A row is one unit, or several where a
//! batch is cut for Orion's limit.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::endpoint::Endpoint;
use crate::ngsi::{self, Access, MAX_BODY, Targets, WriteRequest};
use crate::orion::dead_letters::{DeadLetter, Entity, LetterRequest, MAX_ANSWER, Place};
use crate::record::Sequence;
use crate::write_back::{MAX_HEADERS, Request};

/// Where a unit stands: entry, attempt in its commit, row, part. Their order
/// is the order of the write-backs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UnitId(pub Sequence, pub u32, pub u32, pub u32);

impl UnitId {
    pub(super) fn place(self, log: &str) -> Place {
        Place { log: log.to_owned(), seq: self.0, attempt: self.1, row: self.2, part: self.3 }
    }
}

/// What is to be done with a unit.
#[derive(Debug)]
pub(super) enum Content {
    /// Send it.
    Write {
        /// With the target's static headers.
        request: WriteRequest,
        /// The headers as they came, for the dead letters.
        headers: Vec<(String, Bytes)>,
        /// Whom to wait for; a part of a barrier is one too.
        targets: Targets,
    },
    /// It cannot be sent.
    Unfit { reason: String, request: Option<Request>, unreadable: Option<String> },
}

/// How far a unit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// For units before it, for its target, or for its backoff.
    Waiting,
    /// Being noted as sent, or in flight.
    Sending,
    /// It has an outcome that is not durable yet.
    Finishing,
}

#[derive(Debug)]
pub(super) struct Unit {
    /// Its own first, then those merged into it, oldest first.
    pub ids: Vec<UnitId>,
    /// Index of its target.
    pub target: usize,
    pub content: Content,
    /// When the gateway got it.
    pub received: SystemTime,
    pub state: State,
    /// An attempt may have been applied.
    pub ambiguous: bool,
    /// The journal holds that it is being sent.
    pub announced: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// Failures with a success of another one in between.
    pub failures: u32,
    /// Successes of its target at its last failure.
    pub successes_seen: Option<u64>,
    /// A new token has been tried for it.
    pub token_tried: bool,
    /// Room in the window; given back when it is dropped.
    pub room: Vec<OwnedSemaphorePermit>,
}

impl Unit {
    pub(super) fn new(id: UnitId, target: usize, content: Content, received: SystemTime) -> Self {
        Self {
            ids: vec![id],
            target,
            content,
            received,
            state: State::Waiting,
            ambiguous: false,
            announced: false,
            attempts: 0,
            failures: 0,
            successes_seen: None,
            token_tried: false,
            room: Vec::new(),
        }
    }

    /// Its body's length, for the bound on memory.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Write { request, .. } => request.body().len(),
            Content::Unfit { request, unreadable, .. } => {
                request.as_ref().map_or(0, |request| request.body.len())
                    + unreadable.as_ref().map_or(0, String::len)
            }
        }
    }

    pub(super) fn request(&self) -> Option<&WriteRequest> {
        match &self.content {
            Content::Write { request, .. } => Some(request),
            Content::Unfit { .. } => None,
        }
    }

    /// The dead letter that this unit becomes; `body` where only a part of it
    /// is left.
    pub(super) fn letter(&self, log: &str, why: Why, body: Option<Bytes>) -> DeadLetter {
        let (request, unreadable, entities) = match &self.content {
            Content::Write { request, headers, targets } => {
                let kept = Request {
                    method: request.method().to_string(),
                    path: request.path().to_owned(),
                    headers: headers.clone(),
                    body: body.clone().unwrap_or_else(|| request.body().clone()),
                };
                let of_rest = body.map(|body| request.with_body(body).targets().clone());
                let entities = match of_rest.as_ref().unwrap_or(targets) {
                    Targets::Entities(keys) => keys.iter().map(Entity::from).collect(),
                    Targets::Barrier => Vec::new(),
                };
                (Some(LetterRequest::from(&kept)), None, entities)
            }
            Content::Unfit { request, unreadable, .. } => {
                (request.as_ref().map(LetterRequest::from), unreadable.clone(), Vec::new())
            }
        };
        let mut reason = why.reason;
        if self.ids.len() > 1 {
            reason = format!(
                "{reason}; it stands for {} write-backs that were merged (coalesce = \"latest\")",
                self.ids.len()
            );
        }
        let cut = |body: &Bytes| {
            String::from_utf8_lossy(&body[..body.len().min(MAX_ANSWER)]).into_owned()
        };
        let place = self.ids.first().copied().unwrap_or(UnitId(0, 0, 0, 0)).place(log);
        DeadLetter {
            request,
            unreadable,
            reason,
            status: why.status,
            answer: why.answer.as_ref().map(cut),
            attempts: self.attempts,
            entities,
            write_back: place,
            time: SystemTime::now(),
        }
    }
}

/// Why a unit goes to the dead letters.
#[derive(Debug, Clone, Default)]
pub(super) struct Why {
    pub reason: String,
    pub status: Option<u16>,
    pub answer: Option<Bytes>,
}

impl Why {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }
}

/// The units of one request: its target, and what is to be sent, in order.
pub(super) fn contents(
    request: Request,
    endpoints: &[std::sync::Arc<Endpoint>],
) -> (usize, Vec<Content>) {
    let target = route(&request, endpoints);
    let unfit = |reason: &str, request| {
        (
            target,
            vec![Content::Unfit {
                reason: reason.to_owned(),
                request: Some(request),
                unreadable: None,
            }],
        )
    };
    let Ok(method) = Method::from_bytes(request.method.as_bytes()) else {
        return unfit("its method is not one of HTTP's", request);
    };
    if ngsi::access(&method, &request.path) != Access::Write {
        return unfit("it is not a write of NGSIv2 or NGSI-LD", request);
    }
    let Some(endpoint) = endpoints.get(target) else {
        return unfit("there is no target for it", request);
    };
    let Some(headers) = effective_headers(&request, endpoint) else {
        return unfit("its headers are not allowed in HTTP, or too many", request);
    };
    let whole = WriteRequest::new(method, request.path, headers, request.body);
    let parts = ngsi::split(&whole, MAX_BODY);
    let barrier = *whole.targets() == Targets::Barrier;
    let write = |part: WriteRequest| Content::Write {
        targets: if barrier { Targets::Barrier } else { part.targets().clone() },
        request: part,
        headers: request.headers.clone(),
    };
    let contents = match parts.as_slice() {
        [_] => vec![write(whole)],
        _ => parts.into_iter().map(|body| write(whole.with_body(body))).collect(),
    };
    (target, contents)
}

const TENANTS: [&str; 2] = ["fiware-service", "ngsild-tenant"];

/// The target of a request: that of its tenant, else the first.
fn route(request: &Request, endpoints: &[std::sync::Arc<Endpoint>]) -> usize {
    let tenant = TENANTS.iter().find_map(|name| request.header(name));
    let Some(tenant) = tenant.map(|tenant| tenant.trim().to_ascii_lowercase()) else { return 0 };
    endpoints.iter().skip(1).position(|endpoint| endpoint.tenant == tenant).map_or(0, |at| at + 1)
}

/// Its own headers that are for Orion, and the static ones that it lacks;
/// `None` where one is not allowed in HTTP, or there are more than anybody takes.
fn effective_headers(request: &Request, endpoint: &Endpoint) -> Option<HeaderMap> {
    if request.headers.len() > MAX_HEADERS {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(value.clone()).ok()?;
        if !is_ours(name.as_str()) {
            headers.append(name, value);
        }
    }
    let has_tenant = TENANTS.iter().any(|name| headers.contains_key(*name));
    for (name, value) in &endpoint.headers {
        let is_tenant = TENANTS.contains(&name.as_str());
        if !(headers.contains_key(name) || is_tenant && has_tenant) {
            headers.insert(name.clone(), value.clone());
        }
    }
    Some(headers)
}

/// Headers between the gateway and whoever sent the write-back: of the
/// connection, or the right to use the gateway.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "host"
            | "content-length"
            | "expect"
            | "accept-encoding"
            | "authorization"
            | "cookie"
    )
}
