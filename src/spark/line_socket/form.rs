//! A record as a line for a socket.

use time::OffsetDateTime;
use time::macros::format_description;

use super::config::Form;
use crate::ngsi::{self, Told};
use crate::record::Notification;

/// A line, with its LF.
pub(super) struct Line {
    pub bytes: Vec<u8>,
    /// The body came in another form than it goes.
    pub converted: bool,
}

/// Why a record is no line; as the metric's label has it.
pub(super) type LeftOut = &'static str;

/// Headers that Orion and Orion-LD spell otherwise than with a capital at the
/// beginning of each part.
const SPELLED: [(&str, &str); 3] = [
    ("ngsiv2-attrsformat", "Ngsiv2-AttrsFormat"),
    ("www-authenticate", "WWW-Authenticate"),
    ("te", "TE"),
];

pub(super) fn line(form: Form, notification: &Notification) -> Result<Line, LeftOut> {
    match form {
        Form::Connector => connector(notification),
        Form::Body => body(notification),
    }
}

/// The body alone.
fn body(notification: &Notification) -> Result<Line, LeftOut> {
    let body = &notification.body;
    if body.is_empty() {
        return Err("empty");
    }
    let is_line = !body.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    let mut bytes = if is_line {
        body.to_vec()
    } else if serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok() {
        ngsi::one_line(body)
    } else {
        return Err("several-lines");
    };
    bytes.push(b'\n');
    Ok(Line { bytes, converted: false })
}

/// Time, headers and normalized body in one object. The time is UTC.
fn connector(notification: &Notification) -> Result<Line, LeftOut> {
    let told = Told::by(|name| notification.header(name));
    let normalized = ngsi::normalize(told, &notification.body).map_err(|error| match error {
        ngsi::Unconvertible::Empty => "empty",
        ngsi::Unconvertible::NotJson => "not-json",
        ngsi::Unconvertible::NoEntities => "no-entities",
        ngsi::Unconvertible::SeveralInstances => "several-instances",
    })?;
    let converted = normalized.converted;
    let mut text = String::with_capacity(512);
    text.push_str("{\"timestamp\":\"");
    text.push_str(&naive(notification));
    text.push('"');
    let mut names: Vec<&str> = Vec::with_capacity(notification.headers.len());
    for (name, _) in &notification.headers {
        if names.contains(&name.as_str()) {
            continue;
        }
        names.push(name);
        // What the headers say of the body is to be true.
        let value = match name.as_str() {
            "content-length" if converted => normalized.body.len().to_string(),
            "ngsiv2-attrsformat" if converted => "normalized".to_owned(),
            "ngsild-attribute-format" if converted => "Normalized".to_owned(),
            _ => joined(notification, name),
        };
        text.push(',');
        push_json(&mut text, &spelled(name));
        text.push(':');
        push_json(&mut text, &value.replace('"', "'"));
    }
    text.push_str(",\"Body\":");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&normalized.body);
    bytes.extend_from_slice(b"}\n");
    Ok(Line { bytes, converted })
}

/// All lines of a header as one, RFC 9110, 5.3.
fn joined(notification: &Notification, name: &str) -> String {
    let values = notification.headers.iter().filter(|(other, _)| other == name);
    let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
    values.join(", ")
}

/// `fiware-servicepath` as `Fiware-Servicepath`.
fn spelled(name: &str) -> String {
    if let Some((_, spelled)) = SPELLED.iter().find(|(lower, _)| *lower == name) {
        return (*spelled).to_owned();
    }
    let mut spelled = String::with_capacity(name.len());
    let mut begins = true;
    for letter in name.chars() {
        spelled.push(if begins { letter.to_ascii_uppercase() } else { letter });
        begins = letter == '-';
    }
    spelled
}

/// A time without its zone, always with its microseconds.
fn naive(notification: &Notification) -> String {
    let form =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");
    // A time of a year that has not four digits is no clock's.
    OffsetDateTime::from(notification.received).format(&form).unwrap_or_default()
}

fn push_json(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;

    use super::*;

    fn notification(headers: &[(&str, &str)], body: &'static str) -> Notification {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), Bytes::from((*v).to_owned())));
        Notification {
            received: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_345_117_377_157),
            method: "POST".to_owned(),
            path: "/notify".to_owned(),
            headers: headers.collect(),
            body: body.into(),
        }
    }

    fn text(form: Form, notification: &Notification) -> String {
        String::from_utf8(line(form, notification).ok().unwrap().bytes).unwrap()
    }

    #[test]
    fn a_connector_line_has_orions_headers_and_one_line_of_body() {
        let headers = [
            ("fiware-servicepath", "/line/a"),
            ("ngsiv2-attrsformat", "normalized"),
            ("link", "<http://x>; rel=\"a\\b\""),
            ("x-many", "1"),
            ("x-many", "2"),
        ];
        let body = "{\"data\":\r\n[{\"id\":\"a\\\"\\n\",\"type\":\"T\"}]}";
        assert_eq!(
            text(Form::Connector, &notification(&headers, body)),
            "{\"timestamp\":\"2026-11-22T10:58:37.377157\",\"Fiware-Servicepath\":\"/line/a\",\
             \"Ngsiv2-AttrsFormat\":\"normalized\",\"Link\":\"<http://x>; rel='a\\\\b'\",\
             \"X-Many\":\"1, 2\",\"Body\":{\"data\":[{\"id\":\"a\\\"\\n\",\"type\":\"T\"}]}}\n"
        );
    }

    #[test]
    fn headers_tell_of_the_body_as_it_goes() {
        let headers = [("ngsiv2-attrsformat", "keyValues"), ("content-length", "7")];
        let line = text(
            Form::Connector,
            &notification(
                &headers,
                r#"{"subscriptionId":"s","data":[{"id":"1","type":"T","t":1}]}"#,
            ),
        );
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["Ngsiv2-AttrsFormat"], "normalized");
        assert_eq!(line["Content-Length"], line["Body"].to_string().len().to_string());
    }

    #[test]
    fn a_body_goes_alone_where_it_can_be_one_line() {
        assert_eq!(text(Form::Body, &notification(&[], "t is 4")), "t is 4\n");
        assert_eq!(text(Form::Body, &notification(&[], "{\"a\":\r\n1}")), "{\"a\":1}\n");
        for body in ["", "two\nlines", "{\"a\":\n"] {
            assert!(line(Form::Body, &notification(&[], body)).is_err(), "{body}");
        }
    }
}
