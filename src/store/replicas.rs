//! The replicas and outboxes of a relay, on the disk:
//! `replicas/{gateway}/{stream}/{ordinal}-{epoch}/` and `outboxes/{gateway}/`.
//! The ordinal tells which of a stream's replicas is the newest, whatever
//! became of their states.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::checked_file::sync_folder;
use super::log::{Log, Origin, Setup};
use super::remote::{RemoteGateway, Replica};
use super::replica_folders::{Found, FoundKind, OUTBOXES, REPLICAS, find, make_folders};
use super::state::Consumer;
use super::{OpenError, Store, is_stream_name, lock, read, setup};
use crate::write_back;

/// Earlier replicas that a stream may have beside its newest.
const MAX_EARLIER: usize = 16;
const LONGEST_EPOCH: usize = 48;
/// What nobody writes to for so long is closed, for its memory.
const IDLE: Duration = Duration::from_mins(1);
/// Logs that are opened or closed at a time: each mostly waits for the disk.
pub(super) const AT_ONCE: usize = 4;

/// Why a replica or outbox cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Reject.
    #[error("{0} is not a name: 1 to 64 of a-z 0-9 . _ -, and not only dots")]
    Name(String),
    /// Retry once the configuration allows more.
    #[error("{0}")]
    TooMany(String),
    /// The disk refused it. Retry later.
    #[error("the disk refused it: {0}")]
    Disk(String),
}

