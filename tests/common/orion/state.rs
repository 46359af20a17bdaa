//! All that the stand-in knows, behind one lock, with a signal of every
//! change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::entities::Entities;
use super::faults::Fault;
use super::request::{Answered, Request};

/// What a keep-alive connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    Idle,
    Busy,
}

/// What tests look at.
#[derive(Debug, Default, Clone)]
pub struct State {
    /// Every request received, in order.
    pub requests: Vec<Request>,
    pub entities: Entities,
    /// The open connections by number.
    pub connections: BTreeMap<usize, Connection>,
    /// How many connections were ever accepted.
    pub accepted: usize,
    /// How many requests would have crashed a real Orion: chunked, and 64 KiB
    /// or more.
    pub crashes: usize,
    pub(super) faults: Vec<Fault>,
    pub(super) temporal: bool,
}

impl State {
    /// How many requests were answered, with anything.
    pub fn answered(&self) -> usize {
        self.requests.iter().filter(|r| r.status().is_some()).count()
    }

    /// The requests that name that entity.
    pub fn requests_for(&self, id: &str) -> Vec<&Request> {
        self.requests.iter().filter(|r| r.targets(id)).collect()
    }

    /// For a test that fails: what came, what was answered, what is open.
    pub fn dump(&self) -> String {
        let mut text = format!("{} requests to the stand-in:\n", self.requests.len());
        for r in &self.requests {
            let shown = &r.body[..r.body.len().min(200)];
            let _ = writeln!(
                text,
                "  {} on connection {}: {} {} {} -> {:?}",
                r.number,
                r.connection,
                r.method,
                r.path,
                String::from_utf8_lossy(shown),
                r.answered
            );
        }
        let _ = writeln!(text, "connections: {:?}", self.connections);
        let _ = write!(text, "faults: {:#?}", self.faults);
        text
    }
}

#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Counts the orders to close idle connections.
    pub close_idle: watch::Sender<u64>,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            close_idle: watch::Sender::new(0),
        }
    }

    pub fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for it.
    pub fn change<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        let result = how(&mut self.look());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn record(&self, mut request: Request) -> Request {
        self.change(|state| {
            request.number = state.requests.len();
            state.requests.push(request.clone());
        });
        request
    }

    pub fn answered(&self, number: usize, how: Answered) {
        self.change(|state| {
            if let Some(request) = state.requests.get_mut(number) {
                request.answered = how;
            }
        });
    }
}
