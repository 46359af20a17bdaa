//! A line socket: what its clients share, and its consumer's position.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::config::{Config, Form};
use super::connection::Wire;
use super::ledger::{Id, Ledger};
use super::metrics::SocketMetrics;
use super::unacknowledged;
use crate::budget::Budget;
use crate::record::Sequence;
use crate::store::Log;

/// How often the kernel is asked what clients have acknowledged.
const LOOK: Duration = Duration::from_millis(250);
/// How often the position is moved durably, at most; each costs the flash two
/// pages.
const ACKNOWLEDGE: Duration = Duration::from_secs(2);

/// What the clients of one line socket share.
pub(super) struct Socket {
    pub config: Config,
    pub log: Arc<Log>,
    pub budget: Budget,
    ledger: Mutex<Ledger>,
    wires: Mutex<BTreeMap<Id, Arc<Wire>>>,
    /// Held by whoever takes records: no two take the same.
    pub turn: tokio::sync::Mutex<()>,
    /// Told when records are there that a client gave back.
    pub returned: Notify,
    metrics: SocketMetrics,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    converted: AtomicU64,
    left_out: AtomicU64,
    gone: AtomicU64,
    /// Below it, what is left out or converted is counted already.
    counted_until: AtomicU64,
}

/// What a line socket says of itself; counts are since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it listens.
    pub listen: String,
    /// Its stream.
    pub stream: String,
    /// Its consumer there.
    pub consumer: String,
    /// What a line holds.
    pub form: Form,
    /// Connected clients.
    pub clients: usize,
    /// Everything below is acknowledged by a client's kernel, and before the
    /// repeat window.
    pub position: Sequence,
    /// Records sent; what was sent again counts again.
    pub sent: u64,
    /// Records put into normalized form.
    pub converted: u64,
    /// Records that can be no line; other consumers get them.
    pub left_out: u64,
    /// Numbers evicted or lost before they could be sent.
    pub gone: u64,
}

impl Socket {
    pub(super) fn new(
        config: Config,
        log: Arc<Log>,
        budget: Budget,
        position: Sequence,
        metrics: SocketMetrics,
    ) -> Self {
        let Config { clients, repeat_window, place_expiry, .. } = config;
        metrics.clients(0);
        let counts = Counts { counted_until: AtomicU64::new(position), ..Counts::default() };
        Self {
            config,
            log,
            budget,
            ledger: Mutex::new(Ledger::new(clients, repeat_window, place_expiry, position)),
            wires: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            returned: Notify::new(),
            metrics,
            counts,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wires(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Wire>>> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, wire: Arc<Wire>) -> Id {
        let mut ledger = self.lock();
        let id = ledger.join();
        self.metrics.clients(ledger.clients());
        self.wires().insert(id, wire);
        id
    }

    pub(super) fn leave(&self, id: Id, now: Instant) {
        self.wires().remove(&id);
        let mut ledger = self.lock();
        ledger.leave(id, now);
        self.metrics.clients(ledger.clients());
        drop(ledger);
        self.returned.notify_waiters();
    }

    pub(super) fn sent(&self, records: u64, bytes: u64) {
        self.counts.sent.fetch_add(records, Ordering::Relaxed);
        self.metrics.sent(records, bytes);
    }

    pub(super) fn converted(&self, seq: Sequence) {
        if self.is_new(seq) {
            self.counts.converted.fetch_add(1, Ordering::Relaxed);
            self.metrics.converted();
        }
    }

    pub(super) fn left_out(&self, seq: Sequence, reason: &'static str) {
        if self.is_new(seq) {
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
            self.metrics.left_out(reason);
        }
    }

    pub(super) fn gone(&self, numbers: u64) {
        self.counts.gone.fetch_add(numbers, Ordering::Relaxed);
        self.metrics.gone(numbers);
    }

    /// Whether a record is seen for the first time: it may come again, and to
    /// several clients.
    fn is_new(&self, seq: Sequence) -> bool {
        if seq == Sequence::MAX {
            return true;
        }
        self.counts.counted_until.fetch_max(seq + 1, Ordering::Relaxed) <= seq
    }

    pub(super) fn status(&self) -> Status {
        let Config { listen, consumer, form, .. } = &self.config;
        let ledger = self.lock();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Status {
            listen: listen.to_string(),
            stream: self.log.name().to_owned(),
            consumer: consumer.clone(),
            form: *form,
            clients: ledger.clients(),
            position: ledger.position(),
            sent: count(&self.counts.sent),
            converted: count(&self.counts.converted),
            left_out: count(&self.counts.left_out),
            gone: count(&self.counts.gone),
        }
    }

    /// Moves the consumer's position after what clients acknowledge.
    pub(super) async fn keep_position(self: Arc<Self>, stop: CancellationToken) {
        let mut durable = self.lock().position();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut moved = Instant::now();
        loop {
            let is_last = stop.run_until_cancelled(looks.tick()).await.is_none();
            self.look().await;
            let position = {
                let mut ledger = self.lock();
                ledger.expire_places(Instant::now());
                ledger.position()
            };
            if position > durable && (is_last || moved.elapsed() >= ACKNOWLEDGE) {
                moved = Instant::now();
                let consumer = &self.config.consumer;
                match self.log.acknowledge(consumer, None, position, false).await {
                    Ok(_) => durable = position,
                    Err(error) => {
                        warn!(stream = self.log.name(), consumer, %error, "a line socket's position does not move");
                    }
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Asks the kernel what clients have acknowledged, where any waits.
    async fn look(&self) {
        // Written is read before: what is written meanwhile only makes less
        // of it count as acknowledged.
        let written: Vec<(Id, u64, u64)> = {
            let ledger = self.lock();
            let wires = self.wires();
            let waiting = wires.iter().filter(|(id, _)| ledger.waits_for(**id));
            waiting.map(|(id, wire)| (*id, wire.inode(), wire.written())).collect()
        };
        if written.is_empty() {
            return;
        }
        let asked = tokio::task::spawn_blocking(unacknowledged::queues).await;
        let queues = match asked {
            Ok(Ok(queues)) => queues,
            Ok(Err(error)) => {
                warn!(%error, "the kernel does not tell what clients have acknowledged; is /proc mounted?");
                return;
            }
            Err(_) => return,
        };
        let mut ledger = self.lock();
        for (id, inode, written) in written {
            if let Some(queue) = queues.get(&inode) {
                ledger.acknowledged(id, written.saturating_sub(*queue));
            }
        }
    }
}
