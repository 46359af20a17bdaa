//! One stream on its way to the relay, in order, from where the relay says
//! that its replica ends.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::CONSUMER;
use super::account::Account;
use super::client::{Answer, Asked};
use super::repack::repacked;
use super::shared::Shared;
use crate::backoff;
use crate::record::Sequence;
use crate::store::{Log, PositionError, ReadError};

/// Mark of a stream that the relay has had something of: from then on, what
/// the relay does not have is missing there.
const RELAYED: &str = "relayed";
/// Bytes of lines of the first request, of one that tries a line, and of one on
/// a line that is too slow for more: a line of 1 kB/s takes it in 20 s.
const LEAST: usize = 64 << 10;
/// Heads, TLS and TCP of a request, roughly; they count against the rate.
const OVERHEAD: usize = 700;
/// The own position only tells retention what may go; each move costs the
/// flash two pages.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(5);
const ACKNOWLEDGE_BYTES: usize = 1 << 20;
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(1);

/// Where a replica ends.
#[derive(Deserialize)]
struct Replica {
    next: Sequence,
}

/// When to go on.
enum Then {
    Now,
    At(Instant),
}

pub(super) struct Push {
    shared: Arc<Shared>,
    log: Arc<Log>,
    epoch: String,
    /// The relay has everything below, where it said so in this run.
    at: Sequence,
    is_told: bool,
    /// At which coming of the line it said so.
    compared: Option<u64>,
    comings: watch::Receiver<u64>,
    /// Bytes of lines of the next request.
    most: usize,
    /// The relay refused twice as many as too large.
    ceiling: usize,
    /// Since when, and how many bytes, the own position does not know of.
    unacknowledged: Option<(Instant, usize)>,
    failures: u32,
    /// The trouble that was told last.
    told: Option<String>,
}

/// Registers the uplink as a consumer: nothing is deleted from now on that the
/// relay does not have.
///
/// # Errors
/// Where the disk refused it.
pub(super) async fn register(log: &Log) -> Result<(), PositionError> {
    if log.position(CONSUMER).is_none() {
        log.acknowledge(CONSUMER, None, log.bounds().earliest, false).await?;
    }
    Ok(())
}

impl Push {
    pub(super) fn new(shared: Arc<Shared>, log: Arc<Log>) -> Self {
        let at = log.position(CONSUMER).unwrap_or(log.bounds().earliest);
        shared.streams.set(log.name(), |stream| stream.next = at);
        Self {
            epoch: log.epoch(),
            comings: shared.line.comings(),
            shared,
            log,
            at,
            is_told: false,
            compared: None,
            most: LEAST,
            ceiling: usize::MAX,
            unacknowledged: None,
            failures: 0,
            told: None,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut end = self.log.watch_end();
        loop {
            let is_compared = self.compared == Some(*self.comings.borrow());
            if is_compared && self.at >= *end.borrow_and_update() {
                let settle_at = self.unacknowledged.map(|(since, _)| since + ACKNOWLEDGE_AFTER);
                tokio::select! {
                    changed = end.changed() => {
                        if changed.is_err() {
                            // The store is closed: the end of this run.
                            return std::future::pending().await;
                        }
                    }
                    _ = self.comings.changed() => {}
                    () = sleep_until(settle_at) => self.acknowledge().await,
                }
                continue;
            }
            if let Then::At(at) = self.step().await {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    // A relay that was away may have other settings now.
                    _ = self.comings.changed() => {}
                }
            }
        }
    }

