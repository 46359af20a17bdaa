//! `NGSIv2` writes on one entity, answered as Orion 4.7 answers them.

use serde_json::{Value, json};

use super::answer::Answer;
use super::entities::{Attributes, Entities, Found, Key};
use super::request::Request;
use super::{limits, v2_batch, values};

/// How an update treats attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// New ones are added, existing ones overwritten.
    Append,
    /// Only new ones are taken.
    AppendStrict,
    /// Only existing ones are taken.
    Existing,
    /// All old ones go.
    Replace,
}

/// Answers a request under `/v2`.
pub fn answer(entities: &mut Entities, request: &Request) -> Result<Answer, Answer> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = request.method.as_str();
    match (method, &segments[1..]) {
        ("POST", ["entities"]) => create(entities, request),
        ("POST", ["op", "update"]) => v2_batch::answer(entities, request),
        ("GET", ["entities", id]) => read(entities, request, id),
        ("POST", ["entities", id, "attrs"]) => {
            let strict = request.option("append");
            let how = if strict { Update::AppendStrict } else { Update::Append };
            change(entities, request, id, how)
        }
        ("PATCH", ["entities", id, "attrs"]) => change(entities, request, id, Update::Existing),
        ("PUT", ["entities", id, "attrs"]) => change(entities, request, id, Update::Replace),
        ("PUT", ["entities", id, "attrs", name]) => {
            let attribute = limits::parse(request)?;
            change_one(entities, request, id, name, &attribute)
        }
        ("PUT", ["entities", id, "attrs", name, "value"]) => {
            let attribute = json!({"value": limits::parse(request)?});
            change_one(entities, request, id, name, &attribute)
        }
        ("DELETE", ["entities", id]) => {
            let key = existing(entities, request, id)?;
            entities.remove(request.number, &key);
            Ok(Answer::status(204))
        }
        ("DELETE", ["entities", id, "attrs", name]) => {
            let key = existing(entities, request, id)?;
            let mut attributes = entities.attributes(&key).cloned().unwrap_or_default();
            attributes.remove(*name).ok_or_else(no_attribute)?;
            entities.put(request.number, key, "DELETE attr", json!(name), attributes);
            Ok(Answer::status(204))
        }
        (_, ["entities", ..] | ["op", "update"]) => {
            Err(Answer::v2(405, "MethodNotAllowed", "method not allowed"))
        }
        _ => Err(Answer::v2(404, "NotFound", "no such resource")),
    }
}

fn create(entities: &mut Entities, request: &Request) -> Result<Answer, Answer> {
    let body = limits::parse(request)?;
    let (key, attributes) = entity(request, &body, request.option("keyValues"))?;
    let exists = entities.attributes(&key).is_some();
    if exists && !request.option("upsert") {
        return Err(Answer::v2(422, "Unprocessable", "Already Exists"));
    }
    let location = format!("/v2/entities/{}?type={}", key.id, key.kind);
    apply(entities, request, key, "create", &attributes, Update::Append)?;
    let status = if exists { 204 } else { 201 };
    Ok(Answer::status(status).with("Location", location))
}

fn read(entities: &Entities, request: &Request, id: &str) -> Result<Answer, Answer> {
    let tenant = request.tenant();
    let mut entity = entities.entity(&tenant, id).ok_or_else(no_entity)?;
    if request.option("keyValues") {
        for (name, attribute) in entity.as_object_mut().into_iter().flatten() {
            if name != "id" && name != "type" {
                *attribute = attribute["value"].take();
            }
        }
    }
    Ok(Answer::json(200, entity))
}

fn change(
    entities: &mut Entities,
    request: &Request,
    id: &str,
    how: Update,
) -> Result<Answer, Answer> {
    let body = limits::parse(request)?;
    let given = body.as_object().ok_or_else(|| bad("attributes must be a JSON object"))?;
    let attributes = checked_attributes(given, request.option("keyValues"))?;
    let key = existing(entities, request, id)?;
    let operation = format!("{} attrs", request.method);
    apply(entities, request, key, &operation, &attributes, how)?;
    Ok(Answer::status(204))
}

