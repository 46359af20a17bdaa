//! A notification in normalized form, for readers that know no other: what
//! came in a shorter form is written out, what has too little in it is told
//! apart.
//!
//! | Came as | Becomes |
//! |---|---|
//! | normalized | as it was |
//! | NGSIv2 `keyValues` | `{"type","value","metadata"}`, the type by the value's kind |
//! | NGSIv2 `simplified…`, custom JSON with `id` and `type` | the same, within `data` |
//! | NGSI-LD concise, simplified | `Property`, `Relationship`, … by what is in it |
//! | NGSI-LD `GeoJSON` | the entities of its features |
//!
//! Values are moved as the text they came in, so that a number keeps every
//! digit. Types that a short form does not tell are those that Orion gives to
//! values without one.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{Member, elements, members, push_name};

/// The form that a notification's headers tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// From Orion-LD, by its headers.
    is_ld: bool,
    /// Attributes are bare values, whatever they look like.
    is_bare: bool,
    /// The body is an entity, with nothing around it.
    is_entity: bool,
}

/// Why a notification has no normalized form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unconvertible {
    /// There is no body.
    #[error("empty")]
    Empty,
    /// Not JSON, so custom text or broken.
    #[error("not-json")]
    NotJson,
    /// No entities with `id` and `type` in it: `values`, or custom JSON.
    #[error("no-entities")]
    NoEntities,
    /// An attribute of several instances (`datasetId`), which one cannot stand for.
    #[error("several-instances")]
    SeveralInstances,
}

/// A notification's body in normalized form, without CR and LF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized {
    /// JSON.
    pub body: Vec<u8>,
    /// It came in another form.
    pub converted: bool,
}

impl Told {
    /// What the headers say, by their names in lower case.
    pub fn by<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let v2 = header("ngsiv2-attrsformat").unwrap_or_default();
        let ld = header("ngsild-attribute-format");
        let is_simplified = ld.is_some_and(|format| format.eq_ignore_ascii_case("simplified"));
        Self {
            is_ld: ld.is_some() || header("ngsild-tenant").is_some(),
            is_bare: matches!(v2, "keyValues" | "simplifiedKeyValues") || is_simplified,
            is_entity: v2.starts_with("simplified"),
        }
    }
}

/// Puts a notification's body into normalized form.
///
/// # Errors
/// Where too little is in it for that.
pub fn normalize(told: Told, body: &[u8]) -> Result<Normalized, Unconvertible> {
    if body.trim_ascii().is_empty() {
        return Err(Unconvertible::Empty);
    }
    let Some(around) = members(body) else {
        let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
        return Err(if is_json { Unconvertible::NoEntities } else { Unconvertible::NotJson });
    };
    let is_notification = member(&around, "type").is_some_and(|raw| text_is(raw, "Notification"));
    let told = Told { is_ld: told.is_ld || is_notification, ..told };
    let is_wrapped = !told.is_entity
        && (is_notification
            || member(&around, "subscriptionId").is_some()
            || member(&around, "id").is_none());
    let mut out = Writer { text: String::with_capacity(body.len() * 5 / 4 + 64), changed: false };
    if is_wrapped {
        let data = member(&around, "data").ok_or(Unconvertible::NoEntities)?;
        out.text.push('{');
        for (at, (name, value)) in around.iter().enumerate() {
            out.begin_member(at, name);
            if std::ptr::eq(*value, data) {
                out.entities(told, data)?;
            } else {
                out.text.push_str(value.get());
            }
        }
        out.text.push('}');
    } else {
        out.changed = true;
        out.text.push_str("{\"subscriptionId\":\"\",\"data\":[");
        out.entity(told, &around)?;
        out.text.push_str("]}");
    }
    let changed = out.changed;
    let text = if changed { Cow::Owned(out.text.into_bytes()) } else { Cow::Borrowed(body) };
    Ok(Normalized { body: one_line(&text), converted: changed })
}

/// JSON text on one line. CR and LF stand between its tokens only: within its
/// strings they are escaped.
#[must_use]
pub fn one_line(json: &[u8]) -> Vec<u8> {
    json.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
}

