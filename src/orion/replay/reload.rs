//! A changed configuration, taken over while the replay runs.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::endpoint::Endpoint;
use super::engine::Engine;
use super::status::Wanted;

impl Engine {
    pub(super) async fn reconfigure(&mut self) {
        let Wanted { config, edition } = self.changes.borrow_and_update().clone();
        if edition == self.edition {
            return;
        }
        self.edition = edition;
        // Checked where it was handed in.
        let endpoints = match Endpoint::all(&config) {
            Ok(endpoints) => endpoints,
            Err(error) => return error!(%error, "the changed [orion] cannot be used"),
        };
        if config.window != self.config.window {
            warn!("a changed orion.window needs a restart");
        }
        let mut next = Vec::clone(&self.endpoints.load());
        for endpoint in endpoints {
            let Some(at) = next.iter().position(|known| known.tenant == endpoint.tenant) else {
                warn!(tenant = endpoint.tenant, "a new [[orion.target]] needs a restart");
                continue;
            };
            let endpoint = Arc::new(endpoint);
            self.targets[at].token = endpoint.read_token().await;
            self.targets[at].endpoint = Arc::clone(&endpoint);
            if config.max_rate != self.config.max_rate {
                self.targets[at].set_rate(config.max_rate);
            }
            self.targets[at].try_now();
            next[at] = endpoint;
        }
        self.endpoints.store(Arc::new(next));
        if config != self.config {
            info!("the changed [orion] is in use");
        }
        self.config = config;
    }
}
