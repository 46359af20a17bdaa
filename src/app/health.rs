//! Who of the gateway is watched, and how long each may stand still.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{CLOSE_DEADLINE, Gateway};
use crate::config::Config;
use crate::health::{Busy, Jobs, Pulse};
use crate::orion::replay;
use crate::store::Store;
use crate::uplink::{self, Uplink};

/// Everything that must get on where it has something to do.
pub(super) struct Watched {
    /// The intake's server, ready to accept.
    pub intake: Pulse,
    /// The Spark API's.
    pub api: Pulse,
    /// A task of its own: shows that tasks are run.
    pub runtime: Pulse,
    store: Arc<Store>,
    staging: Jobs,
    replay: replay::Handle,
    uplink: Option<uplink::Handle>,
    patience: Duration,
    /// How long a stop may take in all.
    stop: Duration,
}

impl Watched {
    pub(super) fn of(gateway: &Gateway, config: &Config) -> Self {
        Self {
            intake: Pulse::default(),
            api: Pulse::default(),
            runtime: Pulse::default(),
            store: Arc::clone(&gateway.store),
            staging: gateway.staging.steps(),
            replay: gateway.replay.handle(),
            uplink: gateway.uplink.as_ref().map(Uplink::handle),
            patience: config.store.stuck_after,
            stop: config.drain_timeout + CLOSE_DEADLINE,
        }
    }

    /// Who has something to do now. Waits for nobody.
    pub(super) fn busy(&self, stop: &CancellationToken) -> Vec<Busy> {
        let mut busy = Vec::new();
        let patience = self.patience;
        if stop.is_cancelled() {
            // Its own deadlines are shorter, unless nobody keeps them.
            let patience = 2 * (self.stop + patience);
            return vec![Busy { part: "the stop".to_owned(), step: 0, patience }];
        }
        self.store.busy(patience, &mut busy);
        self.replay.busy(patience, &mut busy);
        if let Some(uplink) = &self.uplink {
            uplink.busy(patience, &mut busy);
        }
        let parts = [
            ("the intake's server", self.intake.step(), patience),
            ("the Spark API's server", self.api.step(), patience),
            ("the runtime of all tasks", self.runtime.step(), patience),
            // A commit waits for the log, and for its mark.
            ("the staging of write-backs", self.staging.step(), 3 * patience),
        ];
        for (part, step, patience) in parts {
            busy.extend(step.map(|step| Busy { part: part.to_owned(), step, patience }));
        }
        busy
    }
}
