//! What the tests of the Spark API and of relays share.

// Each of the two uses a part of it.
#![allow(dead_code)]

use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::Value;

use crate::common::gateway::Gateway;
use crate::common::http;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The number to read on from.
    pub fn next(&self) -> u64 {
        self.headers["ngsi-ferry-next"].to_str().unwrap().parse().unwrap()
    }

    pub fn epoch(&self) -> &str {
        self.headers["ngsi-ferry-epoch"].to_str().unwrap()
    }

    /// The numbers of the records in it.
    pub fn numbers(&self) -> Vec<u64> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice::<Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect()
    }
}

/// A client of a gateway's API.
pub struct Api {
    pub client: Client,
    base: String,
}

impl Api {
    /// With the gateway's own client certificate.
    pub fn of(gateway: &Gateway) -> Self {
        Self::with(gateway, gateway.spark_client())
    }

    pub fn with(gateway: &Gateway, client: Client) -> Self {
        Self { client, base: gateway.spark_url("") }
    }

    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(method, path, body, &[]).await
    }

    pub async fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap().to_vec();
        Answer { status, headers, body }
    }

    /// A JSON body; what fails on the line is an error.
    pub async fn try_send_json(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        self.try_send_with(method, path, body, ("Content-Type", "application/json")).await
    }

    /// A body as it is, packed or not; what fails on the line is an error.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
        packed: bool,
    ) -> reqwest::Result<Answer> {
        let coding = if packed { "zstd" } else { "identity" };
        self.try_send_with(method, path, body, ("Content-Encoding", coding)).await
    }

    async fn try_send_with(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
        (name, value): (&str, &str),
    ) -> reqwest::Result<Answer> {
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header(name, value);
        let answer = request.body(body).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await?.to_vec() })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// A stream's state.
    pub async fn stream(&self, name: &str) -> Value {
        self.get(&format!("/v1/streams/{name}")).await.json()
    }

    pub async fn records(&self, query: &str) -> Answer {
        self.get(&format!("/v1/streams/default/records?{query}")).await
    }

    /// As [`Api::records`], as the groups are stored.
    pub async fn packed(&self, query: &str) -> Answer {
        let path = format!("/v1/streams/default/records?{query}");
        self.ask_with("GET", &path, "", &[("Accept-Encoding", "gzip, zstd")]).await
    }

    pub async fn acknowledge(&self, consumer: &str, position: u64) -> Answer {
        let path = format!("/v1/streams/default/consumers/{consumer}");
        self.ask("PUT", &path, &format!("{{\"position\":{position}}}")).await
    }
}

/// Posts a notification.
pub async fn post(gateway: &Gateway, path: &str, body: &[u8]) {
    let raw = http::request("POST", path, &[], body);
    assert_eq!(http::once(gateway.intake, &raw).await.status, 204);
}

/// Posts so many notifications at once, so that groups hold several.
pub async fn fill(gateway: &Gateway, count: usize) {
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..count {
        let raw = http::request("POST", "/notify", &[], format!("{{\"n\":{n}}}").as_bytes());
        let to = gateway.intake;
        sending.spawn(async move { http::once(to, &raw).await.status });
    }
    assert_eq!(sending.join_all().await, vec![204; count]);
}

/// Posts records of 100 kB that no compressor makes smaller.
pub async fn fill_large(gateway: &Gateway, count: u64) {
    for seed in 1..=count {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let body: Vec<u8> = (0..100_000).map(|_| next()).collect();
        post(gateway, "/notify", &body).await;
    }
}
