//! `POST /v2/op/update`: several entities in one request.

use serde_json::Value;

use super::answer::Answer;
use super::entities::{Attributes, Entities, Found, Key};
use super::limits;
use super::request::Request;
use super::v2::{Update, apply, bad, entity};

/// Orion 4.7 checks the whole body first, so a 400 applies nothing; then it
/// applies each entity that it can. Some refused is 422 `PartialUpdate`, all
/// refused is 404 (or 422 for `appendStrict`).
pub fn answer(entities: &mut Entities, request: &Request) -> Result<Answer, Answer> {
    let body = limits::parse(request)?;
    let action = body["actionType"].as_str().ok_or_else(|| bad("actionType is missing"))?;
    if !["append", "appendStrict", "update", "replace", "delete"].contains(&action) {
        return Err(bad("invalid update action type"));
    }
    let given = body["entities"].as_array().filter(|e| !e.is_empty());
    let given = given.ok_or_else(|| bad("empty update action vector"))?;
    let key_values = request.option("keyValues");
    let checked: Vec<(Key, Attributes)> =
        given.iter().map(|e| entity(request, e, key_values)).collect::<Result<_, _>>()?;

    let mut refusals = Vec::new();
    for ((key, attributes), body) in checked.iter().zip(given) {
        let typed = body.get("type").is_some();
        if let Err(refusal) = one(entities, request, action, key, typed, attributes) {
            refusals.push(refusal);
        }
    }
    match (refusals.len(), refusals.first()) {
        (_, None) => Ok(Answer::status(204)),
        (n, Some(first)) if n == checked.len() && !refusals.iter().any(is_partial) => {
            Err(first.clone())
        }
        (_, Some(_)) => {
            let told: Vec<String> = refusals.iter().map(description).collect();
            Err(Answer::v2(422, "PartialUpdate", told.join(", ")))
        }
    }
}

fn one(
    entities: &mut Entities,
    request: &Request,
    action: &str,
    key: &Key,
    typed: bool,
    sent: &Attributes,
) -> Result<(), Answer> {
    let kind = typed.then_some(key.kind.as_str());
    let found = match entities.find(&key.tenant, &key.service_path, &key.id, kind) {
        Found::None => None,
        Found::One(found) => Some(found),
        Found::Several => {
            let told = "More than one matching entity. Please refine your query";
            return Err(Answer::v2(409, "TooManyResults", told));
        }
    };
    let how = match action {
        "append" => Update::Append,
        "appendStrict" => Update::AppendStrict,
        "replace" => Update::Replace,
        _ => Update::Existing,
    };
    match found {
        None if matches!(how, Update::Append | Update::AppendStrict) => {
            apply(entities, request, key.clone(), action, sent, how)
        }
        None => {
            let told = format!("do not exist: {}/{} - [ entity itself ]", key.id, key.kind);
            Err(Answer::v2(404, "NotFound", told))
        }
        Some(found) if action == "delete" => {
            delete(entities, request, &found, sent);
            Ok(())
        }
        Some(found) => apply(entities, request, found, action, sent, how),
    }
}

/// Without attributes the entity goes, otherwise only those attributes.
fn delete(entities: &mut Entities, request: &Request, key: &Key, sent: &Attributes) {
    if sent.is_empty() {
        return entities.remove(request.number, key);
    }
    let mut after = entities.attributes(key).cloned().unwrap_or_default();
    after.retain(|name, _| !sent.contains_key(name));
    entities.put(request.number, key.clone(), "delete", Value::Object(sent.clone()), after);
}

fn description(refusal: &Answer) -> String {
    let told = refusal.body.as_ref().and_then(|b| b["description"].as_str());
    told.unwrap_or_default().to_owned()
}

fn is_partial(refusal: &Answer) -> bool {
    refusal.body.as_ref().is_some_and(|b| b["error"] == "PartialUpdate")
}
