//! Which operation a method and a path ask Orion for.

use http::Method;
use percent_encoding::percent_decode_str;

/// The API a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v2/…`
    V2,
    /// `/ngsi-ld/v1/…`
    Ld,
}

/// `actionType` of an NGSIv2 batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAction {
    /// Create or update.
    Append,
    /// Create, never change what exists.
    AppendStrict,
    /// Change what exists.
    Update,
    /// Replace all attributes.
    Replace,
    /// Delete entities or attributes.
    Delete,
    /// Absent, unreadable or unheard of: Orion will answer 400.
    Unknown,
}

/// What a write-back does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// POST /entities.
    CreateEntity,
    /// POST /v2/entities?options=upsert.
    UpsertEntity,
    /// PUT /ngsi-ld/v1/entities/{id}.
    ReplaceEntity,
    /// PATCH /ngsi-ld/v1/entities/{id}.
    MergeEntity,
    /// DELETE of one entity.
    DeleteEntity,
    /// PATCH …/attrs.
    UpdateAttributes,
    /// POST …/attrs.
    AppendAttributes,
    /// POST …/attrs with `options=append` (NGSIv2) or `noOverwrite` (NGSI-LD).
    AppendAttributesStrictly,
    /// PUT /v2/entities/{id}/attrs.
    ReplaceAttributes,
    /// PATCH /ngsi-ld/v1/entities/{id}/attrs/{name}.
    UpdateAttribute,
    /// PUT …/attrs/{name}.
    ReplaceAttribute,
    /// PUT /v2/entities/{id}/attrs/{name}/value.
    ReplaceValue,
    /// DELETE …/attrs/{name}.
    DeleteAttribute,
    /// POST /v2/op/update.
    Batch(BatchAction),
    /// POST /v2/op/notify: another broker's notification, appended.
    Notify,
    /// POST /ngsi-ld/v1/entityOperations/create.
    BatchCreate,
    /// POST /ngsi-ld/v1/entityOperations/upsert.
    BatchUpsert,
    /// POST /ngsi-ld/v1/entityOperations/update.
    BatchUpdate,
    /// POST /ngsi-ld/v1/entityOperations/merge.
    BatchMerge,
    /// POST /ngsi-ld/v1/entityOperations/delete.
    BatchDelete,
    /// Anything under /ngsi-ld/v1/temporal.
    Temporal,
    /// Subscriptions, registrations, purges by query, and what is not known.
    Other,
}

impl Kind {
    /// Whether the body is a list that NGSI-LD answers element by element.
    #[must_use]
    pub fn is_ld_batch(self) -> bool {
        matches!(
            self,
            Self::BatchCreate
                | Self::BatchUpsert
                | Self::BatchUpdate
                | Self::BatchMerge
                | Self::BatchDelete
        )
    }
}

/// How the pass-through takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A write: keep it, and replay it.
    Write,
    /// A read, also where it is a POST (`op/query`): 405.
    Read,
    /// Not a path of the context broker's API: 404.
    Unknown,
}

/// Tells writes from reads.
///
/// A path with `.` or `..` segments, a backslash, a fragment or a blank is
/// unknown: URL libraries resolve or drop those, so what was checked here would
/// not be what is sent. POST /v2/op/notify is a write: Orion appends what it
/// brings.
#[must_use]
pub fn access(method: &Method, path: &str) -> Access {
    let Some((api, rest)) = resource(path) else { return Access::Unknown };
    if rest.is_empty() {
        return Access::Unknown;
    }
    let query = match api {
        Api::V2 => *rest == ["op", "query"],
        Api::Ld => {
            *rest == ["entityOperations", "query"]
                || *rest == ["temporal", "entityOperations", "query"]
        }
    };
    match *method {
        Method::POST if query => Access::Read,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Access::Write,
        _ => Access::Read,
    }
}

/// Whether the pass-through accepts the request; see [`access`].
#[must_use]
pub fn is_write(method: &Method, path: &str) -> bool {
    access(method, path) == Access::Write
}

