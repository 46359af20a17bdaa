//! Whom a write-back is for, and whether it may be sent twice.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::operators::Operators;
use super::route::{Api, BatchAction, Kind, Route, route};

/// What order is kept for.
///
/// Coarser than Orion's own key, which has the service path and the entity's
/// type in it: a wrong "different" would break the order, a wrong "same" only
/// costs parallelism.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    /// In lower case, as Orion keeps it; empty for the default tenant.
    pub tenant: Arc<str>,
    /// Percent-decoded.
    pub id: String,
}

/// Whom a write-back has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// The entities it changes, each once, sorted; none for an empty batch.
    Entities(Vec<EntityKey>),
    /// Cannot be told: everything before it, and nothing after it until it is
    /// done.
    Barrier,
}

/// What to do after an attempt whose outcome is not known: a timeout or a lost
/// connection after sending, or a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAmbiguity {
    /// Send it again: the second run changes nothing more.
    Repeat,
    /// Send it again; "exists already" (422 or 409) then means applied.
    RepeatCreate,
    /// Send it again; "not found" (404) then means applied.
    RepeatDelete,
    /// Never by itself: it might count twice.
    Never,
}

/// One write-back, understood.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    api: Api,
    kind: Kind,
    targets: Targets,
    operators: Operators,
}

impl WriteRequest {
    /// Reads a request; `path` includes the query. Never fails: what it cannot
    /// understand is a barrier that is not repeated.
    #[must_use]
    pub fn new(method: Method, path: String, headers: HeaderMap, body: Bytes) -> Self {
        let Route { api, mut kind, entity } = route(&method, &path);
        let (action, ids) = match entity {
            Some(id) => (None, Some(vec![id])),
            None => ids(kind, &body),
        };
        if let (Kind::Batch(known), Some(action)) = (&mut kind, action) {
            *known = action;
        }
        let targets = match (tenant(&headers), ids) {
            (Some(tenant), Some(ids)) => {
                let mut keys: Vec<EntityKey> =
                    ids.into_iter().map(|id| EntityKey { tenant: tenant.clone(), id }).collect();
                keys.sort_unstable();
                keys.dedup();
                Targets::Entities(keys)
            }
            _ => Targets::Barrier,
        };
        // A text/plain value cannot hold an operator; `$` there is a character.
        let operators = if api == Api::Ld || content_type(&headers).starts_with("text/plain") {
            Operators::None
        } else {
            Operators::of(&body)
        };
        Self { method, path, headers, body, api, kind, targets, operators }
    }

