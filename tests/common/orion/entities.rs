//! The entities the broker holds, and every update applied to them in order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What tells two entities apart. The tenant comes first: entities of one are
/// never seen from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub tenant: String,
    pub service_path: String,
    pub id: String,
    pub kind: String,
}

pub type Attributes = Map<String, Value>;

/// One update that changed an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The number of its request.
    pub request: usize,
    pub key: Key,
    /// Such as `PATCH attrs`, `append` or `DELETE`.
    pub operation: String,
    /// The part of the request for this entity.
    pub sent: Value,
    /// The attributes after it; `None` once the entity is gone.
    pub after: Option<Value>,
}

#[derive(Debug, Default, Clone)]
pub struct Entities {
    held: BTreeMap<Key, Attributes>,
    applied: Vec<Applied>,
}

/// What a look-up without a type may find.
pub enum Found {
    None,
    One(Key),
    Several,
}

impl Entities {
    pub fn find(&self, tenant: &str, service_path: &str, id: &str, kind: Option<&str>) -> Found {
        let mut keys = self.held.keys().filter(|k| {
            k.tenant == tenant
                && k.service_path == service_path
                && k.id == id
                && kind.is_none_or(|kind| k.kind == kind)
        });
        match (keys.next(), keys.next()) {
            (None, _) => Found::None,
            (Some(key), None) => Found::One(key.clone()),
            (Some(_), Some(_)) => Found::Several,
        }
    }

    pub fn attributes(&self, key: &Key) -> Option<&Attributes> {
        self.held.get(key)
    }

    pub fn put(
        &mut self,
        request: usize,
        key: Key,
        operation: &str,
        sent: Value,
        after: Attributes,
    ) {
        let (operation, now) = (operation.to_owned(), Some(Value::Object(after.clone())));
        self.applied.push(Applied { request, key: key.clone(), operation, sent, after: now });
        self.held.insert(key, after);
    }

    pub fn remove(&mut self, request: usize, key: &Key) {
        self.held.remove(key);
        self.applied.push(Applied {
            request,
            key: key.clone(),
            operation: "DELETE".into(),
            sent: Value::Null,
            after: None,
        });
    }

    /// The entity with its id, type and attributes, of any service path.
    ///
    /// # Panics
    /// Where several have that id.
    pub fn entity(&self, tenant: &str, id: &str) -> Option<Value> {
        let mut found = self.held.iter().filter(|(k, _)| k.tenant == tenant && k.id == id);
        let (key, attributes) = found.next()?;
        assert!(found.next().is_none(), "several entities have the id {id}");
        let mut entity = json!({"id": key.id, "type": key.kind});
        entity.as_object_mut()?.extend(attributes.clone());
        Some(entity)
    }

    pub fn history(&self, tenant: &str, id: &str) -> Vec<Applied> {
        let of = |a: &&Applied| a.key.tenant == tenant && a.key.id == id;
        self.applied.iter().filter(of).cloned().collect()
    }

    /// How many updates were applied to any entity.
    pub fn applied(&self) -> usize {
        self.applied.len()
    }
}
