//! The one task that owns the replay's state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::config::Config;
use super::endpoint::Endpoint;
use super::feed::{Fed, Feed, Gates};
use super::journal::{self, Note};
use super::metrics::Metrics;
use super::positions::Positions;
use super::schedule::{Ordinal, Schedule};
use super::send::{self, Attempt};
use super::staged::Staged;
use super::status::{Handle, Status, Wanted};
use super::target::Target;
use super::unit::{State, Unit};
use super::{Error, Logs, Replay};
use crate::boxed::boxed;
use crate::health::Job;
use crate::ngsi::AfterAmbiguity;
use crate::orion::dead_letters::DeadLetters;
use crate::record::Sequence;
use crate::write_back::{APPLIED, STAGED};

/// Fed units that wait for the engine; each holds its room in the window.
const FED: usize = 64;

/// What one of the engine's tasks has to say.
pub(super) enum Event {
    /// An attempt ended.
    Sent {
        unit: Ordinal,
        attempt: Attempt,
        token: Option<HeaderValue>,
        took: Duration,
        /// Under way until the outcome was taken in.
        under_way: Job,
    },
    /// The token was read again after a refusal.
    Token { unit: Ordinal, token: Option<HeaderValue>, used: Option<HeaderValue>, refusal: String },
    /// What had to be in the dead letters' log is there.
    Kept { unit: Ordinal },
    /// Outcomes are durable.
    Noted {
        records: std::ops::Range<Sequence>,
        highest: Sequence,
        done: Vec<Ordinal>,
        sending: Vec<Ordinal>,
    },
    /// A move of the positions has ended; whether they are kept.
    Moved(bool),
}

/// What is to be noted next.
#[derive(Default)]
pub(super) struct Pending {
    pub note: Note,
    pub done: Vec<Ordinal>,
    pub sending: Vec<Ordinal>,
    pub writing: bool,
}

pub(super) struct Engine {
    pub config: Config,
    pub epoch: String,
    pub logs: Logs,
    pub dead_letters: DeadLetters,
    pub metrics: Metrics,
    pub units: BTreeMap<Ordinal, Unit>,
    pub schedule: Schedule,
    pub targets: Vec<Target>,
    pub pending: Pending,
    pub positions: Positions,
    pub tasks: JoinSet<Result<Event, Error>>,
    /// The next unit's place.
    pub next: Ordinal,
    /// The oldest unfinished unit when room ahead was last given back.
    pub oldest: Ordinal,
    pub ahead: Arc<Semaphore>,
    pub stopping: bool,
    pub endpoints: Arc<ArcSwap<Vec<Arc<Endpoint>>>>,
    feed: Option<Feed>,
    fed: mpsc::Receiver<Fed>,
    signs_of_life: Arc<Notify>,
    pub changes: watch::Receiver<Wanted>,
    /// Of the configuration in use.
    pub edition: u64,
    handle: Handle,
}

