//! `ngsi-ferry peek`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use super::gateway::{Gateway, Socket, refusal};
use super::print_line;
use crate::config::Config;
use crate::record::Sequence;
use crate::store::{ReadError, Store};

const BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which stream; on a relay GATEWAY/STREAM
    #[arg(default_value = "default")]
    stream: String,
    /// Begin at this number; without it at the oldest record there is
    #[arg(long, value_name = "N")]
    from: Option<Sequence>,
    /// Print at most so many records
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// Go on as records come
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode> {
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let print = |lines: &[u8]| {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if left == 0 {
                return false;
            }
            print_line(&String::from_utf8_lossy(line));
            left -= 1;
        }
        left > 0
    };
    match Gateway::find(config).await? {
        Gateway::Running(socket) => from_running(&socket, arguments, print).await?,
        Gateway::Stopped(store) => {
            if arguments.follow {
                bail!("no gateway runs, so nothing will come; leave out --follow");
            }
            let printed = from_store(&store, arguments, print).await;
            store.close().await;
            printed?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn from_running(
    socket: &Socket,
    arguments: &Arguments,
    mut print: impl FnMut(&[u8]) -> bool,
) -> Result<()> {
    let mut from = arguments.from.unwrap_or(0);
    let mut begun = arguments.from.is_some();
    let wait = if arguments.follow { 30 } else { 0 };
    loop {
        let stream = match arguments.stream.split_once('/') {
            Some((gateway, stream)) => format!("/gateways/{gateway}/streams/{stream}"),
            None => format!("/streams/{}", arguments.stream),
        };
        let path = format!("{stream}/records?from={from}&wait={wait}");
        let answer = socket.send(Method::GET, &path).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.into_body().collect().await?.to_bytes();
        if status == StatusCode::GONE && !begun {
            let gone: serde_json::Value = serde_json::from_slice(&body)?;
            from = gone["earliest"].as_u64().unwrap_or(from + 1);
            continue;
        }
        if status != StatusCode::OK {
            bail!("{}", refusal(&body).unwrap_or_else(|| format!("the gateway answered {status}")));
        }
        begun = true;
        let next = headers.get("ngsi-ferry-next").and_then(|next| next.to_str().ok()?.parse().ok());
        let go_on = print(&body) && (arguments.follow || !body.is_empty());
        match next {
            Some(next) if go_on => from = next,
            _ => return Ok(()),
        }
    }
}

async fn from_store(
    store: &Arc<Store>,
    arguments: &Arguments,
    mut print: impl FnMut(&[u8]) -> bool,
) -> Result<()> {
    let found = match arguments.stream.split_once('/') {
        Some((gateway, stream)) => {
            store.remote(gateway).and_then(|remote| remote.replica(stream, None))
        }
        None => store.stream(&arguments.stream),
    };
    let Some(log) = found else {
        bail!("there is no stream {}", arguments.stream);
    };
    let bounds = log.bounds();
    let mut at = arguments.from.unwrap_or(bounds.earliest);
    if at > bounds.next {
        return Err(ReadError::Beyond { next: bounds.next }.into());
    }
    while at < bounds.next {
        let batch = match log.read(at..bounds.next, BYTES).await {
            Ok(batch) => batch,
            Err(ReadError::Gone { earliest, .. }) if arguments.from.is_none() => {
                at = earliest;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for group in &batch.groups {
            if !print(&group.lines()?) {
                return Ok(());
            }
        }
        at = batch.next;
    }
    Ok(())
}