    /// One request: where the replica ends, or the next part of the stream.
    async fn step(&mut self) -> Then {
        let shared = Arc::clone(&self.shared);
        // Never closed.
        let _turn = shared.turns.acquire().await;
        let pass = shared.line.pass().await;
        let client = shared.client.load_full();
        let name = self.log.name().to_owned();
        if self.compared != Some(*self.comings.borrow()) {
            let path = shared.path(&format!("streams/{name}?epoch={}", self.epoch));
            let asked = Asked { may_be_missing: true, ..Asked::get(path) };
            let Some(answer) = shared.ask(pass, &client, asked).await else { return Then::Now };
            let replica = match answer.status {
                404 => Some(Replica { next: 0 }),
                200 => answer.json(),
                _ => None,
            };
            let Some(Replica { next }) = replica else { return self.trouble_of(&answer) };
            self.compared = Some(*self.comings.borrow_and_update());
            // It may take more since it was away.
            self.ceiling = usize::MAX;
            return self.relay_is_at(next).await;
        }
        let wanted = if pass.is_probe { LEAST } else { self.most.min(client.max_batch) };
        let grant = match client.pace.as_ref().map(|pace| pace.take(wanted, LEAST)) {
            None => None,
            Some(Ok(grant)) => Some(grant),
            // A probe that waited would keep everybody waiting.
            Some(Err(_)) if pass.is_probe => None,
            Some(Err(at)) => {
                // With its turn: nobody overtakes.
                tokio::time::sleep_until(at).await;
                return Then::Now;
            }
        };
        let wanted = grant.as_ref().map_or(wanted, |grant| grant.bytes().min(wanted));
        let (mut share, granted) = shared.budget.take_some(wanted, LEAST.min(wanted)).await;
        let reading = shared.steps.begin();
        let read = self.log.read(self.at..Sequence::MAX, granted).await;
        drop(reading);
        let mut account = match read {
            Ok(batch) => Account::of(self.at, batch),
            Err(ReadError::Gone { earliest, reason }) => Account::gone(self.at, earliest, reason),
            Err(error) => return self.trouble(&error.to_string(), None),
        };
        if account.until <= account.from {
            return Then::Now;
        }
        account.body = repacked(account.body, account.frames).await;
        share.shrink(account.body.len());
        if let Some(grant) = grant {
            grant.spend(account.body.len() + OVERHEAD);
        }
        let query = account.query();
        let path = format!("streams/{name}/records?epoch={}&{query}", self.epoch);
        let (records, bytes) = (account.records, account.body.len());
        let asked = Asked::new(Method::POST, shared.path(&path), account.body);
        let asked = Asked { packed: bytes > 0, ..asked };
        let begun = Instant::now();
        let answer = shared.ask(pass, &client, asked).await;
        drop(share);
        let took = begun.elapsed();
        let Some(answer) = answer else {
            if took >= client.timeout {
                self.most = (self.most / 2).max(LEAST);
            }
            return Then::Now;
        };
        match answer.status {
            200 => {
                let Some(Replica { next }) = answer.json() else {
                    return self.trouble_of(&answer);
                };
                shared.metrics.sent.inc_by(records);
                shared.metrics.sent_bytes.inc_by(bytes as u64);
                self.most = match took {
                    took if took < client.timeout / 4 => {
                        (self.most * 2).min(client.max_batch).min(self.ceiling)
                    }
                    took if took > client.timeout / 2 => (self.most / 2).max(LEAST),
                    _ => self.most,
                };
                self.taken(next, bytes).await
            }
            409 => match answer.json() {
                Some(Replica { next }) => self.relay_is_at(next).await,
                None => self.trouble_of(&answer),
            },
            413 if records > 1 => {
                self.most = (self.most / 2).max(1);
                self.ceiling = self.most;
                Then::Now
            }
            413 => {
                let reason = format!(
                    "record {} of this stream takes {bytes} bytes on the line, more than the relay \
                     takes ({}), and what comes after it waits: on the relay raise spark.max_body \
                     to intake.max_body here, or above",
                    self.at,
                    answer.says(),
                );
                self.trouble(&reason, Some(MAX_WAIT))
            }
            _ => self.trouble_of(&answer),
        }
    }

    /// The relay has what was sent, on stable storage.
    async fn taken(&mut self, next: Sequence, bytes: usize) -> Then {
        if next > self.log.bounds().next {
            return self.relay_is_at(next).await;
        }
        self.at = next.max(self.at);
        self.is_told = true;
        self.fine();
        let (since, unknown) = self.unacknowledged.unwrap_or((Instant::now(), 0));
        self.unacknowledged = Some((since, unknown + bytes));
        if unknown + bytes >= ACKNOWLEDGE_BYTES || since.elapsed() >= ACKNOWLEDGE_AFTER {
            self.acknowledge().await;
        }
        Then::Now
    }