fn change_one(
    entities: &mut Entities,
    request: &Request,
    id: &str,
    name: &str,
    given: &Value,
) -> Result<Answer, Answer> {
    let key = existing(entities, request, id)?;
    let held = entities.attributes(&key).and_then(|a| a.get(name)).ok_or_else(no_attribute)?;
    let mut attribute = values::normalized(given, false);
    if given.get("type").is_none() {
        attribute["type"] = held["type"].clone();
    }
    limits::check_attribute(name, &attribute)?;
    let attributes = Attributes::from_iter([(name.to_owned(), attribute)]);
    apply(entities, request, key, "PUT attr", &attributes, Update::Existing)?;
    Ok(Answer::status(204))
}

/// Applies what can be applied and tells what could not: all refused is an
/// error of its own, a part is 422 `PartialUpdate`, with the rest **applied**.
pub fn apply(
    entities: &mut Entities,
    request: &Request,
    key: Key,
    operation: &str,
    sent: &Attributes,
    how: Update,
) -> Result<(), Answer> {
    let old = entities.attributes(&key).cloned().unwrap_or_default();
    let mut after = if how == Update::Replace { Attributes::new() } else { old.clone() };
    let mut refused = Vec::new();
    for (name, attribute) in sent {
        match how {
            Update::AppendStrict if old.contains_key(name) => refused.push(name.as_str()),
            Update::Existing if !old.contains_key(name) => refused.push(name.as_str()),
            _ => {
                let updated = values::updated(after.get(name), attribute).map_err(|e| bad(&e))?;
                after.insert(name.clone(), updated);
            }
        }
    }
    let strict = how == Update::AppendStrict;
    let told = if strict { "already exist" } else { "do not exist" };
    let told = format!("{told}: {}/{} - [ {} ]", key.id, key.kind, refused.join(", "));
    if refused.is_empty() || refused.len() < sent.len() {
        entities.put(request.number, key, operation, json!(sent), after);
    }
    match refused.len() {
        0 => Ok(()),
        n if n < sent.len() => Err(Answer::v2(422, "PartialUpdate", told)),
        _ if strict => Err(Answer::v2(422, "Unprocessable", told)),
        _ => Err(Answer::v2(404, "NotFound", told)),
    }
}

/// An entity of a body: its key, and its attributes in full and checked.
pub fn entity(
    request: &Request,
    body: &Value,
    key_values: bool,
) -> Result<(Key, Attributes), Answer> {
    let id = body.get("id").and_then(Value::as_str).ok_or_else(|| bad("entity id is missing"))?;
    let kind = body.get("type").and_then(Value::as_str).unwrap_or("Thing");
    limits::check_identifier("entity id", id)?;
    limits::check_identifier("entity type", kind)?;
    let mut given = body.as_object().cloned().unwrap_or_default();
    given.retain(|name, _| name != "id" && name != "type");
    let key = Key {
        tenant: request.tenant(),
        service_path: request.service_path(),
        id: id.to_owned(),
        kind: kind.to_owned(),
    };
    Ok((key, checked_attributes(&given, key_values)?))
}

fn checked_attributes(given: &Attributes, key_values: bool) -> Result<Attributes, Answer> {
    given
        .iter()
        .map(|(name, attribute)| {
            if !key_values && !attribute.is_object() {
                return Err(bad(
                    "attribute must be a JSON object, unless keyValues option is used",
                ));
            }
            let attribute = values::normalized(attribute, key_values);
            limits::check_attribute(name, &attribute)?;
            Ok((name.clone(), attribute))
        })
        .collect()
}

fn existing(entities: &Entities, request: &Request, id: &str) -> Result<Key, Answer> {
    let kind = request.query("type");
    match entities.find(&request.tenant(), &request.service_path(), id, kind.as_deref()) {
        Found::None => Err(no_entity()),
        Found::One(key) => Ok(key),
        Found::Several => {
            let told = "More than one matching entity. Please refine your query";
            Err(Answer::v2(409, "TooManyResults", told))
        }
    }
}

pub fn bad(told: &str) -> Answer {
    Answer::v2(400, "BadRequest", told)
}

fn no_entity() -> Answer {
    let told = "The requested entity has not been found. Check type and id";
    Answer::v2(404, "NotFound", told)
}

fn no_attribute() -> Answer {
    Answer::v2(404, "NotFound", "The entity does not have such an attribute")
}
