//! Cutting a batch that is over Orion's limit.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::json::{elements, members, push_array, push_name};
use super::route::Kind;
use super::write::WriteRequest;

/// The bodies to send instead of one that is longer than `max_bytes`, in order.
///
/// Batches are cut between entities (NGSIv2 `op/update`, NGSI-LD
/// `entityOperations`); neither API promises that a batch is atomic. Every part
/// is a valid body of at most `max_bytes`, made of the entities' own text; the
/// same input always gives the same parts, so that a restart goes on with the
/// part it stopped at. Keep `max_bytes` over restarts for that.
///
/// What fits, cannot be cut, or holds an entity that does not fit by itself
/// stays one part, unchanged: Orion's 413 then says why.
#[must_use]
pub fn split(request: &WriteRequest, max_bytes: usize) -> Vec<Bytes> {
    let whole = || vec![request.body().clone()];
    if request.body().len() <= max_bytes {
        return whole();
    }
    let parts = match request.kind() {
        Kind::Batch(_) => split_update(request.body(), max_bytes),
        kind if kind.is_ld_batch() => {
            elements(request.body()).and_then(|all| cut(b"", &all, b"", max_bytes))
        }
        _ => None,
    };
    parts.filter(|parts| !parts.is_empty()).unwrap_or_else(whole)
}

/// `{"actionType":…,"entities":[…]}`: everything but the entities is repeated
/// in each part, in the order it was written.
fn split_update(body: &[u8], max_bytes: usize) -> Option<Vec<Bytes>> {
    let members = members(body)?;
    let mut names: Vec<&Cow<'_, str>> = members.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    // With a repeated name it is the reader's choice which one counts.
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    let at = members.iter().position(|(name, _)| name == "entities")?;
    let mut before = String::from("{");
    for (name, value) in &members[..at] {
        push_name(&mut before, name);
        before.push_str(value.get());
        before.push(',');
    }
    push_name(&mut before, "entities");
    let mut after = String::new();
    for (name, value) in &members[at + 1..] {
        after.push(',');
        push_name(&mut after, name);
        after.push_str(value.get());
    }
    after.push('}');
    let entities = elements(members[at].1.get().as_bytes())?;
    cut(before.as_bytes(), &entities, after.as_bytes(), max_bytes)
}

/// Fills each part as far as it goes.
fn cut(before: &[u8], all: &[&RawValue], after: &[u8], max_bytes: usize) -> Option<Vec<Bytes>> {
    let frame = before.len() + after.len() + 2;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < all.len() {
        let mut end = start;
        let mut length = frame;
        while let Some(element) = all.get(end) {
            let more = element.get().len() + usize::from(end > start);
            if length + more > max_bytes {
                break;
            }
            length += more;
            end += 1;
        }
        if end == start {
            return None;
        }
        let mut part = Vec::with_capacity(length);
        part.extend_from_slice(before);
        push_array(&mut part, &all[start..end]);
        part.extend_from_slice(after);
        parts.push(Bytes::from(part));
        start = end;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    fn batch(path: &str, body: String) -> WriteRequest {
        WriteRequest::new(Method::POST, path.to_owned(), HeaderMap::new(), body.into())
    }

    #[test]
    fn what_fits_or_cannot_be_cut_stays_as_it_is() {
        let entity = r#"{"id":"urn:1","t":{"value":1}}"#;
        for (path, body) in [
            ("/v2/op/update", format!(r#"{{"actionType":"append","entities":[{entity}]}}"#)),
            ("/v2/op/update", format!(r#"{{"entities":[1],"entities":[{entity}]}}"#)),
            ("/v2/op/update", r#"{"actionType":"append""#.to_owned()),
            ("/v2/op/update", r#"{"actionType":"append","entities":[]       }"#.to_owned()),
            ("/v2/entities", entity.to_owned()),
            ("/ngsi-ld/v1/entityOperations/upsert", format!("[{entity}, 1]")),
        ] {
            let request = batch(path, body.clone());
            assert_eq!(split(&request, 20), [body.as_bytes()], "{path} {body}");
            assert_eq!(split(&request, 1000), [body.as_bytes()]);
        }
    }

    #[test]
    fn numbers_keep_every_digit_and_the_rest_of_the_body_is_in_every_part() {
        let body = r#"{"actionType":"append", "entities":[ {"id":"1","n":12345678901234567890.10e5}, {"id":"1","n":1.0} ], "x":1}"#;
        let parts = split(&batch("/v2/op/update", body.to_owned()), 90);
        let expected = [
            r#"{"actionType":"append","entities":[{"id":"1","n":12345678901234567890.10e5}],"x":1}"#,
            r#"{"actionType":"append","entities":[{"id":"1","n":1.0}],"x":1}"#,
        ];
        assert_eq!(parts, expected.map(str::as_bytes));
    }

    proptest! {
        #[test]
        fn parts_fit_are_valid_and_together_are_the_whole_in_order(
            sizes in proptest::collection::vec(0usize..60, 1..40),
            max in 160usize..400,
            ld in any::<bool>(),
        ) {
            let entities: Vec<String> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| format!(r#"{{"id":"{}","v":"{}","n":{n}.0}}"#, n % 3, "x".repeat(*size)))
                .collect();
            let list = format!("[{}]", entities.join(" , "));
            let request = if ld {
                batch("/ngsi-ld/v1/entityOperations/update", list)
            } else {
                batch("/v2/op/update", format!(r#"{{"actionType":"update","entities":{list}}}"#))
            };
            let parts = split(&request, max);
            prop_assert_eq!(&parts, &split(&request, max));
            let mut joined = Vec::new();
            for part in &parts {
                prop_assert!(part.len() <= max);
                let array = if ld {
                    elements(part).unwrap()
                } else {
                    let members = members(part).unwrap();
                    prop_assert_eq!(members[0].1.get(), "\"update\"");
                    elements(members[1].1.get().as_bytes()).unwrap()
                };
                joined.extend(array.iter().map(|element| element.get().to_owned()));
            }
            prop_assert_eq!(joined, entities);
        }
    }
}
