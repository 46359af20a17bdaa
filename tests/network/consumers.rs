//! Consumers that take nothing any more, or little: neither holds memory for
//! ever, nor holds up others.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::line::{Line, Way, Weather};
use super::oracle::life::until;
use super::oracle::seed::{Seed, body};
use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http::{self, Client};

const RECORDS: u64 = 2000;
const MANY: usize = 8;
const BUDGET: u64 = 16 << 20;

fn setup() -> Setup {
    Setup::new().set("BYTES_IN_FLIGHT", &BUDGET.to_string()).set("STORE__SEGMENT_BYTES", "1MiB")
}

/// Sends so many notifications, about 8 KB each.
async fn fill(gateway: &Gateway, ids: std::ops::Range<u64>) {
    let contents = Seed::new(7);
    let mut client = Client::connect(gateway.intake).await.unwrap();
    for id in ids {
        let raw = http::request("POST", "/notify", &[], &body(&contents, id));
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
}

async fn in_flight(gateway: &Gateway) -> u64 {
    gateway.status().await["bytes_in_flight"].as_u64().unwrap()
}

/// The most memory that the process ever had, in bytes.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Consumers on connections of their own over this line, which ask for as
/// much as they may have.
async fn ask(gateway: &Gateway, line: &Line, weather: Weather) -> JoinSet<usize> {
    let (mut asking, mut clients) = (JoinSet::new(), Vec::new());
    let base = format!("https://{}/v1/streams", line.addr());
    for _ in 0..MANY {
        let client = gateway.spark_client();
        assert_eq!(client.get(&base).send().await.unwrap().status(), 200);
        clients.push(client);
    }
    line.set(weather);
    for client in clients {
        let url = format!("{base}/default/records?from=0&max_bytes=8388608");
        asking.spawn(async move {
            let Ok(answer) = client.get(url).send().await else { return 0 };
            answer.bytes().await.map_or(0, |bytes| bytes.len())
        });
    }
    asking
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_takes_nothing_any_more_gives_its_memory_back_in_time() {
    let gateway = setup().set("SPARK__BODY_TIMEOUT", "1s").start().await;
    fill(&gateway, 0..RECORDS).await;
    let line = Line::to(gateway.spark).await;
    let before = peak(&gateway);
    // So slow that it is none: what is sent fills the buffers, and stands.
    let asking = ask(&gateway, &line, Weather::Crawls(1)).await;
    until("answers are under way", async || in_flight(&gateway).await > BUDGET / 8).await;
    let begun = Instant::now();
    until("all memory is given back", async || in_flight(&gateway).await == 0).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let grown = peak(&gateway) - before;
    assert!(grown < 4 * BUDGET, "{MANY} of them took {grown} bytes");
    drop(asking);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_never_says_anything_is_closed_in_time() {
    let gateway = setup().set("SPARK__BODY_TIMEOUT", "1s").start().await;
    let line = Line::to(gateway.spark).await;
    line.set(Weather::Swallows(Way::There));
    let mut client = Client::connect(line.addr()).await.unwrap();
    client.send(b"\x16\x03\x01").await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(20), client.closes_silently()).await;
    assert!(closed.expect("it is kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_read_slowly_hold_up_neither_others_nor_the_intake() {
    let gateway = setup().start().await;
    fill(&gateway, 0..RECORDS).await;
    let line = Line::to(gateway.spark).await;
    let before = peak(&gateway);
    let mut slow = ask(&gateway, &line, Weather::Crawls(4 << 10)).await;
    until("answers are under way", async || in_flight(&gateway).await > BUDGET / 8).await;
    let others = async {
        fill(&gateway, RECORDS..RECORDS + 200).await;
        gateway.records("default", 0).await.len()
    };
    let read = tokio::time::timeout(DEADLINE / 2, others).await;
    assert_eq!(read.expect("others are held up"), 2200);
    let held = in_flight(&gateway).await;
    assert!(held > 0 && held <= BUDGET, "{held} bytes are in flight");
    let grown = peak(&gateway) - before;
    assert!(grown < 6 * BUDGET, "{MANY} of them took {grown} bytes");
    assert!(slow.try_join_next().is_none(), "one was not slow at all");
    // They lose nothing by it.
    line.set(Weather::Fair);
    let whole = slow.join_all().await;
    assert!(whole.iter().all(|bytes| *bytes > 0), "{whole:?}");
}
