//! One stream, what was acknowledged of it, and what is still there.

use std::collections::BTreeSet;

use ::http::Method;
use ngsi_ferry::record::Record;
use serde_json::json;

use super::seed::{self, Seed};
use crate::common::gateway::Gateway;
use crate::common::http::{self, Answer};
use crate::common::spark::Spark;

/// The stream that refuses when the disk is full.
pub const KEEPING: &str = "keeping";
/// The one that gives up its oldest.
pub const DROPPING: &str = "dropping";

pub struct Stream {
    name: &'static str,
    contents: Seed,
    sent: u64,
    /// Ids of what was answered 204 and is not read yet.
    acknowledged: BTreeSet<u64>,
    /// Everything below was read, and may be acknowledged.
    read: u64,
}

impl Stream {
    pub fn new(name: &'static str, contents: Seed) -> Self {
        Self { name, contents, sent: 0, acknowledged: BTreeSet::new(), read: 0 }
    }

    pub async fn post(&mut self, gateway: &Gateway) -> Answer {
        let id = self.sent;
        self.sent += 1;
        let body = body(&self.contents, id);
        let path = format!("/notify/{}", self.name);
        let answer = http::once(gateway.intake, &http::request("POST", &path, &[], &body)).await;
        if answer.status == 204 {
            self.acknowledged.insert(id);
        }
        answer
    }

    /// Reads on to the end: what was acknowledged is there, in order and byte
    /// for byte, but for what was evicted and counted.
    pub async fn audit(&mut self, gateway: &Gateway) {
        let spark = Spark::of(gateway);
        let mut found = Vec::new();
        let mut evicted = 0;
        loop {
            let path = format!("/v1/streams/{}/records?from={}", self.name, self.read);
            let answer = spark.request(Method::GET, &path, &[], Vec::new()).await.unwrap();
            if answer.status == 410 && self.name == DROPPING {
                let gone = answer.json();
                assert_eq!(gone["reason"], "evicted", "{gone}");
                let earliest = gone["earliest"].as_u64().unwrap();
                evicted += earliest - self.read;
                self.read = earliest;
                continue;
            }
            assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.body, gateway.log());
            for line in answer.body.split_inclusive('\n') {
                let record = Record::decode(line.as_bytes()).unwrap();
                let id = seed::id_of(&record.notification.body).expect("a body of ours");
                let same = record.notification.body == body(&self.contents, id);
                assert!(same, "{} {} is corrupted", self.name, record.seq);
                found.push((record.seq, id));
            }
            let next = answer.headers["ngsi-ferry-next"].to_str().unwrap().parse().unwrap();
            if next == self.read {
                break;
            }
            self.read = next;
        }
        assert!(found.is_sorted_by(|one, two| one.0 < two.0 && one.1 < two.1), "{found:?}");
        for (_, id) in &found {
            self.acknowledged.remove(id);
        }
        let missing = std::mem::take(&mut self.acknowledged);
        assert!(
            missing.len() as u64 <= evicted,
            "acknowledged, and not in {}: {missing:?}, {evicted} evicted\n{}",
            self.name,
            gateway.log()
        );
    }

    /// The consumer has everything that was read.
    pub async fn acknowledge(&mut self, gateway: &Gateway) {
        let path = format!("/v1/streams/{}/consumers/job", self.name);
        let body = json!({ "position": self.read }).to_string().into_bytes();
        let answer = Spark::of(gateway).request(Method::PUT, &path, &[], body).await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, gateway.log());
        assert_eq!(answer.json()["position"], self.read);
    }
}

/// 20 to 220 kB that no compressor makes smaller: the disk is to become full.
fn body(contents: &Seed, id: u64) -> Vec<u8> {
    let mut chance = contents.of(id);
    let len = 20_000 + chance.below(200_000);
    let mut body = format!("{id:016x}:").into_bytes();
    while (body.len() as u64) < len {
        body.extend(chance.next().to_le_bytes());
    }
    body
}
