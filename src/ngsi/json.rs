//! One level of a JSON text at a time, everything below it kept as raw text.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One member of an object: its name, and its value as it was written.
pub(crate) type Member<'a> = (Cow<'a, str>, &'a RawValue);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The members of an object in the order they were written, repeated names
/// included; `None` where `json` is not an object.
pub(crate) fn members(json: &[u8]) -> Option<Vec<Member<'_>>> {
    serde_json::from_slice::<Members<'_>>(json).ok().map(|members| members.0)
}

/// The elements of an array; `None` where `json` is not an array.
pub(crate) fn elements(json: &[u8]) -> Option<Vec<&RawValue>> {
    serde_json::from_slice(json).ok()
}

/// Puts an object together from raw members.
pub(crate) fn write_object(members: &[Member<'_>]) -> Bytes {
    let length: usize = members.iter().map(|(n, v)| n.len() + v.get().len() + 4).sum();
    let mut out = String::with_capacity(length + 2);
    out.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_name(&mut out, name);
        out.push_str(value.get());
    }
    out.push('}');
    Bytes::from(out)
}

/// Puts an array together from raw elements.
pub(crate) fn write_array(elements: &[&RawValue]) -> Bytes {
    let mut out = Vec::new();
    push_array(&mut out, elements);
    Bytes::from(out)
}

/// Appends `[element,element]`.
pub(super) fn push_array(out: &mut Vec<u8>, elements: &[&RawValue]) {
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(element.get().as_bytes());
    }
    out.push(b']');
}

/// Appends `"name":`, escaped.
pub(super) fn push_name(out: &mut String, name: &str) {
    out.push_str(&serde_json::Value::from(name).to_string());
    out.push(':');
}
