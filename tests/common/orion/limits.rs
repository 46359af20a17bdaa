//! What Orion 4.7 refuses before it looks at any entity.

use serde_json::Value;

use super::answer::Answer;
use super::request::Request;

/// Orion's default limit of a request's body.
pub const MAX_BODY: usize = 1024 * 1024;

/// From this size on a chunked body makes the real Orion crash.
pub const CHUNKED_CRASH: usize = 64 * 1024;

const FORBIDDEN: &[char] = &['<', '>', '"', '\'', '=', ';', '(', ')'];

/// The refusal of a request for its headers alone.
pub fn check_head(request: &Request) -> Result<(), Answer> {
    let writes = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    if writes && (request.chunked || request.body.is_empty()) {
        let told = "Zero/No Content-Length in PUT/POST/PATCH request";
        return Err(Answer::v2(411, "ContentLengthRequired", told));
    }
    if request.body.len() > MAX_BODY {
        let told = format!("payload size: {}, max size supported: {MAX_BODY}", request.body.len());
        return Err(Answer::v2(413, "RequestEntityTooLarge", told));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(c) = request.tenant().chars().find(|c| !allowed(*c)) {
        let told = format!(
            "bad character in tenant name - only underscore and alphanumeric characters are \
             allowed. Offending character: {c}"
        );
        return Err(Answer::v2(400, "BadRequest", told));
    }
    if writes { check_content_type(request) } else { Ok(()) }
}

fn check_content_type(request: &Request) -> Result<(), Answer> {
    let linked_data = request.path.starts_with("/ngsi-ld/");
    let Some(told) = request.header("content-type") else {
        return Err(unsupported(
            "Content-Type header not used, default application/octet-stream is not supported",
        ));
    };
    let kind = told.split(';').next().unwrap_or_default().trim();
    let segments = request.segments();
    let is_value = segments.last().is_some_and(|s| s == "value") && !linked_data;
    match kind {
        "application/json" => Ok(()),
        "application/ld+json" if linked_data => Ok(()),
        "application/merge-patch+json" if linked_data && request.method == "PATCH" => Ok(()),
        "text/plain" if is_value => Ok(()),
        other => Err(unsupported(&format!("not supported content type: {other}"))),
    }
}

fn unsupported(told: &str) -> Answer {
    Answer::v2(415, "UnsupportedMediaType", told)
}

/// The body as JSON, or the refusal of either API.
pub fn parse(request: &Request) -> Result<Value, Answer> {
    request.json().ok_or_else(|| {
        if request.path.starts_with("/ngsi-ld/") {
            Answer::ld(400, "InvalidRequest", "JSON Parse Error", "no valid JSON")
        } else {
            Answer::v2(400, "ParseError", "Errors found in incoming JSON buffer")
        }
    })
}

/// Refuses forbidden characters in an id, a type or a name.
pub fn check_identifier(what: &str, text: &str) -> Result<(), Answer> {
    if text.contains(FORBIDDEN) || text.contains(char::is_whitespace) || text.is_empty() {
        return Err(bad_characters(what));
    }
    Ok(())
}

/// Refuses forbidden characters in any text of a value, at any depth, unless
/// the attribute's type is `TextUnrestricted`.
pub fn check_attribute(name: &str, attribute: &Value) -> Result<(), Answer> {
    check_identifier("attribute name", name)?;
    let kind = attribute["type"].as_str().unwrap_or_default();
    check_identifier("attribute type", kind)?;
    if kind != "TextUnrestricted" && has_forbidden(&attribute["value"]) {
        return Err(bad_characters("attribute value"));
    }
    Ok(())
}

fn has_forbidden(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(FORBIDDEN),
        Value::Array(list) => list.iter().any(has_forbidden),
        Value::Object(object) => {
            object.iter().any(|(k, v)| k.contains(FORBIDDEN) || has_forbidden(v))
        }
        _ => false,
    }
}

fn bad_characters(what: &str) -> Answer {
    Answer::v2(400, "BadRequest", format!("Invalid characters in {what}"))
}
