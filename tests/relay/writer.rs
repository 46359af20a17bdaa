//! Writes for a gateway in a campaign: those that its relay accepted are in its
//! outbox, once and in order.

use std::time::Duration;

use serde_json::Value;

use crate::edge::Edge;
use crate::oracle::life::Life;
use crate::spark_api::Api;

const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// The numbers that were accepted, in order.
    accepted: Vec<u64>,
    sent: u64,
}

impl Writer {
    /// Writes one number after the other until the relay's life ends.
    pub async fn run(mut self, gateway: String, api: Api, life: Life) -> Self {
        loop {
            let number = self.sent;
            self.sent += 1;
            let path = format!("/gateways/{gateway}/v2/entities/a/attrs");
            loop {
                let body = format!("{{\"n\":{{\"value\":{number}}}}}").into_bytes();
                let Ok(answer) = api.try_send_json("PATCH", &path, body).await else { return self };
                match answer.status.as_u16() {
                    204 => break,
                    503 => {
                        life.refused(&String::from_utf8_lossy(&answer.body));
                        tokio::time::sleep(PAUSE).await;
                    }
                    _ => panic!("{answer:?}"),
                }
            }
            self.accepted.push(number);
            life.acknowledged("outbox");
        }
    }

    /// How many were accepted.
    pub fn count(&self) -> usize {
        self.accepted.len()
    }

    /// Each that was accepted is there once, in order; of the others at most
    /// once what was under way at an end.
    pub async fn audit(&self, edge: &Edge) {
        let mut from = 0;
        let mut found = Vec::new();
        loop {
            let answer =
                edge.api.get(&edge.path(&format!("write-backs/records?from={from}"))).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.body.is_empty() {
                break;
            }
            for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let entry: Value = serde_json::from_slice(line).unwrap();
                let body: Value = serde_json::from_str(entry["body"].as_str().unwrap()).unwrap();
                found.push(body["n"]["value"].as_u64().unwrap());
            }
            from = answer.next();
        }
        assert!(found.is_sorted_by(|a, b| a < b), "twice, or out of order: {found:?}");
        let missing: Vec<_> =
            self.accepted.iter().filter(|n| found.binary_search(n).is_err()).collect();
        assert!(missing.is_empty(), "lost: {missing:?} of {found:?}");
        assert!(found.last().is_none_or(|last| *last < self.sent));
    }
}
