//! SIGHUP: what can be taken over while running, and what cannot.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::{certificates, credentials};
use crate::certificates::Watch;
use crate::config::{Config, Settings, process_environment};
use crate::orion::intake::Rules;
use crate::orion::replay;
use crate::spark::Access;
use crate::store::Store;
use crate::uplink;

/// Everything that SIGHUP reads anew.
pub(super) struct Reloadable {
    pub file: Option<PathBuf>,
    /// What the process was started with.
    pub started_with: Config,
    /// What was taken over last.
    pub in_use: Arc<ArcSwap<Config>>,
    pub rules: Arc<ArcSwap<Rules>>,
    pub access: Arc<ArcSwap<Access>>,
    pub pass_through_access: Option<Arc<ArcSwap<Access>>>,
    pub certificates: Arc<Watch>,
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
        match credentials::rules(new) {
            Ok(rules) => self.rules.store(Arc::new(rules)),
            Err(error) => error!(%error, "routes and secret are not taken over"),
        }
        match credentials::access(new) {
            Ok(access) => Access::replace(&self.access, access),
            Err(error) => error!(%error, "tokens and grants are not taken over"),
        }
        if let Some(access) = &self.pass_through_access {
            match credentials::pass_through_access(new) {
                Ok(loaded) => Access::replace(access, loaded.unwrap_or_default()),
                Err(error) => error!(%error, "tokens of the pass-through are not taken over"),
            }
        }
        self.store.reload_as(new.store_settings());
        // Its users read [orion] and [uplink] there, with their certificates.
        self.take_over(new);
        self.certificates.set_files(certificates::files(&self.in_use.load()));
        self.certificates.reload();
        let left = self.started_with.needs_restart(new);
        if left.is_empty() {
            info!("the configuration is taken over");
        } else {
            let left = left.join(", ");
            warn!(needs_restart = left, "the configuration is taken over but for these");
        }
    }

    /// Checks [orion] and [uplink] before they are used by anybody.
    fn take_over(&self, new: &Config) {
        let mut next = Config::clone(&self.in_use.load());
        match self.replay.reload(new.orion.clone()) {
            Ok(()) => next.orion = new.orion.clone(),
            Err(error) => error!(%error, "[orion] is not taken over"),
        }
        if let (Some(uplink), Some(_)) = (&self.uplink, &new.uplink.url) {
            match uplink.reload(&new.uplink) {
                Ok(()) => next.uplink = new.uplink.clone(),
                Err(error) => error!(%error, "[uplink] is not taken over"),
            }
        }
        self.in_use.store(Arc::new(next));
    }
}
