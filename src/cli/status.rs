//! `ngsi-ferry status`.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use http::Method;

use super::gateway::Gateway;
use super::print_line;
use super::table::{ago, bytes, count, span, table};
use crate::app;
use crate::certificates::Watch;
use crate::config::Config;
use crate::orion::dead_letters::DeadLetters;
use crate::spark::line_socket;
use crate::status::{DamagedLog, LostRange, RemoteStatus, Status, StreamStatus};
use crate::uplink;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode> {
    let status = match Gateway::find(config).await? {
        Gateway::Running(socket) => socket.ask(Method::GET, "/status").await?,
        Gateway::Stopped(store) => {
            let mut status = Status::of(&store).await;
            status.id = config.id();
            let letters = (store.dead_letters().clone(), store.write_backs().clone());
            let letters = DeadLetters::open(letters.0, letters.1).await?;
            status.write_backs.dead_letters = letters.count() as u64;
            let own = app::certificates::own_folder(config);
            let watch = Watch::new(own, app::certificates::files(config), Vec::new());
            status.certificates = watch.certificates(SystemTime::now());
            store.close().await;
            status
        }
    };
    if arguments.json {
        print_line(&serde_json::to_string_pretty(&status)?);
    } else {
        print_line(render(&status).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn render(status: &Status) -> String {
    let mut text = headline(status);
    text += "\n";
    text += &streams(status);
    text += "\n";
    text += &consumers(status);
    text += "\n";
    if !status.gateways.is_empty() {
        text += &gateways(status);
        text += "\n";
    }
    text += &line_sockets(status);
    text += &write_backs(status);
    text += &status.uplink.as_ref().map(uplink).unwrap_or_default();
    for notice in notices(status) {
        text += "! ";
        text += &notice;
        text += "\n";
    }
    text
}

fn headline(status: &Status) -> String {
    let Status { id, version, disk_free_bytes, .. } = status;
    let free = bytes(*disk_free_bytes);
    match (status.pid, status.started) {
        (Some(pid), Some(started)) => {
            format!(
                "{id}: ngsi-ferry {version}, process {pid}, up {}, {free} of disk free\n",
                ago(started)
            )
        }
        _ => format!("{id}: no gateway runs; this is what its store holds ({free} of disk free)\n"),
    }
}

fn streams(status: &Status) -> String {
    let age = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), span);
    let row = |stream: &StreamStatus| {
        let log = &stream.log;
        vec![
            log.name.clone(),
            count(log.records),
            bytes(log.bytes),
            bytes(log.max_bytes),
            age(stream.oldest_seconds),
            count(log.next),
            count(log.evicted.records),
            count(log.lost),
        ]
    };
    let rows: Vec<_> = status.streams.iter().map(row).collect();
    table(&["STREAM", "RECORDS", "ON DISK", "LIMIT", "OLDEST", "NEXT", "EVICTED", "LOST"], &rows)
}

fn consumers(status: &Status) -> String {
    let mut rows = Vec::new();
    for stream in &status.streams {
        for (consumer, age) in stream.log.consumers.iter().zip(&stream.consumer_oldest_seconds) {
            let moved = std::time::UNIX_EPOCH + std::time::Duration::from_millis(consumer.moved_ms);
            rows.push(vec![
                consumer.name.clone(),
                stream.log.name.clone(),
                count(consumer.position),
                count(consumer.lag),
                age.map_or_else(|| "-".to_owned(), span),
                if consumer.moved_ms == 0 { "-".to_owned() } else { format!("{} ago", ago(moved)) },
            ]);
        }
    }
    if rows.is_empty() {
        return "No consumer yet: records are kept until a limit is reached.\n".to_owned();
    }
    table(&["CONSUMER", "STREAM", "POSITION", "LAG", "OLDEST", "ACKNOWLEDGED"], &rows)
}

/// What is kept for others: a row for each replica.
fn gateways(status: &Status) -> String {
    let known = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), count);
    let mut rows = Vec::new();
    for RemoteStatus { gateway, heard_seconds, replicas, write_backs_waiting } in &status.gateways {
        let heard =
            heard_seconds.map_or_else(|| "-".to_owned(), |age| format!("{} ago", span(age)));
        let waiting = count(*write_backs_waiting);
        for replica in replicas {
            let log = &replica.log;
            let stream = if replica.is_earlier { "(earlier) " } else { "" }.to_owned() + &log.name;
            rows.push(vec![
                gateway.clone(),
                stream,
                count(log.records),
                bytes(log.bytes),
                count(log.next),
                known(replica.lag()),
                heard.clone(),
                waiting.clone(),
            ]);
        }
        if replicas.is_empty() {
            let none = || "-".to_owned();
            rows.push(vec![
                gateway.clone(),
                none(),
                none(),
                none(),
                none(),
                none(),
                heard,
                waiting,
            ]);
        }
    }
    let head = ["GATEWAY", "STREAM", "RECORDS", "ON DISK", "NEXT", "LAG", "HEARD", "WRITE-BACKS"];
    table(&head, &rows)
}

