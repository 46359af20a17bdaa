//! Building a backlog.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use ngsi_ferry::record::Line;
use ngsi_ferry::store::{Config, Metrics, Store};
use tokio::task::JoinSet;

use crate::common::gateway::Gateway;
use crate::common::http::{self, Client};
use crate::disk;

pub const BODY_LEN: usize = 4000;
const CONNECTIONS: u64 = 16;
/// Records handed in together: one group of the store.
const TOGETHER: u64 = 1024;

/// Bytes that no compressor makes smaller.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let word = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Sends notifications until so many bytes are on the disk; answers with how
/// many were taken.
pub async fn through_the_intake(gateway: &Gateway, bytes: u64) -> anyhow::Result<u64> {
    let enough = Arc::new(AtomicBool::new(false));
    let stored = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for seed in 1..=CONNECTIONS {
        let (to, enough, stored) = (gateway.intake, Arc::clone(&enough), Arc::clone(&stored));
        senders.spawn(async move {
            let mut noise = Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
            let mut request = http::request("POST", "/notify", &[], &[0; BODY_LEN]);
            let body_at = request.len() - BODY_LEN;
            let mut client = Client::connect(to).await?;
            while !enough.load(Ordering::Relaxed) {
                noise.fill(&mut request[body_at..]);
                let status = client.exchange(&request).await?.status;
                ensure!(status == 204, "a notification was answered {status}");
                stored.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    let data = gateway.setup().data_dir();
    while senders.len() == usize::try_from(CONNECTIONS)? {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if disk::usage(&data)?.bytes >= bytes {
            enough.store(true, Ordering::Relaxed);
        }
        while let Some(ended) = senders.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    Ok(stored.load(Ordering::Relaxed))
}

/// Appends so many small records to the stream `default`.
pub async fn through_the_library(data: &Path, records: u64) -> anyhow::Result<()> {
    let config = Config { max_bytes: 1 << 40, ..Config::default() };
    let folder = data.to_owned();
    let open = move || Store::open(&folder, config, Vec::new(), Metrics::default());
    let store = tokio::task::spawn_blocking(open).await??;
    let log = store.stream("default").context("no stream")?;
    let (mut done, mut writing) = (0, None);
    while done < records {
        let count = TOGETHER.min(records - done);
        let lines = (done..done + count).map(small).collect();
        let next = log.submit(lines).await?;
        // One is packed and written while the next is made.
        if let Some(before) = writing.replace(next) {
            before.await?;
        }
        done += count;
    }
    if let Some(last) = writing {
        last.await?;
    }
    store.close().await;
    Ok(())
}

/// A key-values notification, as small as they come.
fn small(n: u64) -> Line {
    let value = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let body = format!(
        r#"{{"subscriptionId":"673f5d0c9a1b2c3d4e5f6071","data":[{{"id":"urn:Press:{}","type":"Press","pressure":{}.{}}}]}}"#,
        n % 200,
        value % 200,
        value / 200
    );
    let headers: [(&str, &[u8]); 2] =
        [("content-type", b"application/json"), ("ngsiv2-attrsformat", b"keyValues")];
    Line::encode(SystemTime::now(), "POST", "/notify", &headers, body.as_bytes())
}
