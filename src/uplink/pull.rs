//! Write-backs that Spark gave to the relay, on their way into this gateway's
//! own log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::CONSUMER;
use super::client::{Answer, Asked, Client};
use super::shared::Shared;
use crate::backoff;
use crate::record::{Record, Sequence};
use crate::write_back::Pulled;

/// How long the relay may wait for something to come.
pub(super) const LONG_POLL: Duration = Duration::from_secs(25);
/// And where something has just come: so long after the last, the place is
/// noted, and the relay told.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// Bytes of lines of one answer.
const MAX_BYTES: usize = 256 << 10;
/// More must not be taken over without the relay being told.
const SETTLE_BYTES: usize = 1 << 20;
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Where write-backs go.
pub trait Inbox: Send + Sync + 'static {
    /// How far the outbox is taken over; the error is for people, and passes.
    fn taken_over(&self) -> impl Future<Output = Result<Option<Pulled>, String>> + Send;

    /// Takes over entries below `upto.next`, exactly once, durably together
    /// with `upto`. Those below `acknowledged` were taken over by a gateway of
    /// this name whose store is gone.
    fn take_over(
        &self,
        records: Vec<Record>,
        upto: Pulled,
        acknowledged: Sequence,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Up to where the relay may forget them.
    fn settle(&self) -> impl Future<Output = Result<Option<Pulled>, String>> + Send;
}

/// What the relay tells of the outbox.
#[derive(Debug, Clone, Deserialize)]
struct Outbox {
    epoch: String,
    earliest: Sequence,
    next: Sequence,
    #[serde(default)]
    consumers: Vec<Position>,
}

#[derive(Debug, Clone, Deserialize)]
struct Position {
    name: String,
    position: Sequence,
}

impl Outbox {
    fn acknowledged(&self) -> Sequence {
        let own = self.consumers.iter().find(|consumer| consumer.name == CONSUMER);
        own.map_or(0, |own| own.position)
    }
}

pub(super) struct Pull<I> {
    shared: Arc<Shared>,
    inbox: Arc<I>,
    /// What is asked for next, of which outbox; `None`: ask the relay first.
    at: Option<Pulled>,
    acknowledged: Sequence,
    /// Bytes that were taken over and that the relay was not told of.
    unsettled: Option<usize>,
    failures: u32,
    told: Option<String>,
}

