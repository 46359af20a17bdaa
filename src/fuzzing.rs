//! What the targets in `fuzz/` call: everything that outside bytes reach and
//! that is not public. Built by cargo-fuzz only. Each function panics where a
//! promise is broken.

use std::path::Path;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::config::{Config, Settings, to_toml};
use crate::ngsi::{self, WriteRequest, elements, members};
use crate::orion::outcome::classify;

pub use crate::orion::fuzzing::Intake;
pub use crate::spark::fuzzing::{query, rows};
pub use crate::store::fuzzing::group;

/// Cuts where the separator stands; what comes behind it may be missing.
fn cut<'a>(data: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = data.windows(separator.len()).position(|window| window == separator);
    at.map_or((data, b"" as &[u8]), |at| (&data[..at], &data[at + separator.len()..]))
}

/// A request as it would come: `METHOD path`, headers, an empty line, a body;
/// behind a line of `%%`, another body of the same request.
pub fn ngsi(data: &[u8]) {
    let (head, rest) = cut(data, b"\n\n");
    let (body, second) = cut(rest, b"\n%%\n");
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let (method, path) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let Ok(method) = method.parse::<Method>() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')).take(32) {
        if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_str(value.trim()))
        {
            headers.append(name, value);
        }
    }
    let _ = ngsi::glimpse(&headers, body);
    let _ = (ngsi::access(&method, path), ngsi::is_write(&method, path));
    let request = |body: &[u8]| {
        let body = Bytes::copy_from_slice(body);
        WriteRequest::new(method.clone(), path.to_owned(), headers.clone(), body)
    };
    let (older, newer) = (request(body), request(second));
    for request in [&older, &newer] {
        if let Err(refusal) = ngsi::validate(request) {
            let _ = refusal.body(request.api());
        } else {
            let _ = ngsi::accepted_answer(request);
        }
    }
    for code in [204, 207, 400, 404, 409, 422, 503] {
        let status = StatusCode::from_u16(code).unwrap_or_default();
        for ambiguous in [false, true] {
            let _ = classify(&older, status, &headers, second, ambiguous);
        }
    }
    for most in [40, 200, 1000] {
        split_parts_are_the_whole(&older, most);
    }
    if let Some(merged) = ngsi::coalesce(&older, &newer)
        && let Some(wanted) = members(newer.body())
    {
        let merged = members(&merged).expect("two objects make an object");
        for (name, value) in wanted {
            let kept = merged.iter().find(|(other, _)| *other == name);
            assert_eq!(kept.map(|(_, kept)| kept.get()), Some(value.get()), "{name}");
        }
    }
}

fn split_parts_are_the_whole(request: &WriteRequest, most: usize) {
    let parts = ngsi::split(request, most);
    assert_eq!(parts, ngsi::split(request, most), "a restart must find the same parts");
    if let [one] = &parts[..] {
        // Either unchanged, or a batch without what stood around its entities.
        assert!(one == request.body() || one.len() <= most);
        return;
    }
    assert!(parts.iter().all(|part| part.len() <= most), "a part is too long");
    let entities = |body: &Bytes| -> Vec<String> {
        let all = if request.kind().is_ld_batch() {
            elements(body)
        } else {
            let members = members(body).expect("a part is an object");
            let found = members.iter().find(|(name, _)| name == "entities");
            found.and_then(|(_, value)| elements(value.get().as_bytes()))
        };
        all.expect("a list").iter().map(|entity| entity.get().to_owned()).collect()
    };
    let together: Vec<String> = parts.iter().flat_map(entities).collect();
    assert_eq!(together, entities(request.body()));
}

/// A configuration file, then a line of `%%` and variables, `NAME=VALUE` each.
/// `scratch` is a file that the target may write.
pub fn config(data: &[u8], scratch: &Path) {
    let (file, variables) = cut(data, b"\n%%\n");
    let load = |content: &[u8], variables: &str| {
        std::fs::write(scratch, content).expect("a scratch file can be written");
        let pairs = variables.lines().filter_map(|line| line.split_once('='));
        let pairs: Vec<_> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Settings::load(Some(scratch), pairs.into_iter())
    };
    match load(file, &String::from_utf8_lossy(variables)) {
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            assert!(!problems.to_string().is_empty());
            for problem in problems.iter() {
                let _ = serde_json::to_string(problem);
            }
        }
        Ok(settings) => {
            let text = to_toml(&settings.config).expect("what was read can be written");
            let again: Config = match load(text.as_bytes(), "") {
                Ok(again) => again.config,
                Err(problems) => panic!("{problems}\n{text}"),
            };
            assert_eq!(again, settings.config);
        }
    }
}