fn line_sockets(status: &Status) -> String {
    if status.line_sockets.is_empty() {
        return String::new();
    }
    let row = |socket: &line_socket::Status| {
        vec![
            socket.listen.clone(),
            socket.stream.clone(),
            socket.consumer.clone(),
            socket.clients.to_string(),
            count(socket.position),
            count(socket.sent),
            count(socket.left_out),
        ]
    };
    let rows: Vec<_> = status.line_sockets.iter().map(row).collect();
    let heads = ["LINE SOCKET", "STREAM", "CONSUMER", "CLIENTS", "POSITION", "SENT", "LEFT OUT"];
    table(&heads, &rows) + "\n"
}

fn write_backs(status: &Status) -> String {
    let waiting = &status.write_backs;
    let age = waiting.oldest_seconds.filter(|_| waiting.waiting > 0);
    let age = age.map_or_else(String::new, |age| format!(" (oldest {})", span(age)));
    let (count_waiting, dead) = (count(waiting.waiting), count(waiting.dead_letters));
    let mut lines = vec![format!("Write-backs: {count_waiting} waiting{age}, {dead} dead letters")];
    for target in status.replay.iter().flat_map(|replay| &replay.targets) {
        let (name, url, since) = (&target.name, &target.url, ago(target.since));
        let state = if target.up { "up" } else { "DOWN" };
        lines.push(format!("Orion {name} ({url}): {state} since {since}"));
        lines.extend(target.last_error.iter().filter(|_| !target.up).map(|why| format!("  {why}")));
    }
    lines.join("\n") + "\n"
}

fn uplink(status: &uplink::Status) -> String {
    let (relay, since) = (&status.relay, ago(status.since));
    let state = if status.up { "up" } else { "DOWN" };
    let behind = count(status.streams.iter().map(|stream| stream.behind).sum());
    let (sent, pulled) = (bytes(status.sent_bytes), count(status.pulled_entries));
    let mut lines = vec![format!(
        "Relay {relay}: {state} since {since}, {behind} records behind; \
         since the start {sent} sent, {pulled} write-back entries pulled"
    )];
    let why = status.last_error.iter().filter(|_| !status.up);
    lines.extend(why.map(|why| format!("  {why}")));
    let waiting = status.streams.iter().filter(|one| one.behind > 0 || one.problem.is_some());
    lines.extend(waiting.map(|stream| {
        let why = stream.problem.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("  {}: {} records behind{why}", stream.name, count(stream.behind))
    }));
    lines.join("\n") + "\n"
}

fn notices(status: &Status) -> Vec<String> {
    let mut notices = status.problems.clone();
    notices.extend(status.damaged.iter().flat_map(losses));
    notices.extend(status.gateways.iter().flat_map(RemoteStatus::notices));
    if status.write_backs.dead_letters > 0 {
        notices.push("Orion refused write-backs: ngsi-ferry dead-letters list".to_owned());
    }
    notices.extend(status.clock_unset.clone());
    for certificate in &status.certificates {
        if let Some(problem) = &certificate.problem {
            let (path, used_as) = (certificate.path.display(), &certificate.used_as);
            notices.push(format!("{path} ({used_as}): {problem}"));
        }
    }
    for shown in &status.client_certificates {
        if let Some(problem) = &shown.problem {
            notices.push(format!("the certificate of the client {}: {problem}", shown.client));
        }
    }
    notices
}

/// What damage took from a log: the exact numbers, and what cannot be asked
/// for any more as a count.
fn losses(damaged: &DamagedLog) -> Vec<String> {
    let DamagedLog { log, lost, ranges } = damaged;
    let told: u64 = ranges.iter().map(|range| range.until - range.from).sum();
    let mut lines: Vec<_> = ranges
        .iter()
        .map(|LostRange { from, until }| {
            format!(
                "{log}: records {from} to {} are lost to damage; see the log and quarantine/ in the data directory",
                until - 1
            )
        })
        .collect();
    let earlier = lost.saturating_sub(told);
    if earlier > 0 {
        lines.push(format!("{log}: {} records were lost to damage earlier", count(earlier)));
    }
    lines
}
