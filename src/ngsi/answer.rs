//! What a pass-through is answered at once, before Orion has seen it.

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::route::{Api, Kind};
use super::write::{WriteRequest, content_type, ids};

/// Kept readable as Orion writes it (`urn:Room:1`), but never able to end a
/// header line or to start another part of the URL.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\');

/// What Orion answers when it takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Location`, where something was created; ASCII without blanks.
    pub location: Option<String>,
    /// A JSON body (NGSI-LD batches list the ids).
    pub body: Option<Bytes>,
}

impl Answer {
    fn status(status: StatusCode) -> Self {
        Self { status, location: None, body: None }
    }
}

/// What Orion would answer to this request on success.
///
/// Where Orion would have to be asked, the answer is the one that claims least:
/// an NGSIv2 upsert is 204 (Orion: 201 or 204), an NGSI-LD batch upsert is 201
/// with all ids (Orion-LD: those that are new), and a POST that makes a
/// subscription, a registration or anything unknown is 202 without a Location,
/// because Orion makes up its id.
#[must_use]
pub fn accepted_answer(request: &WriteRequest) -> Answer {
    let created = |location| Answer { location, ..Answer::status(StatusCode::CREATED) };
    match request.kind() {
        Kind::CreateEntity => created(entity_location(request)),
        Kind::BatchCreate | Kind::BatchUpsert => match ids(request.kind(), request.body()).1 {
            Some(list) => Answer {
                body: Some(Bytes::from(json!(list).to_string())),
                ..Answer::status(StatusCode::CREATED)
            },
            None => Answer::status(StatusCode::ACCEPTED),
        },
        // Orion answers a notification of another broker with 200.
        Kind::Notify => Answer::status(StatusCode::OK),
        Kind::Temporal if *request.method() == Method::POST => {
            let path = request.path().split('?').next().unwrap_or_default();
            match ids(Kind::CreateEntity, request.body()).1.as_deref() {
                Some([id]) if path.trim_end_matches('/').ends_with("/temporal/entities") => {
                    created(Some(format!(
                        "/ngsi-ld/v1/temporal/entities/{}",
                        utf8_percent_encode(id, IN_PATH)
                    )))
                }
                _ => Answer::status(StatusCode::NO_CONTENT),
            }
        }
        Kind::Other if *request.method() == Method::POST => Answer::status(StatusCode::ACCEPTED),
        _ => Answer::status(StatusCode::NO_CONTENT),
    }
}

/// `/v2/entities/{id}?type=T` (measured) or `/ngsi-ld/v1/entities/{id}`.
fn entity_location(request: &WriteRequest) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(default, rename = "type")]
        name: Option<Value>,
    }
    let id = ids(Kind::CreateEntity, request.body()).1?.pop()?;
    let id = utf8_percent_encode(&id, IN_PATH);
    match request.api() {
        Api::Ld => Some(format!("/ngsi-ld/v1/entities/{id}")),
        Api::V2 => {
            let typed: Typed = serde_json::from_slice(request.body()).ok()?;
            // NGSIv2's default type of an entity.
            let name = typed.name.as_ref().and_then(Value::as_str).unwrap_or("Thing");
            Some(format!("/v2/entities/{id}?type={}", utf8_percent_encode(name, IN_PATH)))
        }
    }
}

/// A refusal that Orion would certainly give, given at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// Orion's short name of the error.
    pub error: &'static str,
    /// One sentence.
    pub description: &'static str,
}

impl Refusal {
    /// The body in the shape of the API: NGSIv2's `error` and `description`, or
    /// NGSI-LD's problem details (RFC 7807).
    #[must_use]
    pub fn body(&self, api: Api) -> Bytes {
        let body = match api {
            Api::V2 => json!({"error": self.error, "description": self.description}),
            Api::Ld => json!({
                "type": "https://uri.etsi.org/ngsi-ld/errors/InvalidRequest",
                "title": self.error,
                "detail": self.description,
            }),
        };
        Bytes::from(body.to_string())
    }
}

