//! SIGHUP: what can be taken over while running, and what cannot.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::credentials;
use crate::config::{Config, Settings, process_environment};
use crate::orion::intake::Rules;
use crate::orion::replay;
use crate::spark::Access;
use crate::store::Store;
use crate::tls::Acceptor;
use crate::uplink;

/// Everything that SIGHUP reads anew.
pub(super) struct Reloadable {
    pub file: Option<PathBuf>,
    pub config: Config,
    pub rules: Arc<ArcSwap<Rules>>,
    pub access: Arc<ArcSwap<Access>>,
    pub pass_through_access: Option<Arc<ArcSwap<Access>>>,
    pub acceptors: Vec<Arc<Acceptor>>,
    pub store: Arc<Store>,
    pub replay: replay::Handle,
    pub uplink: Option<uplink::Handle>,
}

impl Reloadable {
    /// Takes over what may change while running; a part that cannot be used
    /// leaves the old one in place.
    pub(super) fn reload(&self) {
        let settings = match Settings::load(self.file.as_deref(), process_environment()) {
            Ok(settings) => settings,
            Err(problems) => {
                error!(%problems, "the configuration is not taken over");
                return;
            }
        };
        let new = &settings.config;
        for acceptor in &self.acceptors {
            if let Err(error) = acceptor.reload() {
                error!(%error, "a certificate is not taken over");
            }
        }
        match credentials::rules(new) {
            Ok(rules) => self.rules.store(Arc::new(rules)),
            Err(error) => error!(%error, "routes and secret are not taken over"),
        }
        match credentials::access(new) {
            Ok(access) => self.access.store(Arc::new(access)),
            Err(error) => error!(%error, "tokens and grants are not taken over"),
        }
        if let Some(access) = &self.pass_through_access {
            match credentials::pass_through_access(new) {
                Ok(loaded) => access.store(Arc::new(loaded.unwrap_or_default())),
                Err(error) => error!(%error, "tokens of the pass-through are not taken over"),
            }
        }
        self.store.reload_as(new.store_settings());
        if let Err(error) = self.replay.reload(new.orion.clone()) {
            error!(%error, "[orion] is not taken over");
        }
        if let (Some(uplink), Some(_)) = (&self.uplink, &new.uplink.url)
            && let Err(error) = uplink.reload(&new.uplink)
        {
            error!(%error, "[uplink] is not taken over");
        }
        let left = self.config.needs_restart(new);
        if left.is_empty() {
            info!("the configuration is taken over");
        } else {
            let left = left.join(", ");
            warn!(needs_restart = left, "the configuration is taken over but for these");
        }
    }
}