    /// The relay told where its replica ends.
    async fn relay_is_at(&mut self, next: Sequence) -> Then {
        let bounds = self.log.bounds();
        if next > bounds.next {
            let reason = format!(
                "the relay has records up to {next} of this stream, and here it ends at {}: the \
                 gateway's disk was set back. Stop the gateway and copy its data directory \
                 (`cp -a`): the copy begins a new epoch",
                bounds.next
            );
            return self.trouble(&reason, Some(MAX_WAIT));
        }
        let had = match (self.is_told, self.log.position(CONSUMER)) {
            (true, _) => self.at,
            (false, Some(position)) if self.log.marks().contains_key(RELAYED) => position,
            _ => 0,
        };
        if next < had {
            self.tell_what_is_missing(next, had);
            // Retention must keep what the relay is to get again.
            let from = next.max(bounds.earliest);
            let storing = self.shared.steps.begin();
            if let Err(error) = self.log.acknowledge(CONSUMER, None, from, true).await {
                drop(storing);
                return self.trouble(&error.to_string(), None);
            }
            self.unacknowledged = None;
        } else if next > had {
            let since = self.unacknowledged.map_or_else(Instant::now, |(since, _)| since);
            self.unacknowledged = Some((since, 0));
        }
        self.at = next;
        self.is_told = true;
        self.fine();
        Then::Now
    }

    fn tell_what_is_missing(&self, next: Sequence, had: Sequence) {
        let (stream, earliest) = (self.log.name(), self.log.bounds().earliest);
        let again = had - next.max(earliest).min(had);
        if earliest <= next {
            warn!(
                stream,
                from = next,
                until = had,
                "the relay has lost records of this stream (was it wiped?); all are still here, and are sent again"
            );
        } else {
            error!(
                stream,
                from = next,
                until = earliest.min(had),
                sent_again = again,
                "the relay has lost records of this stream (was it wiped?), and these are not here any more"
            );
        }
    }

    /// Moves the own position to where the relay is.
    async fn acknowledge(&mut self) {
        self.unacknowledged = None;
        let _storing = self.shared.steps.begin();
        let is_first = self.at > 0 && !self.log.marks().contains_key(RELAYED);
        let marked = if is_first { self.log.set_mark(RELAYED, "yes").await } else { Ok(()) };
        let moved = match marked {
            Ok(()) => self.log.acknowledge(CONSUMER, None, self.at, false).await,
            Err(error) => Err(error),
        };
        if let Err(error) = moved {
            // It only means that records are kept for longer.
            warn!(stream = self.log.name(), %error, "the uplink's position could not be moved; it will be with the next");
            self.unacknowledged = Some((Instant::now(), 0));
        }
    }

    fn fine(&mut self) {
        self.failures = 0;
        let at = self.at;
        if self.told.take().is_some() {
            info!(stream = self.log.name(), "the relay takes this stream again");
        }
        self.shared.streams.set(self.log.name(), |stream| {
            stream.next = at;
            stream.problem = None;
        });
    }

    fn trouble_of(&mut self, answer: &Answer) -> Then {
        let told = answer.number("retry-after").map(Duration::from_secs);
        // What the relay cannot read it will not be able to read soon.
        let told = if answer.status < 500 && answer.status != 429 { Some(MAX_WAIT) } else { told };
        self.trouble(&answer.says(), told)
    }

    /// This stream does not get on: when it is tried again.
    fn trouble(&mut self, reason: &str, least: Option<Duration>) -> Then {
        if self.told.as_deref() != Some(reason) {
            warn!(
                stream = self.log.name(),
                reason, "this stream does not get to the relay; it is tried again"
            );
            self.told = Some(reason.to_owned());
        }
        self.shared.streams.set(self.log.name(), |stream| {
            stream.problem = Some(reason.to_owned());
        });
        let wait = backoff::wait(self.failures, MIN_WAIT, MAX_WAIT);
        self.failures = self.failures.saturating_add(1);
        // And at a random moment, for a fleet hears it all at once.
        let least = least.unwrap_or(MIN_WAIT / 2).min(MAX_WAIT);
        Then::At(Instant::now() + least / 2 + backoff::within(least / 2) + wait)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
