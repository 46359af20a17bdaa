//! What the tasks of one life of the gateway share.

use std::time::Duration;

use tokio::sync::watch;

use crate::common::gateway::DEADLINE;

/// Counts acknowledgements, so that a kill comes at a moment told by them.
#[derive(Clone)]
pub struct Life {
    acknowledged: watch::Sender<u64>,
    /// The gateway was told to stop: it may refuse now.
    stopping: watch::Sender<bool>,
}

impl Life {
    pub fn new() -> Self {
        Self { acknowledged: watch::Sender::new(0), stopping: watch::Sender::new(false) }
    }

    pub fn acknowledged(&self) {
        self.acknowledged.send_modify(|count| *count += 1);
    }

    pub async fn reaches(&self, count: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let reached = acknowledged.wait_for(|so_far| *so_far >= count);
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        assert!(reached.is_ok(), "{} of {count} acknowledged", *self.acknowledged.borrow());
    }

    pub fn stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// A refusal is right only where the gateway was told to stop.
    pub fn refused(&self, what: &str) {
        assert!(*self.stopping.borrow(), "refused: {what}");
    }
}

/// Looks again until it holds: for what nobody tells of.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(DEADLINE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(looked.await.is_ok(), "waited in vain: {what}");
}