impl<I: Inbox> Pull<I> {
    pub(super) fn new(shared: Arc<Shared>, inbox: Arc<I>) -> Self {
        let (at, acknowledged, unsettled) = (None, 0, None);
        Self { shared, inbox, at, acknowledged, unsettled, failures: 0, told: None }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(reason) = self.step().await {
                if self.told.as_ref() != Some(&reason) {
                    warn!(reason, "write-backs cannot be pulled from the relay; it is tried again");
                    self.told = Some(reason);
                }
                let wait = backoff::wait(self.failures, MIN_WAIT, MAX_WAIT);
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(MIN_WAIT + wait).await;
            }
        }
    }

    fn fine(&mut self) {
        self.failures = 0;
        if self.told.take().is_some() {
            info!("write-backs are pulled from the relay again");
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.at.clone() {
            None => self.find_place().await,
            Some(at) => self.pull(at).await,
        }
    }

    /// Asks the relay which outbox it has, and where it begins and ends.
    async fn find_place(&mut self) -> Result<(), String> {
        let known = self.inbox.taken_over().await?;
        let asked = Asked::get(self.shared.path("write-backs"));
        let Some(answer) = self.ask(|_| asked).await else { return Ok(()) };
        let outbox: Outbox = match answer.status {
            200 => answer.json().ok_or_else(|| answer.says())?,
            _ => return Err(answer.says()),
        };
        let (epoch, next) = (outbox.epoch.clone(), outbox.next);
        self.acknowledged = outbox.acknowledged();
        let from = match known {
            Some(known) if known.epoch == epoch && known.next > next => {
                error!(
                    taken_over = known.next,
                    next,
                    "the relay's outbox ends before what was taken over of it; going on at its end"
                );
                let upto = Pulled { epoch: epoch.clone(), next };
                self.inbox.take_over(Vec::new(), upto, self.acknowledged).await?;
                next
            }
            Some(known) if known.epoch == epoch => known.next,
            Some(_) => {
                // What was staged in the old one is dropped now, not when
                // something comes.
                let upto = Pulled { epoch: epoch.clone(), next: outbox.earliest };
                self.inbox.take_over(Vec::new(), upto, self.acknowledged).await?;
                outbox.earliest
            }
            None => {
                if self.acknowledged > 0 {
                    warn!(
                        taken_over = self.acknowledged,
                        "write-backs of the relay were taken over by a gateway of this name whose store is gone; \
                         they are not asked for again"
                    );
                }
                outbox.earliest
            }
        };
        self.at = Some(Pulled { epoch, next: from });
        Ok(())
    }

    async fn pull(&mut self, at: Pulled) -> Result<(), String> {
        let wait = if self.unsettled.is_some() { SHORT_POLL } else { LONG_POLL };
        let Pulled { epoch, next } = &at;
        let query = format!("epoch={epoch}&from={next}&max_bytes={MAX_BYTES}");
        let path = self.shared.path(&format!("write-backs/records?{query}"));
        let poll = |is_probe| {
            let wait = if is_probe { Duration::ZERO } else { wait };
            let path = format!("{path}&wait={}", wait.as_secs());
            Asked { wait, ..Asked::get(path) }
        };
        let begun = Instant::now();
        let Some(answer) = self.ask(poll).await else { return Ok(()) };
        match answer.status {
            200 => {
                let next = answer.number("ngsi-ferry-next").unwrap_or(at.next);
                if next <= at.next {
                    return self.nothing_came(begun).await;
                }
                let upto = Pulled { next, ..at };
                self.take_over(&answer, upto).await
            }
            409 => {
                // Another outbox, or one that ends before that.
                self.at = None;
                tokio::time::sleep(backoff::within(SHORT_POLL)).await;
                Ok(())
            }
            410 => {
                let gone: Gone = answer.json().ok_or_else(|| answer.says())?;
                if gone.reason != "acknowledged" {
                    let (from, until, reason) = (at.next, gone.earliest, gone.reason);
                    error!(
                        from,
                        until, reason, "write-backs are gone from the relay and cannot be applied"
                    );
                }
                let upto = Pulled { next: gone.earliest.max(at.next + 1), ..at };
                self.inbox.take_over(Vec::new(), upto.clone(), self.acknowledged).await?;
                self.at = Some(upto);
                self.unsettled.get_or_insert(0);
                Ok(())
            }
            _ => Err(answer.says()),
        }
    }

    async fn take_over(&mut self, answer: &Answer, upto: Pulled) -> Result<(), String> {
        let lines = answer.lines()?;
        let _share = self.shared.budget.take(lines.len()).await;
        let lines_of = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let records: Result<Vec<Record>, _> = lines_of.map(Record::decode).collect();
        let records = records.map_err(|error| format!("an answer of the relay: {error}"))?;
        let count = records.len() as u64;
        // The staging tells of each of its steps.
        self.inbox.take_over(records, upto.clone(), self.acknowledged).await?;
        self.shared.metrics.pulled.inc_by(count);
        self.at = Some(upto);
        self.fine();
        let unsettled = self.unsettled.unwrap_or(0) + lines.len();
        self.unsettled = Some(unsettled);
        if unsettled >= SETTLE_BYTES { self.settle().await } else { Ok(()) }
    }

    async fn nothing_came(&mut self, begun: Instant) -> Result<(), String> {
        self.fine();
        if self.unsettled.is_some() {
            return self.settle().await;
        }
        if begun.elapsed() < SHORT_POLL {
            // A relay that stops answers long-polls at once.
            tokio::time::sleep(SHORT_POLL / 2 + backoff::within(SHORT_POLL / 2)).await;
        }
        Ok(())
    }

    /// Notes the place, and tells the relay.
    async fn settle(&mut self) -> Result<(), String> {
        let storing = self.shared.steps.begin();
        let settled = self.inbox.settle().await;
        drop(storing);
        let Some(Pulled { epoch, next }) = settled? else { return Ok(()) };
        let body = json!({ "epoch": epoch, "position": next }).to_string();
        let path = self.shared.path(&format!("write-backs/consumers/{CONSUMER}"));
        let asked = Asked::new(Method::PUT, path, Bytes::from(body));
        let Some(answer) = self.ask(|_| asked).await else { return Ok(()) };
        match answer.status {
            200 => {
                self.unsettled = None;
                Ok(())
            }
            409 => {
                (self.at, self.unsettled) = (None, None);
                Ok(())
            }
            _ => Err(answer.says()),
        }
    }

    async fn ask(&self, asked: impl FnOnce(bool) -> Asked) -> Option<Answer> {
        let pass = self.shared.line.pass().await;
        let client: Arc<Client> = self.shared.client.load_full();
        let asked = asked(pass.is_probe);
        self.shared.ask(pass, &client, asked).await
    }
}

#[derive(Deserialize)]
struct Gone {
    earliest: Sequence,
    reason: String,
}
