use super::*;
use proptest::prelude::*;

fn request(line: &str, body: &str) -> WriteRequest {
    let (method, path) = line.split_once(' ').unwrap();
    let body = Bytes::from(body.to_owned());
    WriteRequest::new(method.parse().unwrap(), path.to_owned(), HeaderMap::new(), body)
}

fn targets(request: &WriteRequest) -> Option<Vec<&str>> {
    match request.targets() {
        Targets::Entities(keys) => Some(keys.iter().map(|key| key.id.as_str()).collect()),
        Targets::Barrier => None,
    }
}

#[test]
fn every_request_of_the_table_has_its_targets_and_its_way_after_ambiguity() {
    use AfterAmbiguity::{Never, Repeat, RepeatCreate, RepeatDelete};
    let one = r#"{"id":"urn:1","type":"Room","t":{"value":1}}"#;
    let attrs = r#"{"t":{"value":1}}"#;
    let list = r#"[{"id":"b"},{"@id":"a"},{"id":"b"}]"#;
    let cases: &[(&str, &str, Option<&[&str]>, AfterAmbiguity)] = &[
        ("POST /v2/entities", one, Some(&["urn:1"]), RepeatCreate),
        ("POST /v2/entities?options=upsert", one, Some(&["urn:1"]), Repeat),
        ("PATCH /v2/entities/urn:1/attrs?type=Room", attrs, Some(&["urn:1"]), Repeat),
        ("PUT /v2/entities/urn%3A1/attrs", attrs, Some(&["urn:1"]), Repeat),
        ("POST /v2/entities/urn:1/attrs", attrs, Some(&["urn:1"]), Repeat),
        ("POST /v2/entities/urn:1/attrs?options=append", attrs, Some(&["urn:1"]), RepeatCreate),
        ("PUT /v2/entities/urn:1/attrs/t", attrs, Some(&["urn:1"]), Repeat),
        ("PUT /v2/entities/urn:1/attrs/t/value", "5", Some(&["urn:1"]), Repeat),
        ("DELETE /v2/entities/urn:1?type=Room", "", Some(&["urn:1"]), RepeatDelete),
        ("DELETE /v2/entities/urn:1/attrs/t", "", Some(&["urn:1"]), RepeatDelete),
        (
            "POST /v2/op/update",
            r#"{"actionType":"append","entities":[{"id":"b"},{"id":"a"}]}"#,
            Some(&["a", "b"]),
            Repeat,
        ),
        (
            "POST /v2/op/update",
            r#"{"actionType":"APPEND_STRICT","entities":[{"id":"b"}]}"#,
            Some(&["b"]),
            RepeatCreate,
        ),
        (
            "POST /v2/op/update",
            r#"{"actionType":"delete","entities":[{"id":"b"}]}"#,
            Some(&["b"]),
            RepeatDelete,
        ),
        (
            "POST /v2/op/update",
            r#"{"actionType":"x","entities":[{"id":"b"}]}"#,
            Some(&["b"]),
            Never,
        ),
        (
            "POST /v2/op/update",
            r#"{"actionType":"update","entities":[{"idPattern":".*"}]}"#,
            None,
            Repeat,
        ),
        ("POST /v2/op/update", r#"{"actionType":"upd"#, None, Never),
        (
            "POST /v2/op/notify",
            r#"{"subscriptionId":"1","data":[{"id":"b"}]}"#,
            Some(&["b"]),
            Repeat,
        ),
        ("POST /v2/subscriptions", "{}", None, Never),
        ("PATCH /v2/subscriptions/1", "{}", None, Repeat),
        ("DELETE /v2/registrations/1", "", None, RepeatDelete),
        ("POST /v2/something/new", "{}", None, Never),
        ("POST /ngsi-ld/v1/entities", one, Some(&["urn:1"]), RepeatCreate),
        ("PUT /ngsi-ld/v1/entities/urn:1", one, Some(&["urn:1"]), Repeat),
        ("PATCH /ngsi-ld/v1/entities/urn:1", attrs, Some(&["urn:1"]), Repeat),
        ("PATCH /ngsi-ld/v1/entities/urn:1/attrs", attrs, Some(&["urn:1"]), Repeat),
        ("PATCH /ngsi-ld/v1/entities/urn:1/attrs/t", attrs, Some(&["urn:1"]), Repeat),
        (
            "POST /ngsi-ld/v1/entities/urn:1/attrs?options=noOverwrite",
            attrs,
            Some(&["urn:1"]),
            RepeatCreate,
        ),
        ("DELETE /ngsi-ld/v1/entities/urn:1", "", Some(&["urn:1"]), RepeatDelete),
        ("DELETE /ngsi-ld/v1/entities?type=Room", "", None, RepeatDelete),
        ("POST /ngsi-ld/v1/entityOperations/create", list, Some(&["a", "b"]), RepeatCreate),
        (
            "POST /ngsi-ld/v1/entityOperations/upsert?options=update",
            list,
            Some(&["a", "b"]),
            Repeat,
        ),
        ("POST /ngsi-ld/v1/entityOperations/update", list, Some(&["a", "b"]), Repeat),
        ("POST /ngsi-ld/v1/entityOperations/merge", list, Some(&["a", "b"]), Repeat),
        (
            "POST /ngsi-ld/v1/entityOperations/delete",
            r#"["b","a"]"#,
            Some(&["a", "b"]),
            RepeatDelete,
        ),
        ("POST /ngsi-ld/v1/entityOperations/upsert", "[{", None, Repeat),
        ("POST /ngsi-ld/v1/entityOperations/upsert", "[{}]", None, Repeat),
        ("POST /ngsi-ld/v1/temporal/entities", one, None, Never),
        ("POST /ngsi-ld/v1/subscriptions", "{}", None, Never),
    ];
    for (line, body, entities, after) in cases {
        let request = request(line, body);
        assert_eq!(targets(&request).as_deref(), *entities, "{line} {body}");
        assert_eq!(request.after_ambiguity(), *after, "{line} {body}");
    }
}

#[test]
fn a_write_that_counts_is_never_repeated_blindly() {
    let inc = r#"{"t":{"value":{"$inc":1},"type":"Number"}}"#;
    for (line, body) in [
        ("PATCH /v2/entities/1/attrs", inc),
        ("POST /v2/entities/1/attrs", inc),
        ("PUT /v2/entities/1/attrs", inc),
        ("PUT /v2/entities/1/attrs/t", r#"{"value":{"$push":1}}"#),
        ("PUT /v2/entities/1/attrs/t/value", r#"{"$mul":2}"#),
        ("POST /v2/entities?options=upsert", r#"{"id":"1","t":{"value":{"$inc":1}}}"#),
        (
            "POST /v2/op/update",
            r#"{"actionType":"append","entities":[{"id":"1","t":{"value":{"$inc":1}}}]}"#,
        ),
    ] {
        assert_eq!(request(line, body).after_ambiguity(), AfterAmbiguity::Never, "{line}");
    }
    let max = request("PATCH /v2/entities/1/attrs", r#"{"t":{"value":{"$max":1}}}"#);
    assert_eq!(max.after_ambiguity(), AfterAmbiguity::Repeat);
}

#[test]
fn tenants_differ_by_name_but_not_by_case_or_by_api() {
    let with = |headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let path = "/v2/entities/1".to_owned();
        WriteRequest::new(Method::DELETE, path, map, Bytes::new()).targets().clone()
    };
    assert_eq!(with(&[("fiware-service", "Plant1")]), with(&[("ngsild-tenant", "plant1")]));
    assert_eq!(with(&[("fiware-service", "")]), with(&[]));
    assert_ne!(with(&[("fiware-service", "plant1")]), with(&[]));
    let both = with(&[("fiware-service", "a"), ("ngsild-tenant", "b")]);
    assert_eq!(both, Targets::Barrier);
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        path in "(/v2|/ngsi-ld/v1)?(/entities|/op|/entityOperations)?[/?%a-z]{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        text in r#"[\[\]{}:,"$a-z0-9\\ ]{0,100}"#,
    ) {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            for body in [body.clone(), text.clone().into_bytes()] {
                let request =
                    WriteRequest::new(method.clone(), path.clone(), HeaderMap::new(), body.into());
                let _ = request.after_ambiguity();
                let _ = super::super::accepted_answer(&request);
                let _ = super::super::validate(&request);
                let _ = super::super::split(&request, 20);
                let _ = super::super::coalesce(&request, &request);
            }
        }
    }
}
