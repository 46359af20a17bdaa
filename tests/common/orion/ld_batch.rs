//! NGSI-LD `entityOperations`: several entities in one request.

use serde_json::{Value, json};

use super::answer::{Answer, ld_problem};
use super::entities::{Attributes, Entities, Key};
use super::request::Request;
use super::{ld, limits};

#[derive(Default)]
struct Outcome {
    created: Vec<String>,
    done: Vec<String>,
    errors: Vec<Value>,
}

/// As Orion-LD: 201 where something was created, else 204, and 207 with
/// `success` and `errors` as soon as one entity was refused.
pub fn answer(
    entities: &mut Entities,
    request: &Request,
    operation: &str,
) -> Result<Answer, Answer> {
    if !["create", "upsert", "update", "delete"].contains(&operation) {
        return Err(Answer::ld(404, "ResourceNotFound", "Service not found", &request.path));
    }
    let body = limits::parse(request)?;
    let given = body.as_array().filter(|list| !list.is_empty());
    let given = given.ok_or_else(|| ld::bad("the body must be a JSON array with entities"))?;
    let mut outcome = Outcome::default();
    for item in given {
        if operation == "delete" {
            delete(entities, request, item, &mut outcome);
        } else {
            write(entities, request, operation, item, &mut outcome);
        }
    }
    let Outcome { created, done, errors } = outcome;
    if !errors.is_empty() {
        let success = [created, done].concat();
        return Ok(Answer::json(207, json!({"success": success, "errors": errors})));
    }
    if created.is_empty() {
        return Ok(Answer::status(204));
    }
    Ok(Answer::json(201, json!(created)))
}

fn write(
    entities: &mut Entities,
    request: &Request,
    operation: &str,
    item: &Value,
    outcome: &mut Outcome,
) {
    let id = item["id"].as_str().unwrap_or_default();
    let (key, sent) = match ld::entity(request, item) {
        Ok(entity) => entity,
        Err(refusal) => return outcome.refuse(id, &refusal.body.unwrap_or_default()),
    };
    let found = ld::find(entities, &key);
    match (operation, found) {
        ("create", Some(_)) => {
            outcome.refuse(id, &ld_problem(409, "AlreadyExists", "Entity already exists", id));
        }
        ("update", None) => {
            outcome.refuse(id, &ld_problem(404, "ResourceNotFound", "Entity Not Found", id));
        }
        (_, None) => {
            entities.put(request.number, key, operation, json!(sent), sent);
            outcome.created.push(id.to_owned());
        }
        (_, Some(key)) => {
            let after = merged(entities, request, operation, &key, &sent);
            entities.put(request.number, key, operation, json!(sent), after);
            outcome.done.push(id.to_owned());
        }
    }
}

/// `upsert` replaces unless told `options=update`; `update` overwrites
/// attribute by attribute unless told `options=noOverwrite`.
fn merged(
    entities: &Entities,
    request: &Request,
    operation: &str,
    key: &Key,
    sent: &Attributes,
) -> Attributes {
    let old = entities.attributes(key).cloned().unwrap_or_default();
    if operation == "upsert" && !request.option("update") {
        return sent.clone();
    }
    let (mut under, over) =
        if request.option("noOverwrite") { (sent.clone(), old) } else { (old, sent.clone()) };
    under.extend(over);
    under
}

fn delete(entities: &mut Entities, request: &Request, item: &Value, outcome: &mut Outcome) {
    let id = item.as_str().unwrap_or_default();
    let key = Key {
        tenant: request.tenant(),
        service_path: "/".into(),
        id: id.to_owned(),
        kind: String::new(),
    };
    match ld::find(entities, &key) {
        Some(key) => {
            entities.remove(request.number, &key);
            outcome.done.push(id.to_owned());
        }
        None => outcome.refuse(id, &ld_problem(404, "ResourceNotFound", "Entity Not Found", id)),
    }
}

impl Outcome {
    fn refuse(&mut self, id: &str, error: &Value) {
        self.errors.push(json!({"entityId": id, "error": error}));
    }
}