/// The operation, and the entity's id where the path names it.
pub(super) struct Route {
    pub(super) api: Api,
    pub(super) kind: Kind,
    pub(super) entity: Option<String>,
}

/// Reads method and path; the body still has to tell a batch's action.
pub(super) fn route(method: &Method, path: &str) -> Route {
    let Some((api, rest)) = resource(path) else {
        return Route { api: Api::V2, kind: Kind::Other, entity: None };
    };
    let (kind, entity) = match api {
        Api::V2 => v2(method, path, &rest),
        Api::Ld => ld(method, path, &rest),
    };
    // A path with invalid UTF-8 still gets a key: lossy decoding may take two
    // entities for one, never one for two.
    let entity = entity.map(|id| percent_decode_str(id).decode_utf8_lossy().into_owned());
    Route { api, kind, entity }
}

fn v2<'a>(method: &Method, path: &str, rest: &[&'a str]) -> (Kind, Option<&'a str>) {
    match (method.as_str(), rest) {
        ("POST", ["entities"]) if has_option(path, "upsert") => (Kind::UpsertEntity, None),
        ("POST", ["entities"]) => (Kind::CreateEntity, None),
        ("DELETE", ["entities", id]) => (Kind::DeleteEntity, Some(id)),
        ("PATCH", ["entities", id, "attrs"]) => (Kind::UpdateAttributes, Some(id)),
        ("PUT", ["entities", id, "attrs"]) => (Kind::ReplaceAttributes, Some(id)),
        ("POST", ["entities", id, "attrs"]) if has_option(path, "append") => {
            (Kind::AppendAttributesStrictly, Some(id))
        }
        ("POST", ["entities", id, "attrs"]) => (Kind::AppendAttributes, Some(id)),
        ("PUT", ["entities", id, "attrs", _]) => (Kind::ReplaceAttribute, Some(id)),
        ("DELETE", ["entities", id, "attrs", _]) => (Kind::DeleteAttribute, Some(id)),
        ("PUT", ["entities", id, "attrs", _, "value"]) => (Kind::ReplaceValue, Some(id)),
        ("POST", ["op", "update"]) => (Kind::Batch(BatchAction::Unknown), None),
        ("POST", ["op", "notify"]) => (Kind::Notify, None),
        _ => (Kind::Other, None),
    }
}

fn ld<'a>(method: &Method, path: &str, rest: &[&'a str]) -> (Kind, Option<&'a str>) {
    match (method.as_str(), rest) {
        (_, ["temporal", ..]) => (Kind::Temporal, None),
        ("POST", ["entities"]) => (Kind::CreateEntity, None),
        ("PUT", ["entities", id]) => (Kind::ReplaceEntity, Some(id)),
        ("PATCH", ["entities", id]) => (Kind::MergeEntity, Some(id)),
        ("DELETE", ["entities", id]) => (Kind::DeleteEntity, Some(id)),
        ("PATCH", ["entities", id, "attrs"]) => (Kind::UpdateAttributes, Some(id)),
        ("POST", ["entities", id, "attrs"]) if has_option(path, "noOverwrite") => {
            (Kind::AppendAttributesStrictly, Some(id))
        }
        ("POST", ["entities", id, "attrs"]) => (Kind::AppendAttributes, Some(id)),
        ("PATCH", ["entities", id, "attrs", _]) => (Kind::UpdateAttribute, Some(id)),
        ("PUT", ["entities", id, "attrs", _]) => (Kind::ReplaceAttribute, Some(id)),
        ("DELETE", ["entities", id, "attrs", _]) => (Kind::DeleteAttribute, Some(id)),
        ("POST", ["entityOperations", "create"]) => (Kind::BatchCreate, None),
        ("POST", ["entityOperations", "upsert"]) => (Kind::BatchUpsert, None),
        ("POST", ["entityOperations", "update"]) => (Kind::BatchUpdate, None),
        ("POST", ["entityOperations", "merge"]) => (Kind::BatchMerge, None),
        ("POST", ["entityOperations", "delete"]) => (Kind::BatchDelete, None),
        _ => (Kind::Other, None),
    }
}