impl Engine {
    /// Reads where the last run ended.
    pub(super) async fn start(replay: Replay) -> Result<Self, Error> {
        let Replay { config, endpoints, logs, dead_letters, metrics, signs_of_life, handle } =
            replay;
        let log = &logs.write_backs;
        let earliest = log.bounds().earliest;
        // Registered before anything is read: nothing is deleted from here on.
        let applied = log.acknowledge(APPLIED, None, earliest, false).await?;
        let staged = log.acknowledge(STAGED, None, earliest, false).await?;
        logs.outcomes.acknowledge(APPLIED, None, logs.outcomes.bounds().earliest, false).await?;
        let epoch = log.epoch();
        let past = journal::load(&logs.outcomes, &epoch, applied).await?;
        if !past.sending.is_empty() {
            warn!(write_backs = past.sending.len(), "the last run ended while these were sent");
        }
        let mut targets = Vec::new();
        for endpoint in &endpoints {
            let token = endpoint.read_token().await;
            targets.push(Target::new(Arc::clone(endpoint), token, config.max_rate));
        }
        let (out, units_read) = mpsc::channel(FED);
        let gates = Gates::new(config.window);
        let endpoints = Arc::new(ArcSwap::from_pointee(endpoints));
        let ahead = Arc::clone(&gates.ahead);
        let feed = Feed {
            log: Arc::clone(log),
            at: staged.min(applied).max(earliest),
            applied,
            staged: Staged::default(),
            done: past.done,
            sending: past.sending,
            endpoints: Arc::clone(&endpoints),
            gates,
            out,
        };
        let positions = Positions::new(applied, staged, past.needed);
        let mut changes = handle.config.subscribe();
        changes.mark_changed();
        Ok(Self {
            config,
            epoch,
            dead_letters,
            metrics,
            units: BTreeMap::new(),
            schedule: Schedule::default(),
            targets,
            pending: Pending::default(),
            positions,
            tasks: JoinSet::new(),
            next: 0,
            oldest: 0,
            ahead,
            stopping: false,
            endpoints,
            feed: Some(feed),
            fed: units_read,
            signs_of_life,
            changes,
            edition: 0,
            handle,
            logs,
        })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let Some(feed) = self.feed.take() else { return Ok(()) };
        let mut feeding = JoinSet::new();
        feeding.spawn(boxed(feed.run()));
        let mut sign = Box::pin(Arc::clone(&self.signs_of_life).notified_owned());
        loop {
            while let Some(event) = self.tasks.try_join_next() {
                self.event(event??);
            }
            self.dispatch();
            self.note();
            self.move_positions();
            self.publish();
            if self.stopping && self.tasks.is_empty() {
                break;
            }
            let wakes_at = if self.stopping { None } else { self.wakes_at() };
            let listens = self.targets.iter().any(Target::listens);
            tokio::select! {
                () = stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    feeding.shutdown().await;
                }
                Some(event) = self.tasks.join_next() => self.event(event??),
                Some(ended) = feeding.join_next(), if !self.stopping => {
                    ended??;
                    return Err(Error::Closed);
                }
                Some(read) = self.fed.recv(), if !self.stopping => {
                    self.take_in(read);
                    while let Ok(read) = self.fed.try_recv() {
                        self.take_in(read);
                    }
                }
                () = sleep_until(wakes_at), if wakes_at.is_some() => {}
                () = &mut sign, if listens => {
                    sign = Box::pin(Arc::clone(&self.signs_of_life).notified_owned());
                    self.targets.iter_mut().for_each(Target::sign_of_life);
                }
                Ok(()) = self.changes.changed(), if !self.stopping => self.reconfigure().await,
            }
        }
        self.positions.move_now(&self.logs).await;
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Sent { unit, attempt, token, took, under_way } => {
                self.sent(unit, attempt, token, took);
                drop(under_way);
            }
            Event::Token { unit, token, used, refusal } => {
                self.token_read(unit, token, used.as_ref(), refusal);
            }
            Event::Kept { unit } => self.finished(unit),
            Event::Noted { records, highest, done, sending } => {
                self.pending.writing = false;
                self.positions.noted(&records, highest, done.len());
                self.noted(done, sending);
            }
            Event::Moved(is_kept) => self.positions.moved(is_kept),
        }
    }

    /// Sends what may go.
    fn dispatch(&mut self) {
        if self.stopping {
            return;
        }
        let now = Instant::now();
        for at in 0..self.targets.len() {
            loop {
                let units = &self.units;
                let tries = |unit| units.get(&unit).map_or(0, |unit| unit.attempts);
                let taken = self.targets[at].take(now, self.config.parallel, tries);
                let Some(ordinal) = taken else { break };
                let Some(unit) = self.units.get_mut(&ordinal) else { continue };
                unit.state = State::Sending;
                self.targets[at].in_flight += 1;
                let note_first = !unit.announced
                    && unit
                        .request()
                        .is_some_and(|request| request.after_ambiguity() != AfterAmbiguity::Repeat);
                if note_first {
                    self.pending.note.sending.extend(&unit.ids);
                    self.pending.sending.push(ordinal);
                } else {
                    let under_way = self.handle.attempts.begin();
                    send_unit(&mut self.tasks, &self.targets[at], ordinal, unit, under_way);
                }
            }
        }
    }

    /// Writes down what is to be noted, unless that is being done already:
    /// what comes meanwhile goes together.
    fn note(&mut self) {
        if self.pending.writing || self.pending.note.is_empty() {
            return;
        }
        let Pending { mut note, done, sending, .. } = std::mem::take(&mut self.pending);
        self.pending.writing = true;
        note.log.clone_from(&self.epoch);
        let log = Arc::clone(&self.logs.outcomes);
        self.tasks.spawn(boxed(async move {
            let highest = note.highest();
            let records = journal::write(log, note).await?;
            Ok(Event::Noted { records, highest, done, sending })
        }));
    }

    /// Goes on behind units whose outcome is durable, and sends those that
    /// had to be noted first.
    fn noted(&mut self, done: Vec<Ordinal>, sending: Vec<Ordinal>) {
        for ordinal in done {
            self.units.remove(&ordinal);
            for free in self.schedule.finish(ordinal) {
                self.free(free);
            }
        }
        for ordinal in sending {
            let Some(unit) = self.units.get_mut(&ordinal) else { continue };
            unit.announced = true;
            if self.stopping {
                // It was not sent; the next run is not to think that it was.
                self.targets[unit.target].ended(ordinal);
                self.pending.note.cleared.extend(&unit.ids);
            } else {
                let under_way = self.handle.attempts.begin();
                send_unit(&mut self.tasks, &self.targets[unit.target], ordinal, unit, under_way);
            }
        }
        let oldest = self.units.keys().next().copied().unwrap_or(self.next);
        let freed = usize::try_from(oldest - self.oldest).unwrap_or(usize::MAX);
        self.ahead.add_permits(freed);
        self.oldest = oldest;
    }

    fn move_positions(&mut self) {
        let lowest = self.units.values().next().and_then(|unit| unit.ids.first()).map(|id| id.0);
        self.positions.lowest(lowest);
        if let Some(step) = self.positions.due(Instant::now())
            && !self.stopping
        {
            let logs = self.logs.clone();
            self.tasks.spawn(boxed(async move { Ok(Event::Moved(step.take(&logs).await)) }));
        }
    }

    fn wakes_at(&mut self) -> Option<Instant> {
        let targets = self.targets.iter_mut().filter_map(Target::wakes_at);
        targets.chain(self.positions.wakes_at()).min()
    }

    /// What has not come to an end, roughly.
    pub(super) fn waiting(&self) -> u64 {
        let unread = self.logs.write_backs.bounds().next.saturating_sub(self.positions.read());
        unread + self.units.len() as u64
    }

    fn publish(&mut self) {
        let waiting = self.waiting();
        self.metrics.waiting(waiting, self.dead_letters.count());
        for target in &self.targets {
            self.metrics.target(target.name(), target.in_flight, target.is_up());
        }
        let status = Status {
            waiting: self.units.len() as u64,
            in_flight: self.targets.iter().map(|target| target.in_flight).sum(),
            oldest_waiting: self.units.values().next().map(|unit| unit.received),
            targets: self.targets.iter().map(Target::status).collect(),
        };
        self.handle.publish(status, self.positions.read());
    }
}

fn send_unit(
    tasks: &mut JoinSet<Result<Event, Error>>,
    target: &Target,
    ordinal: Ordinal,
    unit: &mut Unit,
    under_way: Job,
) {
    let Some(request) = unit.request().cloned() else { return };
    unit.attempts = unit.attempts.saturating_add(1);
    let (endpoint, token) = (Arc::clone(&target.endpoint), target.token.clone());
    tasks.spawn(boxed(async move {
        let started = Instant::now();
        let attempt = send::send(&endpoint, token.clone(), &request).await;
        Ok(Event::Sent { unit: ordinal, attempt, token, took: started.elapsed(), under_way })
    }));
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
