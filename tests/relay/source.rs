//! A gateway's stream in a campaign: what it has, what its relay acknowledged,
//! and whether that is there.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use crate::edge::{Edge, SMALL, hole, lines, read_all};
use crate::oracle::life::Life;
use crate::oracle::seed::Seed;
use crate::spark_api::Api;

/// Numbers come in blocks of so many, and some blocks carry no record.
const BLOCK: u64 = 16;
const LARGEST: u64 = 60;
/// How long a gateway that was refused waits.
const PAUSE: Duration = Duration::from_millis(20);

/// One stream of one gateway.
#[derive(Debug, Clone)]
pub struct Source {
    pub gateway: String,
    pub stream: &'static str,
    /// Its epochs so far; each was a new beginning.
    epochs: Vec<Epoch>,
    pub handed_over: u64,
    pub repeated: u64,
}

#[derive(Debug, Clone)]
struct Epoch {
    name: String,
    /// The relay said that everything below is on stable storage.
    acknowledged: u64,
    /// As far as it was ever sent.
    sent: u64,
}

impl Source {
    pub fn new(gateway: &str, stream: &'static str) -> Self {
        let mut new = Self {
            gateway: gateway.to_owned(),
            stream,
            epochs: Vec::new(),
            handed_over: 0,
            repeated: 0,
        };
        new.begin_anew();
        new
    }

    /// The gateway is wiped.
    pub fn begin_anew(&mut self) {
        let name = format!("{SMALL}-{}-{}-{}", self.gateway, self.stream, self.epochs.len());
        self.epochs.push(Epoch { name, acknowledged: 0, sent: 0 });
    }

    /// Hands over until the relay's life ends.
    pub async fn run(mut self, edge: Edge, mut chance: Seed, life: Life) -> Self {
        loop {
            let epoch = self.epochs.last_mut().unwrap();
            let known = epoch.acknowledged;
            // Sometimes it forgot where it was: then it begins before that.
            let back = if chance.one_in(4) { chance.below(2 * LARGEST).min(known) } else { 0 };
            let from = known - back;
            let until = from + 1 + chance.below(LARGEST);
            let (holes, body) = what(&epoch.name, from..until);
            let body =
                if chance.one_in(2) { zstd::bulk::compress(&body, 1).unwrap() } else { body };
            epoch.sent = epoch.sent.max(until);
            let sent =
                edge.try_hand_over(self.stream, &epoch.name, from..until, &holes, body).await;
            let Ok(answer) = sent else { return self };
            match answer.status.as_u16() {
                200 => {
                    let next = answer.json()["next"].as_u64().unwrap();
                    assert!(next >= until.max(known) && next <= epoch.sent, "{next}: {epoch:?}");
                    (self.handed_over, self.repeated) =
                        (self.handed_over + next - known, self.repeated + back);
                    epoch.acknowledged = next;
                    for _ in known..next {
                        life.acknowledged(self.stream);
                    }
                }
                503 => {
                    life.refused(&String::from_utf8_lossy(&answer.body));
                    tokio::time::sleep(PAUSE).await;
                }
                _ => panic!("{from}..{until} of {epoch:?}: {answer:?}"),
            }
        }
    }

    /// What was acknowledged is there; whatever is there is what was sent.
    pub async fn audit(&mut self, api: &Api) {
        let path = format!("/v1/gateways/{}/streams/{}", self.gateway, self.stream);
        for epoch in &mut self.epochs {
            let state = api.get(&format!("{path}?epoch={}", epoch.name)).await;
            if epoch.acknowledged == 0 && state.status == 404 {
                continue;
            }
            assert_eq!(state.status, 200, "{epoch:?}: {state:?}");
            let next = state.json()["next"].as_u64().unwrap();
            assert!(next >= epoch.acknowledged, "{next}: lost of {epoch:?}: {state:?}");
            assert!(next <= epoch.sent, "{next}: nobody sent that of {epoch:?}");
            assert_eq!(state.json()["lost"], 0, "{state:?}");
            let (came, gone) = read_all(api, &path, &epoch.name, 0).await;
            let expected: Vec<u64> = (0..next).filter(|seq| !is_hole(&epoch.name, *seq)).collect();
            assert!(came == expected, "{epoch:?}: not {expected:?} but {came:?}");
            assert_eq!(gone, Vec::<Value>::new(), "{epoch:?}");
            // What was cut off in the middle is there for good now.
            epoch.acknowledged = next;
        }
    }
}

fn is_hole(epoch: &str, seq: u64) -> bool {
    let of_epoch = epoch.bytes().fold(3u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    Seed::new(of_epoch).of(seq / BLOCK).one_in(5)
}

/// The holes and the lines of a range.
fn what(epoch: &str, range: Range<u64>) -> (Vec<Value>, Vec<u8>) {
    let (mut holes, mut body, mut at) = (Vec::new(), Vec::new(), range.start);
    while at < range.end {
        let end = ((at / BLOCK + 1) * BLOCK).min(range.end);
        if is_hole(epoch, at) {
            holes.push(hole(at, end, "unused"));
        } else {
            body.extend(lines(epoch, at..end));
        }
        at = end;
    }
    (holes, body)
}
