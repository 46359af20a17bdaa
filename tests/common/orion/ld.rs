//! NGSI-LD writes, answered as Orion-LD answers them. Names are not expanded:
//! the stand-in knows no `@context`.

use serde_json::{Value, json};

use super::answer::Answer;
use super::entities::{Attributes, Entities, Found, Key};
use super::request::Request;
use super::{ld_batch, limits};

/// Answers a request under `/ngsi-ld/v1`.
pub fn answer(
    entities: &mut Entities,
    request: &Request,
    temporal: bool,
) -> Result<Answer, Answer> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (request.method.as_str(), segments.get(2..).unwrap_or_default()) {
        (_, ["temporal", "entities", ..]) if !temporal => {
            Err(Answer::ld(503, "OperationNotSupported", "TRoE Not Enabled", "no temporal storage"))
        }
        ("POST", ["temporal", "entities", ..]) => {
            limits::parse(request)?;
            Ok(Answer::status(201))
        }
        ("POST", ["entities"]) => create(entities, request),
        ("GET", ["entities", id]) => {
            let found = entities.entity(&request.tenant(), id);
            Ok(Answer::json(200, found.ok_or_else(|| missing(id))?))
        }
        ("POST", ["entityOperations", operation]) => ld_batch::answer(entities, request, operation),
        ("POST", ["entities", id, "attrs"]) => {
            let keep = request.option("noOverwrite");
            attributes(entities, request, id, |old, name| !(keep && old.contains_key(name)))
        }
        ("PATCH", ["entities", id, "attrs"]) => {
            attributes(entities, request, id, Attributes::contains_key)
        }
        ("PATCH", ["entities", id]) => {
            let sent = object(&limits::parse(request)?)?;
            let key = existing(entities, request, id)?;
            let mut after = entities.attributes(&key).cloned().unwrap_or_default();
            after.extend(sent.clone());
            Ok(put(entities, request, key, "PATCH entity", sent, after))
        }
        ("PUT", ["entities", id]) => {
            let sent = object(&limits::parse(request)?)?;
            let key = existing(entities, request, id)?;
            Ok(put(entities, request, key, "PUT entity", sent.clone(), sent))
        }
        (method @ ("PUT" | "PATCH"), ["entities", id, "attrs", name]) => {
            let attribute = limits::parse(request)?;
            let key = existing(entities, request, id)?;
            let mut after = entities.attributes(&key).cloned().unwrap_or_default();
            let held = after.get(*name).cloned().ok_or_else(|| missing(name))?;
            let mut new = if method == "PUT" { json!({}) } else { held };
            for (member, value) in attribute.as_object().into_iter().flatten() {
                new[member] = value.clone();
            }
            after.insert((*name).to_owned(), new);
            let sent = Attributes::from_iter([((*name).to_owned(), attribute)]);
            Ok(put(entities, request, key, "attr", sent, after))
        }
        ("DELETE", ["entities", id]) => {
            let key = existing(entities, request, id)?;
            entities.remove(request.number, &key);
            Ok(Answer::status(204))
        }
        ("DELETE", ["entities", id, "attrs", name]) => {
            let key = existing(entities, request, id)?;
            let mut after = entities.attributes(&key).cloned().unwrap_or_default();
            let gone = after.remove(*name).ok_or_else(|| missing(name))?;
            let sent = Attributes::from_iter([((*name).to_owned(), gone)]);
            Ok(put(entities, request, key, "DELETE attr", sent, after))
        }
        (_, ["entities" | "entityOperations", ..]) => {
            Err(Answer::ld(405, "OperationNotSupported", "Method Not Allowed", &request.method))
        }
        _ => Err(Answer::ld(404, "ResourceNotFound", "Service not found", &request.path)),
    }
}

fn create(entities: &mut Entities, request: &Request) -> Result<Answer, Answer> {
    let (key, attributes) = entity(request, &limits::parse(request)?)?;
    if find(entities, &key).is_some() {
        return Err(Answer::ld(409, "AlreadyExists", "Entity already exists", &key.id));
    }
    let location = format!("/ngsi-ld/v1/entities/{}", key.id);
    put(entities, request, key, "create", attributes.clone(), attributes);
    Ok(Answer::status(201).with("Location", location))
}

/// Applies the attributes that `allows` lets through: 204 with all of them, 207 with
/// a part.
fn attributes(
    entities: &mut Entities,
    request: &Request,
    id: &str,
    allows: impl Fn(&Attributes, &str) -> bool,
) -> Result<Answer, Answer> {
    let sent = object(&limits::parse(request)?)?;
    let key = existing(entities, request, id)?;
    let old = entities.attributes(&key).cloned().unwrap_or_default();
    let (taken, refused): (Vec<_>, Vec<_>) = sent.iter().partition(|(name, _)| allows(&old, name));
    let updated: Vec<&String> = taken.iter().map(|(name, _)| *name).collect();
    if !taken.is_empty() {
        let mut after = old.clone();
        after.extend(taken.iter().map(|(name, value)| ((*name).clone(), (*value).clone())));
        let operation = format!("{} attrs", request.method);
        put(entities, request, key, &operation, sent.clone(), after);
    }
    if refused.is_empty() {
        return Ok(Answer::status(204));
    }
    let reason =
        if request.method == "POST" { "attribute already exists" } else { "no such attribute" };
    let refused: Vec<Value> =
        refused.iter().map(|(name, _)| json!({"attributeName": name, "reason": reason})).collect();
    Ok(Answer::json(207, json!({"updated": updated, "notUpdated": refused})))
}

fn put(
    entities: &mut Entities,
    request: &Request,
    key: Key,
    operation: &str,
    sent: Attributes,
    after: Attributes,
) -> Answer {
    entities.put(request.number, key, operation, Value::Object(sent), after);
    Answer::status(204)
}

/// An entity of a body: its key and its attributes.
pub fn entity(request: &Request, body: &Value) -> Result<(Key, Attributes), Answer> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = text("id").ok_or_else(|| bad("Mandatory field missing: entity id"))?;
    if !id.contains(':') {
        return Err(bad("the entity id must be a URI"));
    }
    let kind = text("type").ok_or_else(|| bad("Mandatory field missing: entity type"))?;
    let key = Key { tenant: request.tenant(), service_path: "/".into(), id, kind };
    Ok((key, object(body)?))
}

fn object(body: &Value) -> Result<Attributes, Answer> {
    let mut attributes =
        body.as_object().cloned().ok_or_else(|| bad("the body must be a JSON object"))?;
    attributes.retain(|name, _| !["id", "type", "@context"].contains(&name.as_str()));
    Ok(attributes)
}

/// The held entity of that id: NGSI-LD ids are unique without the type.
pub fn find(entities: &Entities, key: &Key) -> Option<Key> {
    match entities.find(&key.tenant, "/", &key.id, None) {
        Found::None => None,
        Found::One(found) => Some(found),
        Found::Several => Some(key.clone()),
    }
}

fn existing(entities: &Entities, request: &Request, id: &str) -> Result<Key, Answer> {
    let key = Key {
        tenant: request.tenant(),
        service_path: "/".into(),
        id: id.to_owned(),
        kind: String::new(),
    };
    find(entities, &key).ok_or_else(|| missing(id))
}

pub fn bad(told: &str) -> Answer {
    Answer::ld(400, "BadRequestData", "Invalid request", told)
}

fn missing(what: &str) -> Answer {
    Answer::ld(404, "ResourceNotFound", "Entity Not Found", what)
}
