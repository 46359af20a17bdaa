//! What a notification is about, as far as routing needs it.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// More types than this are not told apart: a route names few, and a body full
/// of different types must not cost the square of their number.
const MAX_TYPES: usize = 16;

/// What a route may choose a stream by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glimpse<'a> {
    /// `Fiware-Service` (NGSIv2) or `NGSILD-Tenant` (NGSI-LD) as it was sent;
    /// `None` is the default tenant.
    pub tenant: Option<&'a str>,
    /// `Fiware-ServicePath`.
    pub service_path: Option<&'a str>,
    /// The types of the notified entities, each once, in order, at most 16.
    /// Empty where the body names none (attrsFormat `values`, custom text) or
    /// cannot be read.
    pub entity_types: Vec<Cow<'a, str>>,
}

/// Looks at a notification without keeping anything of it.
///
/// Understands the NGSIv2 formats (`normalized`, `keyValues`, and the bare
/// entity of the `simplified…` ones), NGSI-LD notifications, `GeoJSON` in both
/// places where NGSI-LD puts it, and the `{"metadata","body"}` that NGSI-LD
/// wraps around MQTT payloads.
#[must_use]
pub fn glimpse<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Glimpse<'a> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut glimpse = Glimpse {
        tenant: text("fiware-service").or_else(|| text("ngsild-tenant")),
        service_path: text("fiware-servicepath"),
        entity_types: Vec::new(),
    };
    // The header is Orion's; it settles what a bare entity with an attribute
    // called `data` would leave open.
    let bare = text("ngsiv2-attrsformat").is_some_and(|format| format.starts_with("simplified"));
    if let Ok(node) = serde_json::from_slice::<Node<'_>>(body) {
        node.collect(bare, &mut glimpse.entity_types);
    }
    glimpse
}

/// The few members that matter, of whatever level of a notification.
#[derive(Default)]
struct Node<'a> {
    types: Vec<Cow<'a, str>>,
    wrapped: bool,
    metadata: bool,
    /// Types found in `data` and in `features`; `None` where there is neither.
    inner: Option<Vec<Cow<'a, str>>>,
    body: Option<Box<Node<'a>>>,
    properties: Vec<Cow<'a, str>>,
}

impl<'a> Node<'a> {
    fn collect(self, bare: bool, into: &mut Vec<Cow<'a, str>>) {
        if bare {
            return merge(into, self.types);
        }
        let notification = self.wrapped || self.types.iter().any(|t| t == "Notification");
        match (self.inner, self.body) {
            // An entity may have an attribute called `data`; a notification has
            // a subscription, or no type of its own, or is of a `GeoJSON` type.
            (Some(inner), _)
                if notification
                    || self.types.is_empty()
                    || self.types.iter().any(|t| t == "FeatureCollection") =>
            {
                merge(into, inner);
            }
            (_, Some(body)) if self.metadata && self.types.is_empty() => body.collect(false, into),
            _ if notification => {}
            _ => merge(into, entity_types(self.types, self.properties)),
        }
    }
}

/// In `GeoJSON` every entity is a `Feature`; its own type is among the properties.
fn entity_types<'a>(types: Vec<Cow<'a, str>>, properties: Vec<Cow<'a, str>>) -> Vec<Cow<'a, str>> {
    let feature = types.len() == 1 && types[0] == "Feature" && !properties.is_empty();
    if feature { properties } else { types }
}

fn merge<'a>(into: &mut Vec<Cow<'a, str>>, types: Vec<Cow<'a, str>>) {
    for name in types {
        if into.len() < MAX_TYPES && !into.contains(&name) {
            into.push(name);
        }
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Scalars where an object or a list was looked for are not an error: the
/// member just says nothing about types.
macro_rules! scalars_say_nothing {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;
    scalars_say_nothing!();

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Node::default())
    }

    /// A list of entities, with or without a notification around it.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut types = Vec::new();
        while let Some(node) = seq.next_element::<Node<'de>>()? {
            merge(&mut types, entity_types(node.types, node.properties));
        }
        Ok(Node { inner: Some(types), ..Node::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut node = Node::default();
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "type" | "@type" => node.types = map.next_value::<Types<'de>>()?.0,
                "data" | "features" => {
                    let inner = map.next_value::<Node<'de>>()?;
                    let mut types = inner.inner.unwrap_or_default();
                    merge(&mut types, entity_types(inner.types, inner.properties));
                    types.retain(|name| name != "FeatureCollection");
                    node.inner = Some(types);
                }
                "properties" => node.properties = map.next_value::<Node<'de>>()?.types,
                "body" => node.body = Some(Box::new(map.next_value()?)),
                "subscriptionId" => {
                    map.next_value::<IgnoredAny>()?;
                    node.wrapped = true;
                }
                "metadata" => {
                    map.next_value::<IgnoredAny>()?;
                    node.metadata = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(node)
    }
}

/// One type, or NGSI-LD's several.
#[derive(Default)]
struct Types<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Types<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TypesVisitor)
    }
}