/// Finds what Orion would certainly refuse, so that the caller hears it now
/// instead of finding it in the dead letters.
///
/// Deliberately little: no body, no content type, or a JSON body that is not
/// JSON, on the requests that are understood. Everything else is Orion's to
/// judge. JSON is only checked for its syntax, at any depth, so that nothing
/// Orion's own parser takes is refused here.
///
/// # Errors
/// The [`Refusal`] to answer.
pub fn validate(request: &WriteRequest) -> Result<(), Refusal> {
    let bodiless = *request.method() == Method::DELETE;
    if bodiless || matches!(request.kind(), Kind::Other | Kind::Temporal) {
        return Ok(());
    }
    if request.body().is_empty() {
        return Err(match request.api() {
            Api::V2 => Refusal {
                status: StatusCode::LENGTH_REQUIRED,
                error: "ContentLengthRequired",
                description: "Zero/No Content-Length in PUT/POST/PATCH request",
            },
            Api::Ld => Refusal {
                status: StatusCode::BAD_REQUEST,
                error: "Empty payload",
                description: "the request needs a JSON body",
            },
        });
    }
    let content_type = content_type(request.headers());
    if content_type.is_empty() {
        return Err(Refusal {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            error: "UnsupportedMediaType",
            description: "Content-Type header not used, default application/octet-stream is not supported",
        });
    }
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let json = media == "application/json" || media.ends_with("+json");
    // `IgnoredAny` walks without recursion and without looking into strings.
    if json && serde_json::from_slice::<IgnoredAny>(request.body()).is_err() {
        return Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            error: "ParseError",
            description: "Errors found in incoming JSON buffer",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn request(line: &str, content_type: &str, body: &str) -> WriteRequest {
        let (method, path) = line.split_once(' ').unwrap();
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert("content-type", content_type.parse().unwrap());
        }
        let body = Bytes::from(body.to_owned());
        WriteRequest::new(method.parse().unwrap(), path.to_owned(), headers, body)
    }

    #[test]
    fn success_is_answered_as_orion_would() {
        let one = r#"{"id":"urn:Room:svc","type":"Room"}"#;
        let list = r#"[{"id":"b"},{"id":"a"}]"#;
        for (line, body, status, location, answer) in [
            ("POST /v2/entities", one, 201, Some("/v2/entities/urn:Room:svc?type=Room"), None),
            ("POST /v2/entities", r#"{"id":"1"}"#, 201, Some("/v2/entities/1?type=Thing"), None),
            ("POST /v2/entities", "[]", 201, None, None),
            ("POST /v2/entities?options=upsert", one, 204, None, None),
            ("PATCH /v2/entities/1/attrs", "{}", 204, None, None),
            ("DELETE /v2/entities/1", "", 204, None, None),
            ("POST /v2/op/update", "{}", 204, None, None),
            ("POST /v2/op/notify", "{}", 200, None, None),
            ("POST /v2/subscriptions", "{}", 202, None, None),
            ("PATCH /v2/subscriptions/1", "{}", 204, None, None),
            (
                "POST /ngsi-ld/v1/entities",
                one,
                201,
                Some("/ngsi-ld/v1/entities/urn:Room:svc"),
                None,
            ),
            ("PATCH /ngsi-ld/v1/entities/1/attrs", "{}", 204, None, None),
            ("POST /ngsi-ld/v1/entityOperations/create", list, 201, None, Some(r#"["b","a"]"#)),
            ("POST /ngsi-ld/v1/entityOperations/upsert", list, 201, None, Some(r#"["b","a"]"#)),
            ("POST /ngsi-ld/v1/entityOperations/update", list, 204, None, None),
            ("POST /ngsi-ld/v1/entityOperations/delete", r#"["a"]"#, 204, None, None),
            (
                "POST /ngsi-ld/v1/temporal/entities",
                one,
                201,
                Some("/ngsi-ld/v1/temporal/entities/urn:Room:svc"),
                None,
            ),
        ] {
            let got = accepted_answer(&request(line, "application/json", body));
            assert_eq!(got.status.as_u16(), status, "{line}");
            assert_eq!(got.location.as_deref(), location, "{line}");
            assert_eq!(got.body.as_deref(), answer.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn an_id_cannot_break_out_of_the_location() {
        let body = r#"{"id":"a\r\nSet-Cookie: x?é","type":"R&x"}"#;
        let location = accepted_answer(&request("POST /v2/entities", "application/json", body));
        let expected = "/v2/entities/a%0D%0ASet-Cookie:%20x%3F%C3%A9?type=R%26x";
        assert_eq!(location.location.as_deref(), Some(expected));
    }

    #[test]
    fn only_what_orion_would_certainly_refuse_is_refused_at_once() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for (line, content_type, body, status) in [
            ("POST /v2/entities", "application/json", r#"{"id":"1"}"#, None),
            ("POST /v2/entities", "application/json; charset=utf-8", r#"{"id":"1""#, Some(400)),
            ("POST /v2/entities", "", r#"{"id":"1"}"#, Some(415)),
            ("POST /v2/entities", "application/json", "", Some(411)),
            ("POST /ngsi-ld/v1/entities", "application/ld+json", "", Some(400)),
            ("POST /ngsi-ld/v1/entities", "application/ld+json", "{]", Some(400)),
            ("PUT /v2/entities/1/attrs/t/value", "text/plain", "not json", None),
            ("PUT /v2/entities/1/attrs/t/value", "application/json", &deep, None),
            ("DELETE /v2/entities/1", "", "", None),
            ("POST /v2/subscriptions", "", "", None),
        ] {
            let got = validate(&request(line, content_type, body));
            assert_eq!(
                got.err().map(|r| r.status.as_u16()),
                status,
                "{line} {content_type} {body}"
            );
        }
    }

    #[test]
    fn refusals_have_the_shape_of_their_api() {
        let refusal = validate(&request("POST /v2/entities", "application/json", "{")).unwrap_err();
        let v2 = br#"{"description":"Errors found in incoming JSON buffer","error":"ParseError"}"#;
        assert_eq!(refusal.body(Api::V2), v2.as_slice());
        assert!(refusal.body(Api::Ld).starts_with(b"{\"detail\""));
    }
}
