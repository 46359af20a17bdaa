//! A consumer of ngsi-ferry's API in the place of the receiver: ngsi-ferry is
//! asked, it does not send by itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ngsi_ferry::tls;
use reqwest::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::receiver::turns;

const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);

pub struct Consumer {
    base: String,
    data_dir: PathBuf,
    ledger: Ledger,
    /// As in a job's checkpoint.
    from: u64,
    epoch: Option<String>,
}

impl Consumer {
    pub fn new(at: SocketAddr, data_dir: &Path, ledger: Ledger) -> Self {
        let base = format!("https://{at}/v1/streams/default");
        Self { base, data_dir: data_dir.to_owned(), ledger, from: 0, epoch: None }
    }

    /// Reads while it is there; when it goes away, it is in the middle of
    /// whatever it does.
    pub async fn run(mut self, mut is_there: watch::Receiver<bool>) -> Result<()> {
        loop {
            turns(&mut is_there, true).await?;
            tokio::select! {
                gone = turns(&mut is_there, false) => gone?,
                // The gateway is gone: later.
                _ = self.read_on() => sleep(RETRY).await,
            }
        }
    }

    async fn read_on(&mut self) -> Result<()> {
        let pki = self.data_dir.join("pki");
        let (cert, key) = (pki.join("client.pem"), pki.join("client.key"));
        let tls = tls::client_config(Some(&pki.join("ca.pem")), Some((&cert, &key)))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        loop {
            self.read(&client).await?;
        }
    }

    async fn read(&mut self, client: &Client) -> Result<()> {
        let epoch = self.epoch.as_ref().map(|epoch| format!("&epoch={epoch}")).unwrap_or_default();
        let url = format!("{}/records?from={}&wait=1{epoch}", self.base, self.from);
        let answer = client.get(url).send().await?;
        let status = answer.status();
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (epoch, next) = (header("ngsi-ferry-epoch"), header("ngsi-ferry-next"));
        let body = answer.bytes().await?;
        if status != 200 {
            eprintln!("peer: {status}: {}", String::from_utf8_lossy(&body));
            bail!("{status}");
        }
        let next = next.context("no next number")?.parse()?;
        self.ledger.received(&body);
        if next == self.from {
            return Ok(());
        }
        (self.from, self.epoch) = (next, epoch);
        // A lost one is repeated with the next.
        let position = json!({ "epoch": self.epoch, "position": self.from });
        let url = format!("{}/consumers/peer", self.base);
        client.put(url).body(position.to_string()).send().await?;
        Ok(())
    }
}
