//! Write-backs for other gateways, on their relay: each has a log of its own,
//! and its own staging.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::SparkMetrics;
use super::staging::Staging;
use crate::boxed::boxed;
use crate::store::{ReplicaError, Store};

/// Outboxes that may wait for being started.
const QUEUE: usize = 16;

/// The staging of each gateway's write-backs.
pub struct Outboxes {
    store: Arc<Store>,
    expiry: Duration,
    metrics: SparkMetrics,
    open: Mutex<BTreeMap<String, Arc<Staging>>>,
    begin: mpsc::Sender<Arc<Staging>>,
    waiting: Mutex<mpsc::Receiver<Arc<Staging>>>,
}

impl Outboxes {
    /// Of the gateways that `store` knows; staged attempts expire after so long.
    #[must_use]
    pub fn new(store: Arc<Store>, expiry: Duration, metrics: SparkMetrics) -> Self {
        let (begin, waiting) = mpsc::channel(QUEUE);
        Self { store, expiry, metrics, open: Mutex::default(), begin, waiting: Mutex::new(waiting) }
    }

    /// The staging for a gateway, made if need be.
    ///
    /// # Errors
    /// Where its log may not or cannot be made.
    pub(super) async fn of(&self, gateway: &str) -> Result<Arc<Staging>, ReplicaError> {
        let mut open = self.open.lock().await;
        if let Some(staging) = open.get(gateway) {
            return Ok(Arc::clone(staging));
        }
        let log = self.store.outbox_for(gateway).await?;
        let staging = Arc::new(Staging::of_outbox(log, self.expiry, self.metrics.clone()));
        open.insert(gateway.to_owned(), Arc::clone(&staging));
        drop(open);
        // Only at the stop nobody takes it.
        let _ = self.begin.send(Arc::clone(&staging)).await;
        Ok(staging)
    }

    /// Runs the staging of every gateway, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut waiting = self.waiting.lock().await;
        let mut running = JoinSet::new();
        let known = async {
            for remote in self.store.remotes() {
                if remote.outbox().is_some() {
                    let _ = self.of(remote.name()).await;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(known);
        loop {
            tokio::select! {
                Some(staging) = waiting.recv() => drop(running.spawn(boxed(staging.run(stop.clone())))),
                () = &mut known => {}
                Some(_) = running.join_next() => {}
                () = stop.cancelled() => break,
            }
        }
        while running.join_next().await.is_some() {}
    }
}
