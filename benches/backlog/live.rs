//! Live records, each with the moment at which it was sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio_util::sync::CancellationToken;

use crate::common::http::{self, Client};

/// Fifty a second.
const EVERY: Duration = Duration::from_millis(20);
/// Stands in front of the moment in a line; in JSON in JSON.
const MARK: &[u8] = br#"{\"sent_us\":"#;

/// Sends until told to stop; answers with how many were taken. A late answer
/// delays no other: what is measured is the way to the consumer.
pub async fn send(to: SocketAddr, begun: Instant, stop: CancellationToken) -> anyhow::Result<u64> {
    let mut client = Client::connect(to).await?;
    let (mut sent, mut ticks) = (0, tokio::time::interval(EVERY));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let body = format!(r#"{{"sent_us":{}}}"#, begun.elapsed().as_micros());
        let request = http::request("POST", "/notify", &[], body.as_bytes());
        let status = client.exchange(&request).await?.status;
        ensure!(status == 204, "a live notification was answered {status}");
        sent += 1;
    }
    Ok(sent)
}

/// When the record of a line was sent, where it is a live one.
pub fn sent_at(line: &[u8]) -> Option<Duration> {
    // Those of the backlog are longer, or have no mark.
    if line.len() > 1000 {
        return None;
    }
    let at = line.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let micros = digits.fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(Duration::from_micros(micros))
}
