//! What the tasks of one life of the gateway share.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::common::gateway::DEADLINE;

type Counts = BTreeMap<&'static str, u64>;

/// Counts acknowledgements, so that a kill comes at a moment told by them.
#[derive(Clone)]
pub struct Life {
    acknowledged: watch::Sender<Counts>,
    /// The gateway was told to stop: it may refuse now.
    stopping: watch::Sender<bool>,
    /// The gateway is gone.
    over: watch::Sender<bool>,
    /// Where lines fail too: how long an exchange may take.
    patience: Option<Duration>,
}

/// The gateway is gone, told to stop, or refuses as it may.
#[derive(Debug)]
pub struct Ended;

/// What goes on while the gateway does.
pub type Going<T> = Result<T, Ended>;

impl From<reqwest::Error> for Ended {
    fn from(_: reqwest::Error) -> Self {
        Self
    }
}

impl Life {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// One in which an exchange that fails, or takes longer than this, may be
    /// the line's fault.
    pub fn with(patience: Option<Duration>) -> Self {
        Self {
            over: watch::Sender::new(false),
            patience,
            acknowledged: watch::Sender::new(Counts::new()),
            stopping: watch::Sender::new(false),
        }
    }

    /// The gateway is gone: nobody tries again.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    pub fn has_rough_lines(&self) -> bool {
        self.patience.is_some()
    }

    /// An exchange, for as long as it may take.
    pub async fn patiently<T>(&self, exchange: impl Future<Output = T>) -> Going<T> {
        match self.patience {
            Some(patience) => tokio::time::timeout(patience, exchange).await.map_err(|_| Ended),
            None => Ok(exchange.await),
        }
    }

    /// After an exchange that failed: whether it was only the line, and a
    /// moment to let pass.
    pub async fn tries_again(&self) -> bool {
        if self.patience.is_some() && !*self.over.borrow() {
            let over = async { drop(self.over.subscribe().wait_for(|over| *over).await) };
            return tokio::time::timeout(Duration::from_millis(20), over).await.is_err();
        }
        false
    }

    /// Something was acknowledged, by the log of that name.
    pub fn acknowledged(&self, by: &'static str) {
        self.acknowledged.send_modify(|counts| *counts.entry(by).or_default() += 1);
    }

    pub async fn reaches(&self, count: u64) {
        let reached = |counts: &Counts| counts.values().sum::<u64>() >= count;
        self.wait_for(&format!("{count} acknowledged"), reached).await;
    }

    /// So many were acknowledged.
    #[allow(dead_code)] // Only the power cuts ask.
    pub fn so_far(&self) -> u64 {
        self.acknowledged.borrow().values().sum()
    }

    /// Each of these logs acknowledges something from now on.
    #[allow(dead_code)] // Only the power cuts ask.
    pub async fn each_goes_on(&self, logs: &[&'static str]) {
        let before = self.acknowledged.borrow().clone();
        let goes_on = |counts: &Counts| logs.iter().all(|log| counts.get(log) > before.get(log));
        self.wait_for(&format!("more than {before:?} acknowledged"), goes_on).await;
    }

    async fn wait_for(&self, what: &str, holds: impl FnMut(&Counts) -> bool) {
        let mut acknowledged = self.acknowledged.subscribe();
        let held = tokio::time::timeout(DEADLINE, acknowledged.wait_for(holds)).await.is_ok();
        assert!(held, "waited in vain for {what}; there are {:?}", self.acknowledged.borrow());
    }

    pub fn stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// A refusal is right only where the gateway was told to stop, or its
    /// disk fails.
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