fn member<'a>(members: &[Member<'a>], name: &str) -> Option<&'a RawValue> {
    members.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
}

fn text_is(raw: &RawValue, text: &str) -> bool {
    serde_json::from_str::<Cow<'_, str>>(raw.get()).is_ok_and(|found| found == text)
}

fn first_byte(raw: &RawValue) -> u8 {
    raw.get().as_bytes().first().copied().unwrap_or_default()
}

struct Writer {
    text: String,
    changed: bool,
}

impl Writer {
    fn begin_member(&mut self, at: usize, name: &str) {
        if at > 0 {
            self.text.push(',');
        }
        push_name(&mut self.text, name);
    }

    /// What stands in `data`: a list of entities, one, or `GeoJSON`.
    fn entities(&mut self, told: Told, data: &RawValue) -> Result<(), Unconvertible> {
        self.text.push('[');
        if let Some(listed) = elements(data.get().as_bytes()) {
            for (at, one) in listed.iter().enumerate() {
                if at > 0 {
                    self.text.push(',');
                }
                let one = members(one.get().as_bytes()).ok_or(Unconvertible::NoEntities)?;
                self.entity(told, &one)?;
            }
        } else {
            self.changed = true;
            let one = members(data.get().as_bytes()).ok_or(Unconvertible::NoEntities)?;
            match member(&one, "features") {
                // A list only: what nests without end is not followed.
                Some(features) if first_byte(features) == b'[' => {
                    self.text.pop();
                    return self.entities(told, features);
                }
                _ => self.entity(told, &one)?,
            }
        }
        self.text.push(']');
        Ok(())
    }

