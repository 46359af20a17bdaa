//! Spark's side of the gateway: staging, committing, and NGSI writes.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::gateway::Gateway;

/// A client of one running gateway.
#[derive(Clone)]
pub struct Spark {
    client: reqwest::Client,
    base: String,
    /// Whose relay that is; itself without it.
    gateway: Option<String>,
}

/// One whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// `now` or `before`, of a stage, commit or abort.
    pub fn done(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["done"].as_str().unwrap_or_default().to_owned()
    }
}

/// A row as a Spark task stages it.
pub fn row(method: &str, path: &str, body: &Value) -> Value {
    json!({"method": method, "path": path, "body": body})
}

/// An update of one attribute that holds a number.
pub fn number(entity: &str, attribute: &str, value: u64) -> Value {
    let body = json!({attribute: {"type": "Number", "value": value}});
    row("PATCH", &format!("/v2/entities/{entity}/attrs"), &body)
}

impl Spark {
    pub fn of(gateway: &Gateway) -> Self {
        Self::patient(gateway, None)
    }

    /// One whose requests fail after so long.
    pub fn patient(gateway: &Gateway, patience: Option<Duration>) -> Self {
        let client = match patience {
            None => gateway.spark_client(),
            Some(patience) => gateway.impatient_spark_client(patience),
        };
        Self { client, base: gateway.spark_url(""), gateway: None }
    }

    /// As [`Spark::of`], for a gateway that this one is the relay of.
    pub fn through(relay: &Gateway, gateway: &str) -> Self {
        Self { gateway: Some(gateway.to_owned()), ..Self::of(relay) }
    }

    fn url(&self, path: &str) -> String {
        let Some(gateway) = &self.gateway else { return format!("{}{path}", self.base) };
        let (version, rest) = match path.strip_prefix("/v1/") {
            Some(rest) => ("/v1", rest),
            None => ("", path.trim_start_matches('/')),
        };
        format!("{}{version}/gateways/{gateway}/{rest}", self.base)
    }

    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> reqwest::Result<Reply> {
        let mut request = self.client.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Reply { status, headers, body: answer.text().await? })
    }

    pub async fn try_stage(
        &self,
        (query, batch): (&str, u64),
        attempt: &str,
        rows: &[Value],
    ) -> reqwest::Result<Reply> {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let path = format!("/v1/write-backs/{query}/{batch}/{attempt}");
        self.request(Method::PUT, &path, &[], lines.join("\n").into_bytes()).await
    }

    pub async fn try_commit(
        &self,
        (query, batch): (&str, u64),
        attempts: &[impl AsRef<str>],
    ) -> reqwest::Result<Reply> {
        let attempts: Vec<&str> = attempts.iter().map(AsRef::as_ref).collect();
        let path = format!("/v1/write-backs/{query}/{batch}/commit");
        let body = json!({ "attempts": attempts }).to_string().into_bytes();
        self.request(Method::POST, &path, &[], body).await
    }

    pub async fn try_abort(&self, (query, batch): (&str, u64)) -> reqwest::Result<Reply> {
        let path = format!("/v1/write-backs/{query}/{batch}/abort");
        self.request(Method::POST, &path, &[], Vec::new()).await
    }

    /// An NGSI write, through the Spark API.
    pub async fn try_write(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> reqwest::Result<Reply> {
        let method = method.parse().unwrap();
        if body.is_null() {
            return self.request(method, path, headers, Vec::new()).await;
        }
        let json = ("content-type", "application/json");
        let headers = [headers, &[json]].concat();
        self.request(method, path, &headers, body.to_string().into_bytes()).await
    }

    pub async fn stage(&self, batch: (&str, u64), attempt: &str, rows: &[Value]) -> Reply {
        self.try_stage(batch, attempt, rows).await.unwrap()
    }

    pub async fn commit(&self, batch: (&str, u64), attempts: &[&str]) -> Reply {
        self.try_commit(batch, attempts).await.unwrap()
    }

    pub async fn abort(&self, batch: (&str, u64)) -> Reply {
        self.try_abort(batch).await.unwrap()
    }

    /// An NGSI write that is accepted.
    pub async fn write(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.write_with(method, path, &[], body).await
    }

    pub async fn write_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Reply {
        let reply = self.try_write(method, path, headers, body).await.unwrap();
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        reply
    }

    /// An update of one attribute that holds a number, through the pass-through.
    pub async fn set(&self, entity: &str, attribute: &str, value: u64) {
        let row = number(entity, attribute, value);
        self.write("PATCH", row["path"].as_str().unwrap(), &row["body"]).await;
    }
}