/// The API and the segments below it; `None` for a path that is neither's, or
/// that a URL library would change.
fn resource(path: &str) -> Option<(Api, Vec<&str>)> {
    if path.contains(|c: char| c == '#' || c == '\\' || c.is_whitespace() || c.is_control()) {
        return None;
    }
    let plain = path.split_once('?').map_or(path, |(plain, _)| plain);
    let plain = plain.strip_suffix('/').unwrap_or(plain);
    let segments: Vec<&str> = plain.strip_prefix('/')?.split('/').collect();
    let dots = |segment: &&str| {
        matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..")
    };
    if segments.iter().any(dots) {
        return None;
    }
    match segments.as_slice() {
        ["v2", rest @ ..] => Some((Api::V2, rest.to_vec())),
        ["ngsi-ld", "v1", rest @ ..] => Some((Api::Ld, rest.to_vec())),
        _ => None,
    }
}

/// Whether the query's `options` list names `option`.
fn has_option(path: &str, option: &str) -> bool {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == "options")
        .any(|(_, list)| {
            let list = percent_decode_str(list).decode_utf8_lossy();
            list.split(',').any(|given| given.trim() == option)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pass_through_takes_writes_refuses_reads_and_knows_no_other_path() {
        for (method, path, expected) in [
            (Method::POST, "/v2/entities", Access::Write),
            (Method::PATCH, "/v2/entities/urn:1/attrs?type=Room", Access::Write),
            (Method::POST, "/v2/op/update", Access::Write),
            (Method::POST, "/v2/op/notify", Access::Write),
            (Method::DELETE, "/ngsi-ld/v1/entities/urn:1", Access::Write),
            (Method::POST, "/ngsi-ld/v1/entityOperations/upsert/", Access::Write),
            (Method::GET, "/v2/entities", Access::Read),
            (Method::HEAD, "/v2/entities", Access::Read),
            (Method::POST, "/v2/op/query", Access::Read),
            (Method::POST, "/v2/op/query/?limit=3", Access::Read),
            (Method::POST, "/ngsi-ld/v1/entityOperations/query", Access::Read),
            (Method::POST, "/ngsi-ld/v1/temporal/entityOperations/query", Access::Read),
            (Method::POST, "/v1/updateContext", Access::Unknown),
            (Method::POST, "/v2", Access::Unknown),
            (Method::POST, "/v2/", Access::Unknown),
            (Method::POST, "v2/entities", Access::Unknown),
            (Method::POST, "//v2/entities", Access::Unknown),
            (Method::DELETE, "/v2/../admin/log", Access::Unknown),
            (Method::DELETE, "/v2/%2E%2e/admin/log", Access::Unknown),
            (Method::DELETE, "/v2/..\\admin", Access::Unknown),
            (Method::DELETE, "/v2/.\t./admin", Access::Unknown),
            (Method::DELETE, "/v2/entities/urn:1#x", Access::Unknown),
            (Method::DELETE, "/v2//entities/urn:1", Access::Unknown),
        ] {
            assert_eq!(access(&method, path), expected, "{method} {path}");
            assert_eq!(is_write(&method, path), expected == Access::Write);
        }
    }

    #[test]
    fn options_change_what_a_post_does() {
        for (path, kind) in [
            ("/v2/entities?options=keyValues,upsert", Kind::UpsertEntity),
            ("/v2/entities?options=keyValues%2Cupsert", Kind::UpsertEntity),
            ("/v2/entities?options=keyValues", Kind::CreateEntity),
            ("/v2/entities/urn:1/attrs?type=Room&options=append", Kind::AppendAttributesStrictly),
            ("/v2/entities/urn:1/attrs?type=append", Kind::AppendAttributes),
            ("/ngsi-ld/v1/entities/1/attrs?options=noOverwrite", Kind::AppendAttributesStrictly),
        ] {
            assert_eq!(route(&Method::POST, path).kind, kind, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "(/v2|/ngsi-ld/v1)?[/?#%&=,a-z\\PC]{0,60}") {
            for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let _ = access(&method, &path);
                let _ = route(&method, &path);
            }
        }
    }
}