    fn entity(&mut self, told: Told, entity: &[Member<'_>]) -> Result<(), Unconvertible> {
        let is_feature = member(entity, "type").is_some_and(|raw| text_is(raw, "Feature"));
        let inner;
        let mut entity: Vec<&Member<'_>> = entity.iter().collect();
        if is_feature && let Some(at) = entity.iter().position(|(name, _)| name == "properties") {
            inner = members(entity[at].1.get().as_bytes()).ok_or(Unconvertible::NoEntities)?;
            self.changed = true;
            entity.retain(|(name, _)| name == "id" || name == "@context");
            entity.extend(&inner);
        }
        let is_there =
            |name| entity.iter().any(|(other, value)| other == name && first_byte(value) != b'n');
        if !is_there("id") || !is_there("type") {
            return Err(Unconvertible::NoEntities);
        }
        self.text.push('{');
        for (at, (name, value)) in entity.into_iter().enumerate() {
            self.begin_member(at, name);
            match name.as_ref() {
                "id" | "type" | "@context" => self.text.push_str(value.get()),
                _ if told.is_ld => self.ld_attribute(told.is_bare, value, 0)?,
                _ => self.v2_attribute(told.is_bare, value),
            }
        }
        self.text.push('}');
        Ok(())
    }

    fn v2_attribute(&mut self, is_bare: bool, value: &RawValue) {
        let inner = if is_bare { None } else { members(value.get().as_bytes()) };
        let normalized = inner.filter(|inner| {
            let known = |name: &str| matches!(name, "type" | "value" | "metadata");
            inner.iter().all(|(name, _)| known(name))
                && member(inner, "value").is_some()
                && member(inner, "type").is_some_and(|kind| first_byte(kind) == b'"')
        });
        match normalized {
            Some(inner) if member(&inner, "metadata").is_some() => self.text.push_str(value.get()),
            Some(_) => {
                self.changed = true;
                let open = value.get().trim_end();
                self.text.push_str(open.strip_suffix('}').unwrap_or(open));
                self.text.push_str(",\"metadata\":{}}");
            }
            None => {
                self.changed = true;
                let kind = match first_byte(value) {
                    b'"' => "Text",
                    b't' | b'f' => "Boolean",
                    b'n' => "None",
                    b'{' | b'[' => "StructuredValue",
                    _ => "Number",
                };
                self.text.push_str("{\"type\":\"");
                self.text.push_str(kind);
                self.text.push_str("\",\"value\":");
                self.text.push_str(value.get());
                self.text.push_str(",\"metadata\":{}}");
            }
        }
    }

    fn ld_attribute(
        &mut self,
        is_bare: bool,
        value: &RawValue,
        depth: usize,
    ) -> Result<(), Unconvertible> {
        let inner = members(value.get().as_bytes()).unwrap_or_default();
        if is_ld_attribute(&inner) || depth > MAX_DEPTH {
            self.text.push_str(value.get());
            return Ok(());
        }
        let is_instance = |one: &&RawValue| {
            let one = members(one.get().as_bytes()).unwrap_or_default();
            is_ld_attribute(&one) || member(&one, "datasetId").is_some()
        };
        let several = elements(value.get().as_bytes());
        if several.is_some_and(|some| !some.is_empty() && some.iter().all(is_instance))
            || is_bare && inner.len() == 1 && inner[0].0 == "dataset"
        {
            return Err(Unconvertible::SeveralInstances);
        }
        self.changed = true;
        let kind =
            inner.iter().find_map(|(name, _)| LD_VALUES.iter().find(|(value, _)| name == value));
        match kind {
            // Simplified, only these two do not stand for themselves.
            Some((member_name, kind))
                if !is_bare || matches!(*member_name, "languageMap" | "vocab") =>
            {
                let geo =
                    *member_name == "value" && member(&inner, "value").is_some_and(is_geometry);
                let kind = if geo { "GeoProperty" } else { kind };
                self.text.push_str("{\"type\":\"");
                self.text.push_str(kind);
                self.text.push('"');
                for (name, value) in &inner {
                    self.begin_member(1, name);
                    if LD_PLAIN.contains(&name.as_ref()) || is_value(name) {
                        self.text.push_str(value.get());
                    } else {
                        self.ld_attribute(false, value, depth + 1)?;
                    }
                }
                self.text.push('}');
            }
            _ => {
                let kind = if is_geometry(value) { "GeoProperty" } else { "Property" };
                self.text.push_str("{\"type\":\"");
                self.text.push_str(kind);
                self.text.push_str("\",\"value\":");
                self.text.push_str(value.get());
                self.text.push('}');
            }
        }
        Ok(())
    }
}

/// Attributes of attributes of attributes: deeper than anybody nests them.
const MAX_DEPTH: usize = 16;

/// What holds an NGSI-LD attribute's value, and what the attribute is then.
const LD_VALUES: [(&str, &str); 7] = [
    ("value", "Property"),
    ("object", "Relationship"),
    ("languageMap", "LanguageProperty"),
    ("vocab", "VocabProperty"),
    ("json", "JsonProperty"),
    ("valueList", "ListProperty"),
    ("objectList", "ListRelationship"),
];
/// Members of an attribute that are no attributes of it.
const LD_PLAIN: [&str; 10] = [
    "type",
    "unitCode",
    "observedAt",
    "datasetId",
    "createdAt",
    "modifiedAt",
    "deletedAt",
    "lang",
    "objectType",
    "instanceId",
];

fn is_value(name: &str) -> bool {
    LD_VALUES.iter().any(|(value, _)| *value == name)
}

fn is_ld_attribute(inner: &[Member<'_>]) -> bool {
    let is_kind = |kind: &RawValue| {
        kind.get() == "\"GeoProperty\"" || LD_VALUES.iter().any(|(_, known)| text_is(kind, known))
    };
    member(inner, "type").is_some_and(is_kind) && inner.iter().any(|(name, _)| is_value(name))
}

/// `GeoJSON`, which NGSI-LD takes for a place without being told.
fn is_geometry(value: &RawValue) -> bool {
    const KINDS: [&str; 6] =
        ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"];
    let inner = members(value.get().as_bytes()).unwrap_or_default();
    member(&inner, "coordinates").is_some()
        && member(&inner, "type").is_some_and(|kind| KINDS.iter().any(|known| text_is(kind, known)))
}

#[cfg(test)]
#[path = "normalize_tests.rs"]
mod tests;
