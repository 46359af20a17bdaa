//! A gateway as its relay sees it: its certificate, its records, its requests.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use ngsi_ferry::record::Line;
use serde_json::{Value, json};

use crate::common::gateway::{Gateway, Setup};
use crate::oracle::seed::{self, Seed};
use crate::spark_api::{Answer, Api};

/// Settings of a relay that lets every gateway in.
pub fn relay() -> Setup {
    Setup::new()
        .set("CLIENT__0__NAME", "*")
        .set("CLIENT__0__ALLOW", "[\"uplink\"]")
        .set("CLIENT__1__NAME", "client")
        .set("CLIENT__1__ALLOW", "[\"read\", \"acknowledge\", \"write-back\"]")
}

/// The API of a relay, as a client of that name.
pub async fn client(relay: &Gateway, name: &str) -> Api {
    let pki = relay.setup().data_dir().join("pki");
    let file = |kind: &str| pki.join(format!("{name}.{kind}"));
    let (cert, key) = (file("pem"), file("key"));
    if !cert.exists() {
        let made = relay.setup().command(["pki", "client", name]).output().await.unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    Api::with(relay, relay.spark_client_with(Some((&cert, &key))))
}

/// Begins epochs whose records are as small as notifications mostly are.
pub const SMALL: &str = "small";

/// The line of a record: always the same for the same epoch and number, and
/// never for two.
pub fn line(epoch: &str, seq: u64) -> Vec<u8> {
    let of_epoch = epoch.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut body = seed::body(&Seed::new(of_epoch), seq);
    if epoch.starts_with(SMALL) {
        body.truncate(500);
    }
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000 + seq);
    let line = Line::encode(received, "POST", "/notify", &[("fiware-service", b"plant1")], &body);
    let mut out = Vec::new();
    line.write_numbered(seq, &mut out);
    out
}

pub fn lines(epoch: &str, numbers: Range<u64>) -> Vec<u8> {
    numbers.flat_map(|seq| line(epoch, seq)).collect()
}

/// As a gateway stores them: a zstd frame for every so many.
pub fn frames(epoch: &str, numbers: Range<u64>, each: usize) -> Vec<u8> {
    let numbers: Vec<u64> = numbers.collect();
    let groups = numbers.chunks(each.max(1));
    let frames = groups.map(|group| {
        let lines: Vec<u8> = group.iter().flat_map(|seq| line(epoch, *seq)).collect();
        zstd::bulk::compress(&lines, 1).unwrap()
    });
    frames.flatten().collect()
}

/// A hole in what is handed over.
pub fn hole(from: u64, until: u64, reason: &str) -> Value {
    json!({"from": from, "until": until, "reason": reason})
}

/// A gateway's link to its relay.
pub struct Edge {
    pub name: String,
    pub api: Api,
}

impl Edge {
    pub async fn of(relay: &Gateway, name: &str) -> Self {
        Self { name: name.to_owned(), api: client(relay, name).await }
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/gateways/{}/{rest}", self.name)
    }

    /// Hands over a body that accounts for that range.
    pub async fn hand_over(
        &self,
        stream: &str,
        epoch: &str,
        range: Range<u64>,
        holes: &[Value],
        body: Vec<u8>,
    ) -> Answer {
        let answer = self.try_hand_over(stream, epoch, range, holes, body).await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn try_hand_over(
        &self,
        stream: &str,
        epoch: &str,
        range: Range<u64>,
        holes: &[Value],
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        let Range { start, end } = range;
        let mut path = self.path(&format!("streams/{stream}/records"));
        write!(path, "?epoch={epoch}&from={start}&until={end}").unwrap();
        if !holes.is_empty() {
            let holes = serde_json::to_string(holes).unwrap().replace('"', "%22");
            write!(path, "&holes={holes}").unwrap();
        }
        // A zstd frame begins with 28 b5 2f fd.
        let packed = body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        self.api.try_send("POST", &path, body, packed).await
    }

    /// Hands over the records of a range, and tells where the replica ends.
    pub async fn hand_over_all(&self, stream: &str, epoch: &str, range: Range<u64>) -> u64 {
        let body = frames(epoch, range.clone(), 7);
        let answer = self.hand_over(stream, epoch, range, &[], body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["next"].as_u64().unwrap()
    }
}

/// Reads a replica from a number on: what comes is what was handed over, byte
/// for byte. Tells the numbers that came, and each 410.
pub async fn read_all(api: &Api, path: &str, epoch: &str, from: u64) -> (Vec<u64>, Vec<Value>) {
    let (mut numbers, mut gone, mut from) = (Vec::new(), Vec::new(), from);
    loop {
        let answer = api.get(&format!("{path}/records?from={from}&epoch={epoch}")).await;
        if answer.status == 410 {
            let told = answer.json();
            from = told["earliest"].as_u64().unwrap();
            gone.push(told);
            continue;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.body.is_empty() {
            return (numbers, gone);
        }
        let came = answer.numbers();
        let expected: Vec<u8> = came.iter().flat_map(|seq| line(epoch, *seq)).collect();
        assert!(answer.body == expected, "not the lines that were handed over: {came:?}");
        numbers.extend(came);
        from = answer.next();
    }
}