    /// The same request with another body, for parts and rests.
    #[must_use]
    pub fn with_body(&self, body: Bytes) -> Self {
        Self::new(self.method.clone(), self.path.clone(), self.headers.clone(), body)
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path with its query, as it was given.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The headers, as they were given.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, as it was given.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The API it belongs to.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whom it has to wait for.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Whether a value in it is an update operator (`$max` and its kind).
    pub(super) fn has_operators(&self) -> bool {
        self.operators != Operators::None
    }

    /// What to do after an attempt whose outcome is not known.
    #[must_use]
    pub fn after_ambiguity(&self) -> AfterAmbiguity {
        let by_kind = match self.kind {
            // A create with operators included: where the entity exists, the
            // repeat is refused and nothing counts twice.
            Kind::CreateEntity | Kind::BatchCreate => return AfterAmbiguity::RepeatCreate,
            Kind::DeleteEntity
            | Kind::DeleteAttribute
            | Kind::BatchDelete
            | Kind::Batch(BatchAction::Delete) => return AfterAmbiguity::RepeatDelete,
            Kind::AppendAttributesStrictly | Kind::Batch(BatchAction::AppendStrict) => {
                AfterAmbiguity::RepeatCreate
            }
            Kind::UpsertEntity
            | Kind::ReplaceEntity
            | Kind::MergeEntity
            | Kind::UpdateAttributes
            | Kind::AppendAttributes
            | Kind::ReplaceAttributes
            | Kind::UpdateAttribute
            | Kind::ReplaceAttribute
            | Kind::ReplaceValue
            | Kind::Batch(BatchAction::Append | BatchAction::Update | BatchAction::Replace)
            | Kind::Notify
            | Kind::BatchUpsert
            | Kind::BatchUpdate
            | Kind::BatchMerge => AfterAmbiguity::Repeat,
            // Orion answers 400, most likely; we do not build on it.
            Kind::Batch(BatchAction::Unknown) => AfterAmbiguity::Never,
            // PUT, PATCH and DELETE are to be idempotent in both APIs (a merge
            // patch is); every POST makes one more subscription or instance.
            Kind::Temporal | Kind::Other => match self.method {
                Method::DELETE => AfterAmbiguity::RepeatDelete,
                Method::PUT | Method::PATCH => AfterAmbiguity::Repeat,
                _ => AfterAmbiguity::Never,
            },
        };
        match self.operators {
            Operators::NotIdempotent => AfterAmbiguity::Never,
            Operators::None | Operators::Idempotent => by_kind,
        }
    }
}

/// The tenant that orders this request, or `None` where headers contradict
/// each other: which one counts then differs between Orion and Orion-LD.
fn tenant(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut tenant: Option<String> = None;
    for name in ["fiware-service", "ngsild-tenant"] {
        for value in headers.get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
            if tenant.as_ref().is_some_and(|seen| *seen != value) {
                return None;
            }
            tenant = Some(value);
        }
    }
    Some(tenant.unwrap_or_default().into())
}

/// The content type in lower case, parameters included.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE);
    value.map_or_else(String::new, |v| {
        String::from_utf8_lossy(v.as_bytes()).trim().to_ascii_lowercase()
    })
}

/// What says who an entity is, in a body. JSON-LD allows `@id` for `id`.
#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    id: Option<String>,
    #[serde(default, rename = "@id")]
    at_id: Option<String>,
    #[serde(default, rename = "idPattern")]
    pattern: Option<IgnoredAny>,
}

impl Identity {
    fn id(self) -> Option<String> {
        match (self.id, self.at_id, self.pattern) {
            (Some(id), None, None) | (None, Some(id), None) => Some(id),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Update {
    #[serde(default, rename = "actionType")]
    action: Option<String>,
    entities: Vec<Identity>,
}

#[derive(Deserialize)]
struct Notification {
    data: Vec<Identity>,
}

fn action(name: Option<&str>) -> BatchAction {
    // Orion still takes NGSIv1's spellings (APPEND_STRICT).
    let name = name.unwrap_or("").replace('_', "").to_ascii_lowercase();
    match name.as_str() {
        "append" => BatchAction::Append,
        "appendstrict" => BatchAction::AppendStrict,
        "update" => BatchAction::Update,
        "replace" => BatchAction::Replace,
        "delete" => BatchAction::Delete,
        _ => BatchAction::Unknown,
    }
}

/// The ids in a body, in order; `None` where any of them cannot be told.
pub(super) fn ids(kind: Kind, body: &[u8]) -> (Option<BatchAction>, Option<Vec<String>>) {
    let all = |entities: Vec<Identity>| entities.into_iter().map(Identity::id).collect();
    match kind {
        Kind::CreateEntity | Kind::UpsertEntity => {
            let entity = serde_json::from_slice::<Identity>(body).ok();
            (None, entity.and_then(Identity::id).map(|id| vec![id]))
        }
        Kind::Batch(_) => match serde_json::from_slice::<Update>(body) {
            Ok(update) => (Some(action(update.action.as_deref())), all(update.entities)),
            Err(_) => (None, None),
        },
        Kind::Notify => {
            (None, serde_json::from_slice::<Notification>(body).ok().and_then(|n| all(n.data)))
        }
        Kind::BatchDelete => (None, serde_json::from_slice(body).ok()),
        kind if kind.is_ld_batch() => {
            (None, serde_json::from_slice::<Vec<Identity>>(body).ok().and_then(all))
        }
        _ => (None, None),
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
