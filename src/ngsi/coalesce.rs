//! Merging two updates of one entity, for `coalesce = "latest"`.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::HeaderMap;

use super::MAX_BODY;
use super::json::{Member, members, write_object};
use super::route::{Api, Kind};
use super::write::{AfterAmbiguity, Targets, WriteRequest};

/// The headers that change what a request does.
const RELEVANT: [&str; 5] =
    ["fiware-service", "ngsild-tenant", "fiware-servicepath", "content-type", "link"];

/// The body that does what `older` and then `newer` would have done, or `None`
/// where one body cannot.
///
/// Both must be plain attribute updates of the same kind on the same path with
/// the same query and headers. Attributes are merged by name, the newer one
/// winning, in the text they came in. What the older one says beyond the newer
/// (a metadata item, a type, a sub-attribute) would outlive the newer one in
/// Orion, which keeps what an update does not mention; such a pair is not
/// merged. Neither is one with update operators, because `$max` 5 and then 3
/// is not 3.
///
/// The values between are gone, and Orion notifies once instead of twice: that
/// is what the option asks for. A refusal of the merged body refuses both.
#[must_use]
pub fn coalesce(older: &WriteRequest, newer: &WriteRequest) -> Option<Bytes> {
    let same = older.kind() == newer.kind()
        && older.method() == newer.method()
        && older.path() == newer.path()
        && older.targets() == newer.targets()
        && same_headers(older.headers(), newer.headers());
    let plain = |request: &WriteRequest| {
        request.after_ambiguity() == AfterAmbiguity::Repeat
            && !request.has_operators()
            && matches!(request.targets(), Targets::Entities(keys) if keys.len() == 1)
    };
    if !same || !plain(older) || !plain(newer) {
        return None;
    }
    let merged = match newer.kind() {
        // Nothing of the older one survives these; but a newer body that Orion
        // would refuse must not take a good older one with it.
        Kind::ReplaceAttributes | Kind::ReplaceEntity => {
            members(newer.body())?;
            newer.body().clone()
        }
        Kind::ReplaceValue => newer.body().clone(),
        // One attribute: the whole body is what has to say as much.
        Kind::ReplaceAttribute | Kind::UpdateAttribute => {
            let covered = supersedes(newer.body(), older.body(), newer.api());
            covered.then(|| newer.body().clone())?
        }
        Kind::UpdateAttributes | Kind::AppendAttributes => {
            let older_members = distinct(members(older.body())?)?;
            let newer_members = distinct(members(newer.body())?)?;
            write_object(&merge(&older_members, &newer_members, newer.api())?)
        }
        _ => return None,
    };
    (merged.len() <= MAX_BODY).then_some(merged)
}

fn same_headers(a: &HeaderMap, b: &HeaderMap) -> bool {
    RELEVANT.iter().all(|name| a.get_all(*name).iter().eq(b.get_all(*name).iter()))
}