struct TypesVisitor;

impl<'de> Visitor<'de> for TypesVisitor {
    type Value = Types<'de>;
    scalars_say_nothing!();

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Types(vec![Cow::Borrowed(name)]))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Types(vec![Cow::Owned(name.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut types = Vec::new();
        while let Some(Types(more)) = seq.next_element()? {
            merge(&mut types, more);
        }
        Ok(Types(types))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Types::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn types(body: &str) -> Vec<String> {
        let headers = HeaderMap::new();
        glimpse(&headers, body.as_bytes()).entity_types.into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn every_format_of_a_notification_gives_its_entity_types() {
        let cases: &[(&str, &str, &[&str])] = &[
            (
                "normalized",
                r#"{"subscriptionId":"6b","data":[{"id":"urn:1","type":"Room","t":{"type":"Number","value":1,"metadata":{}}}]}"#,
                &["Room"],
            ),
            (
                "keyValues, several",
                r#"{"subscriptionId":"6b","data":[{"id":"1","type":"Room","t":1},{"id":"2","type":"Hall"},{"id":"3","type":"Room"}]}"#,
                &["Room", "Hall"],
            ),
            ("simplified", r#"{"id":"urn:1","type":"Room","big":12345678901234568}"#, &["Room"]),
            (
                "simplified, attribute data",
                r#"{"id":"urn:1","type":"Room","data":[{"type":"Not me"}]}"#,
                &["Room"],
            ),
            ("values", r#"{"subscriptionId":"6b","data":[[30,"Łazienka A"]]}"#, &[]),
            ("escaped type", r#"{"data":[{"type":"Ro\u006fm"}]}"#, &["Room"]),
            (
                "NGSI-LD",
                r#"{"id":"urn:ngsi-ld:Notification:1","type":"Notification","subscriptionId":"urn:s","notifiedAt":"…","data":[{"id":"urn:1","type":["Room","Place"]}]}"#,
                &["Room", "Place"],
            ),
            (
                "GeoJSON alone",
                r#"{"type":"FeatureCollection","features":[{"id":"urn:1","type":"Feature","geometry":null,"properties":{"type":"Room"}}]}"#,
                &["Room"],
            ),
            (
                "GeoJSON in data",
                r#"{"type":"Notification","data":{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"type":"Room"}}]}}"#,
                &["Room"],
            ),
            (
                "one Feature in data",
                r#"{"type":"Notification","data":{"type":"Feature","properties":{"type":"Room"}}}"#,
                &["Room"],
            ),
            (
                "MQTT wrapping",
                r#"{"metadata":{"Content-Type":"application/json"},"body":{"type":"Notification","data":[{"type":"Room"}]}}"#,
                &["Room"],
            ),
            ("custom text", "t is 4167", &[]),
            ("empty", "", &[]),
            ("cut off", r#"{"data":[{"id":"1","type":"Room""#, &[]),
            ("a notification of nothing", r#"{"type":"Notification","data":[]}"#, &[]),
        ];
        for (name, body, expected) in cases {
            assert_eq!(types(body), *expected, "{name}");
        }
    }

    #[test]
    fn tenant_and_service_path_come_from_the_headers_of_either_api() {
        let mut headers = HeaderMap::new();
        assert_eq!(glimpse(&headers, b"x"), Glimpse::default());
        headers.insert("ngsild-tenant", "plant2".parse().unwrap());
        assert_eq!(glimpse(&headers, b"").tenant, Some("plant2"));
        headers.insert("fiware-service", "plant1".parse().unwrap());
        headers.insert("fiware-servicepath", "/line/1".parse().unwrap());
        let seen = glimpse(&headers, b"");
        assert_eq!((seen.tenant, seen.service_path), (Some("plant1"), Some("/line/1")));
    }

    #[test]
    fn the_attrs_format_header_settles_a_bare_entity() {
        let mut headers = HeaderMap::new();
        headers.insert("ngsiv2-attrsformat", "simplifiedKeyValues".parse().unwrap());
        let body = br#"{"id":"1","type":"Room","subscriptionId":"s","data":[{"type":"X"}]}"#;
        assert_eq!(glimpse(&headers, body).entity_types, ["Room"]);
    }

    #[test]
    fn a_body_of_many_types_is_not_followed_without_end() {
        let many: Vec<String> = (0..1000).map(|n| format!(r#"{{"type":"T{n}"}}"#)).collect();
        assert_eq!(types(&format!(r#"{{"data":[{}]}}"#, many.join(","))).len(), MAX_TYPES);
        assert!(types(&r#"{"metadata":{},"body":"#.repeat(100_000)).is_empty());
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = glimpse(&HeaderMap::new(), &body);
        }

        #[test]
        fn no_json_like_text_makes_it_panic(body in r#"[\[\]{}:,"a-z0-9\\ ]{0,200}"#) {
            let _ = glimpse(&HeaderMap::new(), body.as_bytes());
        }
    }
}
