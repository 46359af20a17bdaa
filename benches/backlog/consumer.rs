//! One consumer, as a Spark job is one: it asks for live records first, keeps
//! both numbers itself, and looks at every record.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::common::gateway::Gateway;
use crate::live;

/// Bytes between two acknowledgements.
const ACKNOWLEDGED_EVERY: u64 = 64 << 20;

pub struct Consumer {
    client: reqwest::Client,
    stream: String,
    acknowledges: bool,
    begun: Instant,
    drained: Drained,
}

/// What was seen until the backlog was drained and all live records were read.
#[derive(Default)]
pub struct Drained {
    /// Different ones: numbers that came out of order are an error.
    pub records: u64,
    /// On the line.
    pub bytes: u64,
    pub took: Duration,
    /// Live records sent meanwhile, and how long each took to get here.
    pub sent: u64,
    pub latencies: Vec<Duration>,
    /// Every number was higher than the one before.
    pub in_strict_order: bool,
}

impl Consumer {
    pub fn of(gateway: &Gateway) -> Self {
        Self {
            client: gateway.spark_client(),
            stream: gateway.spark_url("/v1/streams/default"),
            acknowledges: false,
            begun: Instant::now(),
            drained: Drained::default(),
        }
    }

    /// Lets the gateway forget what it has.
    pub fn acknowledging(mut self) -> Self {
        self.acknowledges = true;
        self
    }

    /// Drains all there is while live records come.
    pub async fn drain(&mut self, gateway: &Gateway, begun: Instant) -> anyhow::Result<Drained> {
        self.begun = begun;
        self.drained.in_strict_order = true;
        let end = self.end().await?;
        let stop = CancellationToken::new();
        let sending = tokio::spawn(live::send(gateway.intake, begun, stop.clone()));
        let (mut from, mut live) = (0, end);
        let mut last = None;
        let mut acknowledged = 0;
        while from < end {
            let query = format!("from={from}&until={end}&live_from={live}&wait=1");
            let headers = self.ask(&query, end, &mut last).await?;
            from = number(&headers, "ngsi-ferry-next").context("no Ngsi-Ferry-Next")?;
            live = number(&headers, "ngsi-ferry-live-next").unwrap_or(live);
            if self.acknowledges && self.drained.bytes >= acknowledged + ACKNOWLEDGED_EVERY {
                acknowledged = self.drained.bytes;
                self.acknowledge(from).await?;
            }
        }
        self.drained.took = self.begun.elapsed();
        stop.cancel();
        self.drained.sent = sending.await??;
        let end = self.end().await?;
        while live < end {
            let headers = self.ask(&format!("from={live}&until={end}"), 0, &mut last).await?;
            live = number(&headers, "ngsi-ferry-next").context("no Ngsi-Ferry-Next")?;
        }
        if self.acknowledges {
            self.acknowledge(live).await?;
        }
        Ok(std::mem::take(&mut self.drained))
    }

    async fn end(&self) -> anyhow::Result<u64> {
        let answer = self.client.get(&self.stream).send().await?.error_for_status()?;
        let state: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
        state["next"].as_u64().context("no next")
    }

    /// Reads one answer. `live_from` tells live records apart; `last` is the
    /// last number of each part.
    async fn ask(
        &mut self,
        query: &str,
        live_from: u64,
        last: &mut Option<[Option<u64>; 2]>,
    ) -> anyhow::Result<HeaderMap> {
        let url = format!("{}/records?{query}", self.stream);
        let asked = self.client.get(url).header("Accept-Encoding", "zstd");
        let answer = asked.send().await?.error_for_status()?;
        let headers = answer.headers().clone();
        let body = answer.bytes().await?;
        let arrived = self.begun.elapsed();
        self.drained.bytes += body.len() as u64;
        let lines = if body.is_empty() { Vec::new() } else { zstd::stream::decode_all(&body[..])? };
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let seq = seq(line).context("a line without its number")?;
            let parts = last.get_or_insert_default();
            self.drained.in_strict_order &= parts.iter().flatten().all(|last| *last < seq);
            let part = &mut parts[usize::from(seq >= live_from)];
            ensure!(part.is_none_or(|last| last < seq), "{seq} came after {part:?}");
            *part = Some(seq);
            self.drained.records += 1;
            let sent = live::sent_at(line).filter(|_| seq >= live_from && live_from > 0);
            self.drained.latencies.extend(sent.map(|sent| arrived.saturating_sub(sent)));
        }
        Ok(headers)
    }

    async fn acknowledge(&self, position: u64) -> anyhow::Result<()> {
        let url = format!("{}/consumers/backlog", self.stream);
        let body = format!("{{\"position\":{position}}}");
        self.client.put(url).body(body).send().await?.error_for_status()?;
        Ok(())
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The number that a line begins with.
fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(br#"{"seq":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