impl Store {
    /// Opens what there is of replicas and outboxes.
    pub(super) fn open_remotes(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io {
            action: "list the replicas in",
            path: self.folder.clone(),
            source,
        };
        let found = find(&self.folder).map_err(failed)?;
        let left = Mutex::new(found.into_iter());
        let runtime = tokio::runtime::Handle::try_current().ok();
        let opened: Result<Vec<()>, OpenError> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(|| {
                        let _inside = runtime.as_ref().map(tokio::runtime::Handle::enter);
                        while let Some(found) = { lock(&left).next() } {
                            self.open_found(found)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let ended = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
            ended
                .map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        opened?;
        for remote in self.remotes() {
            for (stream, _) in remote.streams() {
                inherit(&remote.replicas_of(&stream)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn open_found(&self, found: Found) -> Result<(), OpenError> {
        let Found { gateway, folder, kind } = found;
        let remote = self.remote_or_new(&gateway);
        match kind {
            FoundKind::Replica { stream, ordinal, epoch } => {
                let log = Arc::new(self.open_replica(&gateway, &stream, &epoch, folder)?);
                remote.add_replica(&stream, Replica { ordinal, log });
            }
            FoundKind::Outbox => remote.set_outbox(self.open_outbox(&gateway, folder)?),
        }
        Ok(())
    }

    fn open_replica(
        &self,
        gateway: &str,
        stream: &str,
        epoch: &str,
        folder: PathBuf,
    ) -> Result<Log, OpenError> {
        let setup = {
            let config = read(&self.config);
            let limits = config.store.limits_of_replica(&config.relay);
            let name = format!("{gateway}/{stream}");
            let metrics = self.common.metrics.of_many(&name, REPLICAS);
            let (store, common) = (&config.store, &self.common);
            let setup = setup(&self.folder, folder, &name, limits, store, common, metrics);
            Setup { origin: Origin::Replica(epoch.to_owned()), ..setup }
        };
        Log::open(setup)
    }

    fn open_outbox(&self, gateway: &str, folder: PathBuf) -> Result<Arc<Log>, OpenError> {
        let setup = {
            let config = read(&self.config);
            let limits = config.store.limits_of_outbox(&config.relay);
            let name = format!("{gateway}/write-backs");
            let metrics = self.common.metrics.of_many(&name, OUTBOXES);
            let (store, common) = (&config.store, &self.common);
            setup(&self.folder, folder.clone(), &name, limits, store, common, metrics)
        };
        let log = Log::open(setup)?;
        // From its first entry on: what the gateway has not pulled stays, and
        // what is staged stays.
        let held = log.shared.state.update(|state| {
            for name in [write_back::PULLED, write_back::STAGED] {
                let earliest = state.earliest;
                let consumer = state.consumers.entry(name.to_owned());
                consumer.or_insert_with(|| Consumer::at(earliest));
            }
        });
        held.map_err(|source| OpenError::Io {
            action: "write the state of",
            path: folder,
            source,
        })?;
        Ok(Arc::new(log))
    }

    /// A gateway that this one is the relay of.
    #[must_use]
    pub fn remote(&self, gateway: &str) -> Option<Arc<RemoteGateway>> {
        read(&self.remotes).get(gateway).cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn remotes(&self) -> Vec<Arc<RemoteGateway>> {
        read(&self.remotes).values().cloned().collect()
    }

    fn remote_or_new(&self, gateway: &str) -> Arc<RemoteGateway> {
        let mut remotes = self.remotes.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RemoteGateway::new(gateway));
        Arc::clone(remotes.entry(gateway.to_owned()).or_insert_with(new))
    }

    fn remote_to_be(&self, gateway: &str) -> Result<(), ReplicaError> {
        if !is_stream_name(gateway) {
            return Err(ReplicaError::Name(gateway.to_owned()));
        }
        let most = read(&self.config).relay.max_gateways;
        if self.remote(gateway).is_none() && read(&self.remotes).len() >= most {
            return Err(ReplicaError::TooMany(format!(
                "there are {most} gateways here already: raise relay.max_gateways"
            )));
        }
        Ok(())
    }

    /// The replica of a stream's epoch, made if need be: it is the newest then.
    ///
    /// # Errors
    /// Where it may not or cannot be made.
    pub async fn replica_for(
        self: &Arc<Self>,
        gateway: &str,
        stream: &str,
        epoch: &str,
    ) -> Result<Arc<Log>, ReplicaError> {
        let known = self.remote(gateway).and_then(|known| known.replica(stream, Some(epoch)));
        if let Some(log) = known {
            return Ok(log);
        }
        let store = Arc::clone(self);
        let names = [gateway, stream, epoch].map(ToOwned::to_owned);
        let made = tokio::task::spawn_blocking(move || {
            let [gateway, stream, epoch] = names;
            store.make_replica(&gateway, &stream, &epoch)
        });
        made.await.unwrap_or_else(|_| Err(ReplicaError::Disk("cancelled".to_owned())))
    }

    fn make_replica(
        &self,
        gateway: &str,
        stream: &str,
        epoch: &str,
    ) -> Result<Arc<Log>, ReplicaError> {
        let _one_at_a_time = lock(&self.making);
        self.remote_to_be(gateway)?;
        if !is_stream_name(stream) {
            return Err(ReplicaError::Name(stream.to_owned()));
        }
        // With its ordinal it names a folder.
        if !is_stream_name(epoch) || epoch.len() > LONGEST_EPOCH {
            return Err(ReplicaError::Name(epoch.to_owned()));
        }
        let known = self.remote(gateway);
        if let Some(log) = known.as_ref().and_then(|known| known.replica(stream, Some(epoch))) {
            return Ok(log);
        }
        let before = known.as_ref().map(|known| known.replicas_of(stream)).unwrap_or_default();
        let most = read(&self.config).store.max_streams;
        if before.is_empty() && known.is_some_and(|known| known.streams().len() >= most) {
            let text =
                format!("{gateway} has {most} streams here already: raise store.max_streams");
            return Err(ReplicaError::TooMany(text));
        }
        if before.len() > MAX_EARLIER {
            let text = format!(
                "{gateway}/{stream} has {MAX_EARLIER} earlier replicas that were never read: acknowledge them"
            );
            return Err(ReplicaError::TooMany(text));
        }
        let disk = |error: &dyn std::fmt::Display| ReplicaError::Disk(error.to_string());
        let ordinal = before.last().map_or(1, |newest| newest.ordinal + 1);
        let folder = self.folder.join(REPLICAS).join(gateway).join(stream);
        make_folders(&self.folder, &folder).map_err(|error| disk(&error))?;
        let folder = folder.join(format!("{ordinal:06}-{epoch}"));
        let opened = self.open_replica(gateway, stream, epoch, folder);
        let log = Arc::new(opened.map_err(|error| disk(&error))?);
        let replica = Replica { ordinal, log: Arc::clone(&log) };
        inherit(&[&before[..], std::slice::from_ref(&replica)].concat())
            .map_err(|error| disk(&error))?;
        let log_name = log.name();
        if before.is_empty() {
            info!(log = log_name, epoch, "a gateway's stream is kept here from now on");
        } else {
            warn!(
                log = log_name,
                epoch,
                "a gateway has begun this stream anew: it was wiped or restored; the earlier replica stays until it is acknowledged or evicted"
            );
        }
        self.remote_or_new(gateway).add_replica(stream, replica);
        Ok(log)
    }

    /// The log of write-backs for a gateway, made if need be.
    ///
    /// # Errors
    /// Where it may not or cannot be made.
    pub async fn outbox_for(self: &Arc<Self>, gateway: &str) -> Result<Arc<Log>, ReplicaError> {
        if let Some(log) = self.remote(gateway).and_then(|known| known.outbox()) {
            return Ok(log);
        }
        let (store, gateway) = (Arc::clone(self), gateway.to_owned());
        let made = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = lock(&store.making);
            store.remote_to_be(&gateway)?;
            if let Some(log) = store.remote(&gateway).and_then(|known| known.outbox()) {
                return Ok(log);
            }
            let disk = |error: &dyn std::fmt::Display| ReplicaError::Disk(error.to_string());
            let folder = store.folder.join(OUTBOXES);
            make_folders(&store.folder, &folder).map_err(|error| disk(&error))?;
            let opened = store.open_outbox(&gateway, folder.join(&gateway));
            let log = opened.map_err(|error| disk(&error))?;
            store.remote_or_new(&gateway).set_outbox(Arc::clone(&log));
            Ok(log)
        });
        made.await.unwrap_or_else(|_| Err(ReplicaError::Disk("cancelled".to_owned())))
    }

    /// Closes what nobody writes to, and removes earlier replicas that hold
    /// nothing any more.
    pub(super) async fn tidy_remotes(&self) {
        for remote in self.remotes() {
            if let Some(outbox) = remote.outbox() {
                rest_if(&outbox, IDLE);
            }
            for (stream, replicas) in remote.streams() {
                let Some((newest, earlier)) = replicas.split_last() else { continue };
                rest_if(newest, IDLE);
                for log in earlier {
                    rest_if(log, Duration::from_secs(1));
                    if log.is_used_up() {
                        self.remove_replica(&remote, &stream, log, newest).await;
                    }
                }
            }
        }
    }

    async fn remove_replica(
        &self,
        remote: &RemoteGateway,
        stream: &str,
        log: &Arc<Log>,
        newest: &Log,
    ) {
        if newest.note_removed(log).await.is_err() {
            return;
        }
        let epoch = log.epoch();
        remote.drop_replica(stream, &epoch);
        log.close().await;
        let folder = log.shared.segments.parent().map(Path::to_owned).unwrap_or_default();
        let removed = tokio::task::spawn_blocking(move || {
            std::fs::remove_dir_all(&folder)?;
            folder.parent().map_or(Ok(()), sync_folder)
        });
        match removed.await {
            Ok(Ok(())) => {
                info!(log = log.name(), epoch, "an earlier replica is used up and removed");
            }
            // Empty as it is, the next start finds it and removes it.
            failed => {
                warn!(log = log.name(), epoch, ?failed, "an earlier replica's folder stays behind");
            }
        }
    }
}

fn rest_if(log: &Log, idle_for: Duration) {
    let is_idle = log.last_commit().is_none_or(|age| age >= idle_for);
    if is_idle && log.is_being_written() {
        log.rest();
    }
}

/// Consumers of an earlier replica hold the later ones from their start, so
/// that nothing is deleted before they come to it.
fn inherit(replicas: &[Replica]) -> io::Result<()> {
    replicas.windows(2).try_for_each(|pair| pair[1].log.inherit_consumers(&pair[0].log))
}