/// With a repeated name it is the reader's choice which one counts.
fn distinct(members: Vec<Member<'_>>) -> Option<Vec<Member<'_>>> {
    let names: HashSet<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    (names.len() == members.len()).then_some(members)
}

fn merge<'a>(older: &[Member<'a>], newer: &[Member<'a>], api: Api) -> Option<Vec<Member<'a>>> {
    let ld = api == Api::Ld;
    // A short name and an expanded one may be the same attribute.
    let attributes = || older.iter().chain(newer).map(|(name, _)| name).filter(|n| !special(n));
    if ld && attributes().any(|n| n.contains(':')) && attributes().any(|n| !n.contains(':')) {
        return None;
    }
    let newer_has: HashMap<&str, &str> =
        newer.iter().map(|(name, value)| (name.as_ref(), value.get())).collect();
    for (name, value) in older {
        let newest = newer_has.get(name.as_ref());
        let fine = if ld && special(name) {
            newest.is_some_and(|newest| *newest == value.get())
        } else {
            newest.is_none_or(|newest| supersedes(newest.as_bytes(), value.get().as_bytes(), api))
        };
        if !fine {
            return None;
        }
    }
    let older_has: HashSet<&str> = older.iter().map(|(name, _)| name.as_ref()).collect();
    if ld && newer.iter().any(|(name, _)| special(name) && !older_has.contains(name.as_ref())) {
        return None;
    }
    let kept = older.iter().filter(|(name, _)| !newer_has.contains_key(name.as_ref())).cloned();
    let mut merged: Vec<Member<'a>> = kept.collect();
    merged.extend(newer.iter().cloned());
    Some(merged)
}

/// Members of an NGSI-LD entity that are not attributes.
fn special(name: &str) -> bool {
    matches!(name, "@context" | "id" | "@id" | "type" | "@type" | "scope")
}

/// Whether `newer` says everything about an attribute that `older` says, so
/// that nothing of `older` would be left after `newer`.
fn supersedes(newer: &[u8], older: &[u8], api: Api) -> bool {
    let (first_newer, first_older) = (kind_of(newer), kind_of(older));
    // Also NGSI-LD's list of instances with a datasetId each.
    if first_newer != first_older || (api == Api::Ld && first_newer == b'[') {
        return false;
    }
    let (Some(newer), Some(older)) = (members(newer), members(older)) else {
        // keyValues: a plain value of the same JSON type, so that a type which
        // Orion derives from it is the same too.
        return first_newer != b'{';
    };
    let (Some(newer), Some(older)) = (distinct(newer), distinct(older)) else { return false };
    if api == Api::Ld && newer.iter().chain(&older).any(|(name, _)| name == "datasetId") {
        return false;
    }
    let newer: HashMap<&str, &str> = newer.iter().map(|(n, v)| (n.as_ref(), v.get())).collect();
    // Without a type Orion derives one from the value where it has none yet.
    let same_kind = newer.contains_key("type")
        || older.iter().filter(|(name, _)| name == "value").all(|(_, older)| {
            newer
                .get("value")
                .is_some_and(|v| kind_of(v.as_bytes()) == kind_of(older.get().as_bytes()))
        });
    same_kind
        && older.iter().all(|(name, older)| match newer.get(name.as_ref()) {
            None => false,
            Some(newer) if api == Api::V2 && name == "metadata" => {
                match (members(newer.as_bytes()), members(older.get().as_bytes())) {
                    (Some(newer), Some(older)) => {
                        let names: HashSet<_> = newer.into_iter().map(|(name, _)| name).collect();
                        older.iter().all(|(name, _)| names.contains(name))
                    }
                    _ => false,
                }
            }
            Some(_) => true,
        })
}

/// The first byte of a JSON text tells its type; all numbers are one.
fn kind_of(json: &[u8]) -> u8 {
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'-' | b'0'..=b'9') => b'0',
        Some(b'f') => b't',
        Some(byte) => *byte,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, body: &str, headers: &[(&'static str, &str)]) -> WriteRequest {
        let (method, path) = line.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let body = Bytes::from(body.to_owned());
        WriteRequest::new(method.parse().unwrap(), path.to_owned(), map, body)
    }

    #[test]
    fn a_merged_update_leaves_what_both_would_have_left_and_no_other_is_merged() {
        let v2 = "PATCH /v2/entities/1/attrs";
        let append = "POST /v2/entities/1/attrs";
        let ld = "PATCH /ngsi-ld/v1/entities/1/attrs";
        for (line, older, newer, merged) in [
            (
                v2,
                r#"{"a":{"value":1.0},"b":{"value":2}}"#,
                r#"{"b":{"value":3.50},"c":{"value":12345678901234567890}}"#,
                Some(
                    r#"{"a":{"value":1.0},"b":{"value":3.50},"c":{"value":12345678901234567890}}"#,
                ),
            ),
            (append, r#"{"a":1}"#, r#"{"a":2}"#, Some(r#"{"a":2}"#)),
            (append, r#"{"a":1}"#, r#"{"a":"x"}"#, None),
            (v2, r#"{"a":{"value":1,"metadata":{"m":{"value":1}}}}"#, r#"{"a":{"value":2}}"#, None),
            (
                v2,
                r#"{"a":{"value":1,"metadata":{"m":{"value":1}}}}"#,
                r#"{"a":{"value":2,"metadata":{"n":{"value":1}}}}"#,
                None,
            ),
            (
                v2,
                r#"{"a":{"value":1,"metadata":{"m":{"value":1}}}}"#,
                r#"{"a":{"value":2,"metadata":{"m":{"value":2}}}}"#,
                Some(r#"{"a":{"value":2,"metadata":{"m":{"value":2}}}}"#),
            ),
            (v2, r#"{"a":{"value":1,"type":"Number"}}"#, r#"{"a":{"value":2}}"#, None),
            (v2, r#"{"a":{"value":{"$max":5}}}"#, r#"{"a":{"value":{"$max":3}}}"#, None),
            (v2, r#"{"a":1,"a":2}"#, r#"{"b":3}"#, None),
            (v2, "not json", r#"{"b":3}"#, None),
            ("POST /v2/entities/1/attrs?options=append", r#"{"a":1}"#, r#"{"b":2}"#, None),
            ("PUT /v2/entities/1/attrs", r#"{"a":1,"b":1}"#, r#"{"a":2}"#, Some(r#"{"a":2}"#)),
            ("PUT /v2/entities/1/attrs/a/value", "1", "2", Some("2")),
            (
                "PUT /v2/entities/1/attrs/a",
                r#"{"value":1}"#,
                r#"{"value":2}"#,
                Some(r#"{"value":2}"#),
            ),
            ("PUT /v2/entities/1/attrs/a", r#"{"value":1,"type":"T"}"#, r#"{"value":2}"#, None),
            ("DELETE /v2/entities/1", "", "", None),
            ("POST /v2/entities", r#"{"id":"1"}"#, r#"{"id":"1"}"#, None),
            (
                "PUT /ngsi-ld/v1/entities/1",
                r#"{"id":"1","a":1}"#,
                r#"{"id":"1"}"#,
                Some(r#"{"id":"1"}"#),
            ),
            (
                ld,
                r#"{"@context":"c","a":{"value":1}}"#,
                r#"{"@context":"c","b":{"value":1}}"#,
                Some(r#"{"a":{"value":1},"@context":"c","b":{"value":1}}"#),
            ),
            (
                ld,
                r#"{"@context":"c","a":{"value":1}}"#,
                r#"{"@context":"d","b":{"value":1}}"#,
                None,
            ),
            (ld, r#"{"a":{"value":1}}"#, r#"{"@context":"d","b":{"value":1}}"#, None),
            (
                ld,
                r#"{"a":[{"value":1,"datasetId":"urn:1"}]}"#,
                r#"{"a":[{"value":2,"datasetId":"urn:2"}]}"#,
                None,
            ),
            (
                ld,
                r#"{"a":{"value":1,"datasetId":"urn:1"}}"#,
                r#"{"a":{"value":2,"datasetId":"urn:2"}}"#,
                None,
            ),
            (
                ld,
                r#"{"a":[{"value":1,"datasetId":"urn:1"}]}"#,
                r#"{"b":{"value":2}}"#,
                Some(r#"{"a":[{"value":1,"datasetId":"urn:1"}],"b":{"value":2}}"#),
            ),
            (ld, r#"{"a":{"value":1}}"#, r#"{"https://x/a":{"value":2}}"#, None),
            (ld, r#"{"a":{"value":1,"unitCode":"C"}}"#, r#"{"a":{"value":2}}"#, None),
        ] {
            let got = coalesce(&request(line, older, &[]), &request(line, newer, &[]));
            assert_eq!(got.as_deref(), merged.map(str::as_bytes), "{line} {older} {newer}");
        }
    }

    #[test]
    fn another_path_query_or_header_is_another_write() {
        let line = "PATCH /v2/entities/1/attrs";
        let a = request(line, r#"{"a":1}"#, &[("fiware-correlator", "1")]);
        let b = |line, headers| coalesce(&a, &request(line, r#"{"a":2}"#, headers));
        assert!(b(line, &[("fiware-correlator", "2")]).is_some());
        assert!(b(line, &[("fiware-service", "x")]).is_none());
        assert!(b(line, &[("fiware-servicepath", "/x")]).is_none());
        assert!(b(line, &[("content-type", "application/json")]).is_none());
        assert!(b("PATCH /v2/entities/1/attrs?type=T", &[]).is_none());
        assert!(b("POST /v2/entities/1/attrs", &[]).is_none());
        assert!(b("PATCH /v2/entities/2/attrs", &[]).is_none());
    }
}
