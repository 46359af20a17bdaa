//! The notifications and MQTT messages under `tests/fixtures`, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use super::wire;

/// One whole HTTP request.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The file's name without `.http`; `ld-*` are Orion-LD's.
    pub name: String,
    pub raw: Vec<u8>,
    pub method: String,
    /// With the query.
    pub path: String,
    /// As spelled on the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Fixture {
    /// The first header of that name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    /// The same bytes with another path in the request line.
    pub fn raw_to(&self, path: &str) -> Vec<u8> {
        let rest = &self.raw[self.method.len() + 1 + self.path.len()..];
        [self.method.as_bytes(), b" ", path.as_bytes(), rest].concat()
    }
}

/// One MQTT message.
#[derive(Debug, Clone)]
pub struct MqttFixture {
    pub name: String,
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub payload: Vec<u8>,
}

/// Every HTTP notification, ordered by name.
pub fn all() -> Vec<Fixture> {
    files("notifications", "http").into_iter().map(|(name, raw)| parse(name, raw)).collect()
}

/// The notification of that name.
pub fn named(name: &str) -> Fixture {
    all().into_iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no fixture {name}"))
}

/// Every MQTT message, ordered by name.
pub fn mqtt() -> Vec<MqttFixture> {
    files("mqtt", "payload")
        .into_iter()
        .map(|(name, payload)| {
            let told = fs::read_to_string(root().join("mqtt").join(format!("{name}.topic")))
                .unwrap_or_else(|e| panic!("{name}.topic: {e}"));
            let parts: Vec<&str> = told.split_whitespace().collect();
            let [topic, qos, retain] = parts[..] else { panic!("{name}.topic: {told:?}") };
            MqttFixture {
                topic: topic.to_owned(),
                qos: qos.trim_start_matches("qos=").parse().unwrap(),
                retain: retain == "retain=1",
                name,
                payload,
            }
        })
        .collect()
}

fn parse(name: String, raw: Vec<u8>) -> Fixture {
    let end = raw
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("{name}: no end of the head"));
    let head = wire::parse_head(&raw[..end + 4]).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (method, path) = head.request_line().unwrap_or_else(|e| panic!("{name}: {e}"));
    Fixture {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: head.headers.clone(),
        body: raw[end + 4..].to_vec(),
        name,
        raw,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}
