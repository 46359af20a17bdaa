//! What serde refuses, kept in parts until it is known whose value it was, and
//! told in the words of somebody who runs a plant.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::tree::NodeId;
use crate::units;

#[derive(Debug)]
pub(super) struct Fault {
    pub at: Option<NodeId>,
    pub kind: FaultKind,
}

#[derive(Debug)]
pub(super) enum FaultKind {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownVariant { variant: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Kind { found: &'static str, expected: String },
    Value { expected: String },
    Length { expected: String },
    Custom(String),
}

impl Fault {
    /// Says where the fault is; the innermost place stays.
    pub fn at(mut self, node: NodeId) -> Self {
        self.at.get_or_insert(node);
        self
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self { at: None, kind }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        // With `flatten`, serde tells an unknown key only in words.
        let key = message
            .strip_prefix("unknown field `")
            .and_then(|rest| rest.split('`').next())
            .map(str::to_owned);
        match key {
            Some(key) => FaultKind::UnknownKey { key, known: &[] }.into(),
            None => FaultKind::Custom(message).into(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a number that is not whole, or too large",
            Unexpected::Char(_) | Unexpected::Str(_) => "a text",
            Unexpected::Seq => "an array",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        FaultKind::Kind { found, expected: in_plain_words(&expected.to_string()) }.into()
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        FaultKind::Value { expected: in_plain_words(&expected.to_string()) }.into()
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        FaultKind::Length { expected: in_plain_words(&expected.to_string()) }.into()
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        FaultKind::UnknownVariant { variant: variant.to_owned(), known }.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        FaultKind::UnknownKey { key: key.to_owned(), known }.into()
    }

    fn missing_field(key: &'static str) -> Self {
        FaultKind::MissingKey(key).into()
    }
}

impl FaultKind {
    /// What is wrong and what to do, to stand after the setting and its value.
    /// With `secret`, nothing that could hold a part of the value is repeated.
    pub fn explain(&self, secret: bool) -> (String, Option<String>) {
        match self {
            Self::UnknownKey { .. } => ("is not a setting".to_owned(), None),
            Self::UnknownVariant { variant, known } => {
                let near = nearest(variant, known).filter(|_| !secret);
                let hint = near.map_or_else(
                    || format!("write one of {}", quoted(known)),
                    |near| format!("did you mean \"{near}\"? It can be {}", quoted(known)),
                );
                ("not one of the choices".to_owned(), Some(hint))
            }
            Self::MissingKey(key) => (format!("{key} is missing"), Some("add it".to_owned())),
            Self::Kind { found, expected } if expected == "a table" && *found == "an array" => (
                "expected one table, found an array".to_owned(),
                Some("write its name in single brackets".to_owned()),
            ),
            kind @ Self::Kind { .. } if kind.wants_a_list() => (
                "expected an array, found a table".to_owned(),
                Some("write its name in double brackets, [[…]], once for each entry".to_owned()),
            ),
            Self::Kind { found, expected } => (format!("expected {expected}, found {found}"), None),
            Self::Value { expected } => (format!("expected {expected}"), None),
            Self::Length { expected } => {
                (format!("wrong number of entries, expected {expected}"), None)
            }
            Self::Custom(message) => custom(message, secret),
        }
    }

    /// Whether one table stands where a list of them belongs.
    pub fn wants_a_list(&self) -> bool {
        matches!(self, Self::Kind { found: "a table", expected } if expected == "an array")
    }

    /// Whether it may only follow from what was refused inside.
    pub fn may_follow_from_inside(&self) -> bool {
        matches!(self, Self::Length { .. } | Self::Custom(_) | Self::Value { .. })
    }
}

fn custom(message: &str, secret: bool) -> (String, Option<String>) {
    const MAX_SHOWN: usize = 200;
    let message = match message {
        "invalid socket address syntax" => {
            "not an address with a port; write for example \"0.0.0.0:8061\""
        }
        "invalid IPv4 socket address syntax" => {
            "not an IPv4 address with a port; write for example \"0.0.0.0:8061\""
        }
        "invalid IPv6 socket address syntax" => {
            "not an IPv6 address with a port; write for example \"[::]:8061\""
        }
        "invalid IP address syntax" => {
            "not an IP address or network; write for example \"10.0.0.7\", or \"10.0.0.0/24\" for a network"
        }
        own if units::is_own_message(own) => own,
        _ if secret => "refused; the reason could repeat the value and is not shown",
        other => other,
    };
    let message: String = message
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_SHOWN)
        .collect();
    match message.split_once("; ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (message, None),
    }
}

fn in_plain_words(expected: &str) -> String {
    let whole = |range: &str| format!("a whole number {range}");
    match expected {
        "u8" => whole("from 0 to 255"),
        "u16" => whole("from 0 to 65535"),
        "u32" => whole("from 0 to 4294967295"),
        "u64" | "usize" | "u128" => whole("that is not negative"),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => whole("within its range"),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "string" | "str" => "a text in quotes".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("a nonzero") => whole("that is not 0"),
        other if other.starts_with("enum ") || other == "string or map" => {
            "one of its choices in quotes".to_owned()
        }
        "IPv4 or IPv6 network address" => "an IP network such as \"10.0.0.0/24\"".to_owned(),
        "socket address" => "an address with a port such as \"0.0.0.0:8061\"".to_owned(),
        "IP address" => "an IP address such as \"10.0.0.7\"".to_owned(),
        other => other.to_owned(),
    }
}

/// The name that was probably meant, if one is near enough.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    const MAX_COMPARED: usize = 64;
    if name.len() > MAX_COMPARED {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let allowed = 1.max(name.chars().count() / 3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&plain(name), &plain(known)), *known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

pub(super) fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}
