//! The fixtures are what Orion sent.

use crate::common::fixtures;
use crate::common::orion::ld_notifier::LdSubscription;
use crate::common::orion::notification::Notification;

#[test]
fn each_body_is_exactly_content_length_bytes() {
    let all = fixtures::all();
    assert!(all.len() >= 40, "{}", all.len());
    for fixture in all {
        let told: usize = fixture.header("content-length").unwrap().parse().unwrap();
        assert_eq!(fixture.body.len(), told, "{}", fixture.name);
    }
}

#[test]
fn every_format_of_orion_is_there() {
    let formats: Vec<String> = fixtures::all()
        .iter()
        .filter_map(|f| f.header("ngsiv2-attrsformat").map(str::to_owned))
        .collect();
    for format in [
        "normalized",
        "keyValues",
        "values",
        "simplifiedNormalized",
        "simplifiedKeyValues",
        "custom",
    ] {
        assert!(formats.iter().any(|f| f == format), "{format}");
    }
}

#[test]
fn mqtt_messages_have_a_topic() {
    let all = fixtures::mqtt();
    assert_eq!(all.len(), 8);
    let custom = all.iter().find(|m| m.name == "mqttCustom").unwrap();
    assert_eq!((custom.topic.as_str(), custom.qos), ("orion/Room/urn:Room:mqttc", 0));
    assert_eq!(custom.payload, b"t is 4167");
}

#[test]
fn the_stand_in_writes_the_captured_bytes() {
    let captured = fixtures::named("fiware-service-2");
    let mut notification = Notification::of("normalized", &[]).tenant("plant1", "/line/a");
    notification.body.clone_from(&captured.body);
    let correlator = captured.header("fiware-correlator").unwrap();
    let to = "127.0.0.1:9410".parse().unwrap();
    let raw = notification.to_bytes(to, "/n/svc", correlator);
    assert_eq!(String::from_utf8_lossy(&raw), String::from_utf8_lossy(&captured.raw));

    let get = fixtures::named("custom-GET");
    let mut empty = Notification::empty();
    empty.method = "GET".into();
    let raw = empty.to_bytes(to, &get.path, get.header("fiware-correlator").unwrap());
    assert_eq!(String::from_utf8_lossy(&raw), String::from_utf8_lossy(&get.raw));
}

#[test]
fn orion_ld_orders_its_headers_as_the_fixtures_do() {
    let fixture = fixtures::named("ld-normalized");
    let to = "127.0.0.1:9410".parse().unwrap();
    let raw = LdSubscription::new("urn:ngsi-ld:Subscription:press").to_bytes(to, "/n", &[]);
    let names = |raw: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(raw).into_owned();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().skip(1).map(|l| l.split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&raw), names(&fixture.raw));
}
