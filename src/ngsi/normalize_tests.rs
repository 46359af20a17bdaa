//! What `normalize` makes of each form.

use proptest::prelude::*;

use super::*;

fn told(headers: &[(&'static str, &'static str)]) -> Told {
    Told::by(|name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value))
}

fn converted(headers: &[(&'static str, &'static str)], body: &str) -> String {
    let normalized = normalize(told(headers), body.as_bytes()).unwrap();
    assert!(normalized.converted, "{body}");
    String::from_utf8(normalized.body).unwrap()
}

#[test]
fn what_is_normalized_keeps_every_byte_but_the_ends_of_lines() {
    let body = "{\"subscriptionId\":\"6b\",\r\n \"data\":[{\"id\":\"1\",\"type\":\"Room\",\n\"t\":{\"type\":\"Number\",\"value\":1.50,\"metadata\":{}}}]}";
    let normalized = normalize(Told::default(), body.as_bytes()).unwrap();
    assert!(!normalized.converted);
    assert_eq!(normalized.body, body.replace(['\r', '\n'], "").as_bytes());
}

#[test]
fn key_values_get_the_types_that_orion_gives_them() {
    let body = r#"{"subscriptionId":"6b","data":[{"id":"1","type":"Room","n":12345678901234568,"s":"ł","b":false,"x":null,"o":{"type":"T","value":1},"a":[1]}]}"#;
    assert_eq!(
        converted(&[("ngsiv2-attrsformat", "keyValues")], body),
        r#"{"subscriptionId":"6b","data":[{"id":"1","type":"Room","n":{"type":"Number","value":12345678901234568,"metadata":{}},"s":{"type":"Text","value":"ł","metadata":{}},"b":{"type":"Boolean","value":false,"metadata":{}},"x":{"type":"None","value":null,"metadata":{}},"o":{"type":"StructuredValue","value":{"type":"T","value":1},"metadata":{}},"a":{"type":"StructuredValue","value":[1],"metadata":{}}}]}"#
    );
}

#[test]
fn a_bare_entity_is_put_into_data() {
    let body = r#"{"id":"1","type":"Room","data":{"type":"Number","value":{"a":1}}}"#;
    assert_eq!(
        converted(&[("ngsiv2-attrsformat", "simplifiedNormalized")], body),
        r#"{"subscriptionId":"","data":[{"id":"1","type":"Room","data":{"type":"Number","value":{"a":1},"metadata":{}}}]}"#
    );
}

#[test]
fn concise_attributes_are_told_by_what_is_in_them() {
    let body = r#"{"type":"Notification","data":[{"id":"1","type":"P","t":{"value":2.0,"unitCode":"CEL","q":0.9},"r":{"object":"urn:1"},"g":{"value":{"type":"Point","coordinates":[1,2]}},"l":{"languageMap":{"pl":"x"}},"p":{"type":"Point","coordinates":[1,2]},"n":"x"}]}"#;
    assert_eq!(
        converted(&[], body),
        r#"{"type":"Notification","data":[{"id":"1","type":"P","t":{"type":"Property","value":2.0,"unitCode":"CEL","q":{"type":"Property","value":0.9}},"r":{"type":"Relationship","object":"urn:1"},"g":{"type":"GeoProperty","value":{"type":"Point","coordinates":[1,2]}},"l":{"type":"LanguageProperty","languageMap":{"pl":"x"}},"p":{"type":"GeoProperty","value":{"type":"Point","coordinates":[1,2]}},"n":{"type":"Property","value":"x"}}]}"#
    );
}

#[test]
fn simplified_objects_are_values() {
    let body = r#"{"type":"Notification","data":[{"id":"1","type":"P","t":{"value":2},"l":{"languageMap":{"pl":"x"}}}]}"#;
    assert_eq!(
        converted(&[("ngsild-attribute-format", "Simplified")], body),
        r#"{"type":"Notification","data":[{"id":"1","type":"P","t":{"type":"Property","value":{"value":2}},"l":{"type":"LanguageProperty","languageMap":{"pl":"x"}}}]}"#
    );
}

#[test]
fn what_cannot_be_converted_is_told_apart() {
    let cases = [
        ("", Unconvertible::Empty),
        (" \n", Unconvertible::Empty),
        ("t is 4", Unconvertible::NotJson),
        (r#"{"data":[{"id":"1""#, Unconvertible::NotJson),
        ("[1,2]", Unconvertible::NoEntities),
        (r#"{"subscriptionId":"6b","data":[[30,"x"]]}"#, Unconvertible::NoEntities),
        (r#"{"id":"1","temp":3}"#, Unconvertible::NoEntities),
        (r#"{"temp":3}"#, Unconvertible::NoEntities),
        (
            r#"{"type":"Notification","data":[{"id":"1","type":"P","t":[{"type":"Property","value":1,"datasetId":"a"},{"type":"Property","value":2}]}]}"#,
            Unconvertible::SeveralInstances,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(normalize(Told::default(), body.as_bytes()), Err(expected), "{body}");
    }
}

#[test]
fn a_body_that_nests_without_end_is_not_followed() {
    let deep = r#"{"value":1,"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000);
    let body = format!(r#"{{"type":"Notification","data":[{{"id":"1","type":"P","t":{deep}}}]}}"#);
    assert!(normalize(Told::default(), body.as_bytes()).is_ok());
    let body =
        r#"{"data":"#.to_owned() + &r#"{"features":"#.repeat(100_000) + "1" + &"}".repeat(100_001);
    assert_eq!(normalize(Told::default(), body.as_bytes()), Err(Unconvertible::NoEntities));
}

proptest! {
    #[test]
    fn no_body_makes_it_panic_and_every_result_is_json(
        body in r#"(\{"(id|type|data|value)":|[\[\]{}:,"a-z0-9\\ \n]){0,40}"#, is_ld: bool, is_bare: bool,
    ) {
        let told = Told { is_ld, is_bare, is_entity: false };
        if let Ok(normalized) = normalize(told, body.as_bytes()) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&normalized.body).is_ok());
            prop_assert!(!normalized.body.contains(&b'\n'));
        }
    }
}
