//! A parser as strict as the old connector's: what it takes is a line that
//! kills no batch there. Written from what is known of its behaviour.

use serde_json::{Map, Value};

/// What is wrong with a line; `Ok` where an event can be made of it.
pub fn check(line: &str) -> Result<Value, String> {
    if line.contains(['\r', '\n']) {
        return Err("CR or LF within the line".into());
    }
    let parsed: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let members = parsed.as_object().ok_or("no object")?;
    timestamp(members.get("timestamp").and_then(Value::as_str).ok_or("no timestamp")?)?;
    for (name, value) in
        members.iter().filter(|(name, _)| !matches!(&***name, "timestamp" | "Body"))
    {
        let value = value.as_str().ok_or(format!("header {name} is no text"))?;
        if value.contains('"') || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Err(format!("header {name}: {value}"));
        }
    }
    let body = members.get("Body").and_then(Value::as_object).ok_or("no Body")?;
    let is_ld = body.get("type").is_some_and(|kind| kind == "Notification");
    let data = body.get("data").and_then(Value::as_array).ok_or("data is no list")?;
    for entity in data {
        check_entity(is_ld, entity.as_object().ok_or("an entity is no object")?)?;
    }
    Ok(parsed)
}

fn check_entity(is_ld: bool, entity: &Map<String, Value>) -> Result<(), String> {
    for name in ["id", "type"] {
        // NGSI-LD entities may have several types.
        let is_list = |value: &Value| is_ld && name == "type" && value.is_array();
        if !entity.get(name).is_some_and(|value| value.is_string() || is_list(value)) {
            return Err(format!("an entity without {name}"));
        }
    }
    for (name, attribute) in entity {
        if matches!(&**name, "id" | "type" | "@context") {
            continue;
        }
        let attribute = attribute.as_object().ok_or(format!("{name} is not normalized"))?;
        let kind = attribute.get("type").and_then(Value::as_str).ok_or(format!("{name}: type"))?;
        let is_whole = if is_ld {
            let value = match kind {
                "Property" | "GeoProperty" => "value",
                "Relationship" => "object",
                "LanguageProperty" => "languageMap",
                other => return Err(format!("{name} is of type {other}")),
            };
            attribute.contains_key(value)
        } else {
            attribute.contains_key("value")
                && attribute.get("metadata").is_some_and(Value::is_object)
                && attribute.len() == 3
        };
        if !is_whole {
            return Err(format!("{name} is not whole: {attribute:?}"));
        }
    }
    Ok(())
}

/// `2026-11-22T10:58:37.377157`: naive, with microseconds.
fn timestamp(text: &str) -> Result<(), String> {
    let form = "0000-00-00T00:00:00.000000";
    let fits = text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
    if fits { Ok(()) } else { Err(format!("timestamp {text}")) }
}
