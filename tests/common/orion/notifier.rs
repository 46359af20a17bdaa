//! Sends notifications as Orion 4.7 does: once, whatever happens.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ledger::{self, Ledger, Outcome, Sent};
use super::notification::Notification;
use crate::common::http::{Answer, Client};

/// How Orion's connections live (`-notificationMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One connection for each notification; Orion's default.
    Transient,
    /// `threadpool` and `persistent`: connections are kept and used again.
    Persistent,
}

/// The sending side of an Orion, with its ledger.
#[derive(Debug)]
pub struct Notifier {
    answer_timeout: Duration,
    ledger: Mutex<Ledger>,
    kept: Mutex<Vec<(SocketAddr, Client)>>,
}

impl Default for Notifier {
    /// With Orion's own patience: 5 s for an answer.
    fn default() -> Self {
        Self::giving_up_after(Duration::from_secs(5))
    }
}

impl Notifier {
    /// With another time to wait for an answer.
    pub fn giving_up_after(answer_timeout: Duration) -> Self {
        Self { answer_timeout, ledger: Mutex::default(), kept: Mutex::default() }
    }

    /// Sends one, waits for what becomes of it, and returns the answer if one
    /// came. It is never sent again later, as Orion never does.
    pub async fn notify(
        &self,
        to: SocketAddr,
        path: &str,
        notification: &Notification,
        mode: Mode,
    ) -> Option<Answer> {
        let correlator = notification.correlator.clone().unwrap_or_else(|| {
            let number = self.ledger().sent().len();
            format!("{number:08x}-e663-11f1-a40b-02fc00000001; cbnotif=1")
        });
        let raw = notification.to_bytes(to, path, &correlator);
        self.send(to, &correlator, &notification.body, &raw, mode).await
    }

    /// Sends a captured request with its very bytes.
    pub async fn replay(
        &self,
        to: SocketAddr,
        fixture: &crate::common::fixtures::Fixture,
        mode: Mode,
    ) -> Option<Answer> {
        let correlator = fixture.header("fiware-correlator").unwrap_or_default();
        self.send(to, correlator, &fixture.body, &fixture.raw, mode).await
    }

    /// What was sent so far.
    pub fn ledger(&self) -> Ledger {
        self.ledger_mut().clone()
    }

    /// How many connections are kept for use again.
    pub fn kept(&self) -> usize {
        self.kept_mut().len()
    }

    async fn send(
        &self,
        to: SocketAddr,
        correlator: &str,
        body: &[u8],
        raw: &[u8],
        mode: Mode,
    ) -> Option<Answer> {
        let id = self.ledger_mut().begin(correlator, body);
        let exchange = tokio::time::timeout(self.answer_timeout, self.exchange(id, to, raw, mode));
        let (outcome, answer) = match exchange.await {
            Err(_) => (Outcome::TimedOut, None),
            Ok(Ok(answer)) => (ledger::outcome(&answer), Some(answer)),
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => (Outcome::Refused, None),
            Ok(Err(_)) => (Outcome::Closed, None),
        };
        self.update(id, |entry| entry.outcome = outcome);
        answer
    }

    /// The transfer as libcurl does it: where a *reused* connection closes
    /// without a byte of an answer, the same bytes go out at once on a new one.
    async fn exchange(
        &self,
        id: u64,
        to: SocketAddr,
        raw: &[u8],
        mode: Mode,
    ) -> io::Result<Answer> {
        if let Some(mut client) = self.reusable(to, mode) {
            self.update(id, |entry| entry.times += 1);
            let sent = client.send(raw).await;
            // A failed write may have an answer behind it; no answer is no byte.
            if let Some(answer) = client.try_answer().await? {
                sent?;
                self.keep(to, client, &answer, mode);
                return Ok(answer);
            }
        }
        let mut client = Client::connect(to).await?;
        self.update(id, |entry| entry.times += 1);
        let answer = client.exchange(raw).await?;
        self.keep(to, client, &answer, mode);
        Ok(answer)
    }

    fn reusable(&self, to: SocketAddr, mode: Mode) -> Option<Client> {
        if mode == Mode::Transient {
            return None;
        }
        let mut kept = self.kept_mut();
        while let Some(at) = kept.iter().position(|(addr, _)| *addr == to) {
            let (_, client) = kept.swap_remove(at);
            if !client.looks_dead() {
                return Some(client);
            }
        }
        None
    }

    fn keep(&self, to: SocketAddr, client: Client, answer: &Answer, mode: Mode) {
        if mode == Mode::Persistent && !answer.head.closes() {
            self.kept_mut().push((to, client));
        }
    }

    fn update(&self, id: u64, how: impl FnOnce(&mut Sent)) {
        self.ledger_mut().update(id, how);
    }

    fn ledger_mut(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> MutexGuard<'_, Vec<(SocketAddr, Client)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
