//! One request as the broker received it.

use std::time::{Instant, SystemTime};

use serde_json::Value;

use crate::common::wire::{self, Head};

/// What a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// Not yet: held by a gate, or its connection was cut.
    Waiting,
    Status(u16, Option<Value>),
    /// The connection was closed without a byte of an answer.
    Closed,
    /// The connection was closed in the middle of this answer.
    Half(u16),
}

#[derive(Debug, Clone)]
pub struct Request {
    /// Counted from 0 in the order of arrival, over all connections.
    pub number: usize,
    pub at: Instant,
    pub clock: SystemTime,
    /// Counted from 0; requests on one keep-alive connection share it.
    pub connection: usize,
    pub method: String,
    /// With the query, as on the wire.
    pub path: String,
    /// As spelled on the wire.
    pub headers: Vec<(String, String)>,
    pub chunked: bool,
    pub body: Vec<u8>,
    /// Ids of the entities it names, in the path and in the body.
    pub targets: Vec<String>,
    /// Whether it changed the state.
    pub applied: bool,
    pub answered: Answered,
}

impl Request {
    pub fn new(head: &Head, body: Vec<u8>, chunked: bool, connection: usize) -> Self {
        let (method, path) = head.request_line().unwrap_or(("", ""));
        let mut request = Self {
            number: 0,
            at: Instant::now(),
            clock: SystemTime::now(),
            connection,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: head.headers.clone(),
            chunked,
            body,
            targets: Vec::new(),
            applied: false,
            answered: Answered::Waiting,
        };
        request.targets = request.named_entities();
        request
    }

    /// The first header of that name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header(&self.headers, name)
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub fn status(&self) -> Option<u16> {
        match self.answered {
            Answered::Status(status, _) => Some(status),
            _ => None,
        }
    }

    pub fn targets(&self, id: &str) -> bool {
        self.targets.iter().any(|t| t == id)
    }

    /// The path's segments, decoded, without the query.
    pub fn segments(&self) -> Vec<String> {
        let path = self.path.split('?').next().unwrap_or_default();
        path.split('/').filter(|s| !s.is_empty()).map(wire::percent_decoded).collect()
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, value)| wire::percent_decoded(value))
    }

    /// Whether `options` in the query has that word.
    pub fn option(&self, word: &str) -> bool {
        self.query("options").is_some_and(|options| options.split(',').any(|o| o == word))
    }

    /// The tenant. Orion lower-cases it; `""` is the default one.
    pub fn tenant(&self) -> String {
        let told = self.header("fiware-service").or_else(|| self.header("ngsild-tenant"));
        told.unwrap_or_default().to_lowercase()
    }

    /// The service path, `/` by default.
    pub fn service_path(&self) -> String {
        self.header("fiware-servicepath").unwrap_or("/").to_owned()
    }

    fn named_entities(&self) -> Vec<String> {
        let segments = self.segments();
        let in_path =
            segments.iter().position(|s| s == "entities").and_then(|i| segments.get(i + 1));
        let mut ids: Vec<String> = in_path.cloned().into_iter().collect();
        let body = self.json();
        let entities = match &body {
            Some(Value::Array(several)) => several.as_slice(),
            Some(one) => match one.get("entities") {
                Some(Value::Array(several)) => several.as_slice(),
                _ => std::slice::from_ref(one),
            },
            None => &[],
        };
        let named = |e: &Value| e.get("id").or(Some(e)).and_then(Value::as_str).map(str::to_owned);
        if in_path.is_none() {
            ids.extend(entities.iter().filter_map(named));
        }
        ids
    }
}
