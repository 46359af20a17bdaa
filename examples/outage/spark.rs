//! A stand-in for a Spark job: reads in micro-batches over mutual TLS, writes
//! a verdict on each record back, and goes on where it was after any failure.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ngsi_ferry::tls;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::ledger::Ledger;

/// A job's trigger interval, and its `maxRecordsPerTrigger`.
const TRIGGER: Duration = Duration::from_millis(250);
const MOST_RECORDS: u64 = 250;
const PATIENCE: Duration = Duration::from_secs(5);
const STREAM: &str = "/v1/streams/default";

pub struct Spark {
    client: Client,
    base: String,
    ledger: Arc<Ledger>,
    /// What Spark keeps in its checkpoint: how far it has come.
    epoch: Option<String>,
    from: u64,
    batch: u64,
    /// The batch that is under way. After a failure the very same is repeated.
    begun: Option<Batch>,
}

struct Batch {
    rows: String,
    next: u64,
}

impl Spark {
    pub fn new(pki: &Path, line: SocketAddr, ledger: Arc<Ledger>) -> Result<Self> {
        tls::install_provider();
        let (cert, key) = (pki.join("client.pem"), pki.join("client.key"));
        let tls = tls::client_config(Some(&pki.join("ca.pem")), Some((&cert, &key)))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let base = format!("https://{line}");
        Ok(Self { client, base, ledger, epoch: None, from: 0, batch: 0, begun: None })
    }

    pub async fn run(mut self) {
        let mut triggers = interval(TRIGGER);
        triggers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            triggers.tick().await;
            // The line is cut, or the gateway is gone: later.
            while self.micro_batch().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn micro_batch(&mut self) -> Result<()> {
        let batch = match self.begun.take() {
            Some(begun) => begun,
            None => match self.read().await? {
                Some(read) => read,
                None => return Ok(()),
            },
        };
        let batch = self.begun.insert(batch);
        // Both are answered as done where they were done before.
        let attempts = format!("{}/v1/write-backs/outage/{}", self.base, self.batch);
        let staged = self.client.put(format!("{attempts}/task-0")).body(batch.rows.clone());
        expect_ok(staged.send().await?)?;
        let commit = self.client.post(format!("{attempts}/commit"));
        expect_ok(commit.body(r#"{"attempts":["task-0"]}"#).send().await?)?;
        // From here on the batch counts.
        self.from = batch.next;
        self.batch += 1;
        self.begun = None;
        self.acknowledge().await
    }

    async fn read(&mut self) -> Result<Option<Batch>> {
        let mut url = format!(
            "{}{STREAM}/records?from={}&until={}&wait=2",
            self.base,
            self.from,
            self.from + MOST_RECORDS
        );
        if let Some(epoch) = &self.epoch {
            let _ = write!(url, "&epoch={epoch}");
        }
        let answer = expect_ok(self.client.get(url).send().await?)?;
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let epoch = header("ngsi-ferry-epoch").context("no epoch")?;
        let next = header("ngsi-ferry-next").context("no next number")?.parse()?;
        let body = answer.text().await?;
        self.epoch = Some(epoch);
        if body.is_empty() {
            self.from = next;
            return Ok(None);
        }
        let mut numbers = Vec::new();
        let mut rows = String::new();
        let first = self.ledger.written_back();
        for (line, verdict) in body.lines().zip(first..) {
            let record: Value = serde_json::from_str(line)?;
            let sent = record["body"].as_str().context("a body that is no text")?;
            let sent: Value = serde_json::from_str(sent)?;
            let entity = &sent["data"][0];
            numbers.push(entity["cycle"]["value"].as_u64().context("no number")?);
            let id = entity["id"].as_str().context("no id")?;
            let row = json!({
                "method": "PATCH",
                "path": format!("/v2/entities/{id}/attrs"),
                "headers": { "Fiware-Service": "plant1" },
                "body": { "verdict": { "type": "Number", "value": verdict } },
            });
            let _ = writeln!(rows, "{row}");
        }
        // Entered now, not after the commit: Orion may have the first of them
        // before this process hears that they are kept.
        self.ledger.delivered(&numbers);
        Ok(Some(Batch { rows, next }))
    }

    /// What the gateway may forget. A lost one is repeated with the next.
    async fn acknowledge(&self) -> Result<()> {
        let url = format!("{}{STREAM}/consumers/outage", self.base);
        let body = json!({ "epoch": self.epoch, "position": self.from }).to_string();
        expect_ok(self.client.put(url).body(body).send().await?)?;
        Ok(())
    }
}

fn expect_ok(answer: Response) -> Result<Response> {
    if answer.status() != StatusCode::OK {
        bail!("answered {}", answer.status());
    }
    Ok(answer)
}
