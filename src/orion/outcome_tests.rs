use super::*;
use proptest::prelude::*;

const NO_RETRY: Outcome = Outcome::Retry { after: None, ambiguous: false };
const AMBIGUOUS: Outcome = Outcome::Retry { after: None, ambiguous: true };

fn request(line: &str, body: &str) -> WriteRequest {
    let (method, path) = line.split_once(' ').unwrap();
    let body = Bytes::from(body.to_owned());
    WriteRequest::new(method.parse().unwrap(), path.to_owned(), HeaderMap::new(), body)
}

fn outcome(request: &WriteRequest, status: u16, body: &str, before: bool) -> Outcome {
    let status = StatusCode::from_u16(status).unwrap();
    classify(request, status, &HeaderMap::new(), body.as_bytes(), before)
}

fn rest(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::AppliedInPart { rest } => {
            rest.map(|rest| String::from_utf8(rest.to_vec()).unwrap())
        }
        other => panic!("not in part: {other:?}"),
    }
}

#[test]
fn every_status_of_the_table_is_in_its_class() {
    let patch = request("PATCH /v2/entities/1/attrs", r#"{"t":{"value":1}}"#);
    for (statuses, expected) in [
        (&[200, 201, 202, 204][..], Outcome::Applied),
        (&[401, 403], Outcome::Unauthorized),
        (&[408, 429, 503], NO_RETRY),
        (&[500, 502, 504, 507, 520, 599], AMBIGUOUS),
        (&[301, 302, 303, 307, 308], Outcome::Refused),
        (&[400, 404, 405, 406, 409, 411, 413, 415, 418, 422, 451, 501], Outcome::Refused),
    ] {
        for status in statuses {
            assert_eq!(outcome(&patch, *status, "", false), expected, "{status}");
            assert_eq!(outcome(&patch, *status, "", true), expected, "{status} again");
        }
    }
}

#[test]
fn after_an_ambiguous_attempt_exists_already_and_not_found_mean_applied() {
    let entity = r#"{"id":"1"}"#;
    let exists = r#"{"error":"Unprocessable","description":"Already Exists"}"#;
    for (line, body, status, first) in [
        ("POST /v2/entities", entity, 422, Outcome::Refused),
        ("POST /v2/entities/1/attrs?options=append", "{}", 422, Outcome::Refused),
        ("POST /ngsi-ld/v1/entities", entity, 409, Outcome::Refused),
        ("DELETE /v2/entities/1", "", 404, Outcome::Refused),
        ("DELETE /v2/entities/1/attrs/t", "", 404, Outcome::Refused),
        ("DELETE /ngsi-ld/v1/entities/1", "", 404, Outcome::Refused),
        (
            "POST /v2/op/update",
            r#"{"actionType":"delete","entities":[{"id":"1"}]}"#,
            404,
            Outcome::Refused,
        ),
    ] {
        let request = request(line, body);
        assert_eq!(outcome(&request, status, exists, false), first, "{line}");
        assert_eq!(outcome(&request, status, exists, true), Outcome::Applied, "{line} again");
    }
    // 409 in NGSIv2 is "more than one entity has this id".
    assert_eq!(outcome(&request("POST /v2/entities", entity), 409, "", true), Outcome::Refused);
    let patch = request("PATCH /v2/entities/1/attrs", "{}");
    assert_eq!(outcome(&patch, 404, "", true), Outcome::Refused);
}

#[test]
fn a_partial_update_of_ngsiv2_is_applied_in_part_with_the_whole_as_its_rest() {
    let body = r#"{"actionType":"update","entities":[{"id":"1"},{"id":"2"}]}"#;
    let partial = r#"{"error":"PartialUpdate","description":"do not exist: 2"}"#;
    let update = request("POST /v2/op/update", body);
    assert_eq!(rest(outcome(&update, 422, partial, false)).as_deref(), Some(body));
    assert_eq!(rest(outcome(&update, 422, partial, true)).as_deref(), Some(body));
    let delete = request("POST /v2/op/update", &body.replace("update", "delete"));
    assert!(rest(outcome(&delete, 422, partial, false)).is_some());
    assert_eq!(outcome(&delete, 422, partial, true), Outcome::Applied);
}

#[test]
fn a_multi_status_of_a_batch_leaves_exactly_the_failed_entities() {
    let upsert = request(
        "POST /ngsi-ld/v1/entityOperations/upsert",
        r#"[{"id":"a","n":1.0},{"@id":"b","n":12345678901234567890},{"id":"c"}]"#,
    );
    let one = r#"{"success":["a","c"],"errors":[{"entityId":"b","error":{"status":400}}]}"#;
    for status in [200, 207] {
        let rest = rest(outcome(&upsert, status, one, false));
        assert_eq!(rest.as_deref(), Some(r#"[{"@id":"b","n":12345678901234567890}]"#));
    }
    assert_eq!(outcome(&upsert, 207, r#"{"success":["a"],"errors":[]}"#, false), Outcome::Applied);
    let strange = r#"{"success":[],"errors":[{"entityId":"x"}]}"#;
    assert_eq!(rest(outcome(&upsert, 207, strange, false)), None);
    assert_eq!(rest(outcome(&upsert, 207, "what?", false)), None);
    assert_eq!(outcome(&upsert, 400, strange, false), Outcome::Refused);
    let twice = r#"{"success":[],"errors":[{"entityId":"a"},{"entityId":"a"}]}"#;
    assert_eq!(outcome(&upsert, 400, twice, false), Outcome::Refused);
    assert_eq!(outcome(&upsert, 201, r#"["a","b"]"#, false), Outcome::Applied);
}

#[test]
fn a_repeated_batch_forgives_what_the_first_attempt_did() {
    let create = request("POST /ngsi-ld/v1/entityOperations/create", r#"[{"id":"a"},{"id":"b"}]"#);
    let exists = r#"{"success":["b"],"errors":[{"entityId":"a","error":{"title":"Entity already exists","status":409}}]}"#;
    assert!(rest(outcome(&create, 207, exists, false)).is_some());
    assert_eq!(outcome(&create, 207, exists, true), Outcome::Applied);
    assert_eq!(outcome(&create, 409, "", true), Outcome::Applied);

    let delete = request("POST /ngsi-ld/v1/entityOperations/delete", r#"["a","b","c"]"#);
    let gone = r#"{"success":["c"],"errors":[{"entityId":"a","error":{"title":"Entity not found"}},{"entityId":"b","error":{"status":500}}]}"#;
    assert_eq!(rest(outcome(&delete, 207, gone, false)).as_deref(), Some(r#"["a","b"]"#));
    assert_eq!(rest(outcome(&delete, 207, gone, true)).as_deref(), Some(r#"["b"]"#));
}

#[test]
fn a_multi_status_of_attributes_leaves_exactly_the_failed_attributes() {
    let patch = request(
        "PATCH /ngsi-ld/v1/entities/1/attrs",
        r#"{"@context":"c","t":{"value":1.0},"u":{"value":2}}"#,
    );
    let expected = Some(r#"{"@context":"c","t":{"value":1.0}}"#);
    for name in ["t", "https://example.org/t"] {
        let body = format!(
            r#"{{"updated":["u"],"notUpdated":[{{"attributeName":"{name}","reason":"no"}}]}}"#
        );
        assert_eq!(rest(outcome(&patch, 207, &body, false)).as_deref(), expected);
    }
    let strange = r#"{"updated":[],"notUpdated":[{"attributeName":"x"}]}"#;
    assert_eq!(rest(outcome(&patch, 207, strange, false)), None);
    assert_eq!(rest(outcome(&patch, 207, "", false)), None);
    let strict =
        request("POST /ngsi-ld/v1/entities/1/attrs?options=noOverwrite", r#"{"t":{"value":1}}"#);
    let exists = r#"{"updated":[],"notUpdated":[{"attributeName":"t","reason":"attribute already exists"}]}"#;
    assert!(rest(outcome(&strict, 207, exists, false)).is_some());
    assert_eq!(outcome(&strict, 207, exists, true), Outcome::Applied);
}

#[test]
fn a_broker_without_history_is_not_asked_again() {
    let temporal = request("POST /ngsi-ld/v1/temporal/entities", r#"{"id":"1"}"#);
    let off = r#"{"title":"TRoE Not Enabled","status":503}"#;
    assert_eq!(outcome(&temporal, 503, off, false), Outcome::Refused);
    assert_eq!(outcome(&temporal, 503, "overloaded", false), NO_RETRY);
    assert_eq!(outcome(&request("DELETE /v2/entities/1", ""), 503, off, false), NO_RETRY);
}

#[test]
fn retry_after_is_honoured_in_both_forms_and_capped() {
    let patch = request("PATCH /v2/entities/1/attrs", "{}");
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (value, now, expected) in [
        ("7", None, Some(7)),
        ("0", None, Some(0)),
        ("86400", None, Some(300)),
        ("Sun, 06 Nov 1994 08:50:07 GMT", Some(date), Some(30)),
        ("Mon, 07 Nov 1994 08:50:07 GMT", Some(date), Some(300)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(date), Some(0)),
        ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
        ("-1", None, None),
        ("soon", Some(date), None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().unwrap());
        if let Some(now) = now {
            headers.insert("date", now.parse().unwrap());
        }
        let expected =
            Outcome::Retry { after: expected.map(Duration::from_secs), ambiguous: false };
        let got = classify(&patch, StatusCode::TOO_MANY_REQUESTS, &headers, b"", false);
        assert_eq!(got, expected, "{value} {now:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        status in 100u16..1000,
        body in proptest::collection::vec(any::<u8>(), 0..100),
        text in r#"\{"(errors|notUpdated|error)":[\[\]{}:,"a-z0-9]{0,60}"#,
        sent in r#"[\[\]{}:,"a-z0-9]{0,60}"#,
        retry in "[ -~]{0,40}",
        before in any::<bool>(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", retry.parse().unwrap());
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        for line in [
            "POST /v2/entities",
            "POST /v2/op/update",
            "POST /ngsi-ld/v1/entityOperations/create",
            "POST /ngsi-ld/v1/entityOperations/delete",
            "PATCH /ngsi-ld/v1/entities/1/attrs",
            "POST /ngsi-ld/v1/temporal/entities",
        ] {
            let request = request(line, &sent);
            let _ = classify(&request, status, &headers, &body, before);
            let _ = classify(&request, status, &headers, text.as_bytes(), before);
        }
    }
}
