//! Durable logs on sled: streams, write-backs and dead letters.
//!
//! [`Store`] holds the logs of a data directory; [`Log`] is one of them.

mod age;
mod chain;
mod checked_file;
mod committer;
mod config;
mod database;
mod disk;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod group;
mod identity;
mod incoming;
mod linger;
mod log;
mod metrics;
mod names;
mod positions;
mod preallocation;
mod progress;
mod quarantine;
mod reader;
mod recovery;
mod remote;
mod replica_folders;
mod replica_recovery;
mod replicas;
mod replication;
mod retention;
mod segment;
mod state;
mod status;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use config::{Config, RelayConfig, StreamConfig, WhenFull, is_stream_name};
pub use disk::Disk;
pub use group::{Damaged, Group, GroupHeader};
pub use incoming::{Incoming, Malformed};
pub use log::{Appending, Bounds, Log};
pub use metrics::Metrics;
pub use positions::{Acknowledgement, Lease};
pub use reader::Batch;
pub use remote::{RemoteGateway, Removed};
pub use replicas::ReplicaError;
pub use replication::{Part, ReplicateError};
pub use state::{Evicted, Hole, HoleReason};
pub use status::{ConsumerStatus, LogStatus};

use crate::boxed::boxed;
use crate::record::Sequence;
use config::LogLimits;
use log::Origin;
use metrics::LogMetrics;
use quarantine::Kind;

// sled panics on some damaged files; a program that ends there could never
// start again on them.
#[cfg(not(panic = "unwind"))]
compile_error!("the store catches sled's panics: build with panic = \"unwind\"");

/// The stream for whatever names none.
pub const DEFAULT_STREAM: &str = "default";
/// The folder for what cannot be read.
const QUARANTINE: &str = "quarantine";
/// How often ages and free space are looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Every so many times also at what is kept for other gateways.
const REMOTES_EVERY: u32 = 5;

/// Why the store could not be opened. Each is fatal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}; check that the folder belongs to the gateway's user and the disk is not full or read-only", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the data directory.
    #[error("{} is in use by another ngsi-ferry; stop it, or set another data_dir", .0.display())]
    InUse(PathBuf),
}

/// Why something could not be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The limits are reached and nothing may be deleted. Retry later.
    #[error("the log is full")]
    Full,
    /// The disk refused it. Retry later.
    #[error("the disk refused the write: {0}")]
    Disk(String),
    /// The gateway is stopping. Retry later.
    #[error("the log is closed")]
    Closed,
}

/// Most consumers of a log: its state is written whole at each acknowledgement.
pub const MAX_CONSUMERS: usize = 256;

/// Why a position did not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Above the log's end. Reject.
    #[error("the position is beyond the log's end, {next}")]
    Beyond {
        /// The log's end.
        next: Sequence,
    },
    /// It is of another log. Reject.
    #[error("the position is of another epoch than the log's, {epoch}")]
    Epoch {
        /// The log's epoch.
        epoch: String,
    },
    /// A new name, and there are too many. Reject.
    #[error(
        "there are {MAX_CONSUMERS} consumers of this log already; use one of their names, or delete one that nobody uses (DELETE /v1/streams/STREAM/consumers/NAME)"
    )]
    TooMany,
    /// Somebody else holds the consumer. Reject, or retry after that time.
    #[error("another reader holds this consumer; it is free once that reader was silent for {} s more", expires_in.as_secs() + 1)]
    Leased {
        /// When it is free, should its holder stay silent.
        expires_in: Duration,
    },
    /// The disk refused it. Retry later.
    #[error("the disk refused the position: {0}")]
    Disk(String),
}

/// Why records are not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GoneReason {
    /// Every consumer had acknowledged them.
    Acknowledged,
    /// Retention deleted them.
    Evicted,
    /// Damage took them.
    Lost,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not there any more. Reject; go on at `earliest`.
    #[error("the records are gone ({reason:?}); the next there are begin at {earliest}")]
    Gone {
        /// Where reading can go on.
        earliest: Sequence,
        /// Why.
        reason: GoneReason,
    },
    /// It is not there yet. Reject.
    #[error("the log ends at {next}")]
    Beyond {
        /// The log's end.
        next: Sequence,
    },
    /// The disk refused it. Retry later.
    #[error("the log cannot be read: {0}")]
    Store(String),
}

/// All logs of a data directory.
pub struct Store {
    folder: PathBuf,
    config: RwLock<Settings>,
    streams: RwLock<BTreeMap<String, Arc<Log>>>,
    /// What this one is the relay of.
    remotes: RwLock<BTreeMap<String, Arc<RemoteGateway>>>,
    /// Held while a stream is made, which takes the disk's time.
    making: Mutex<()>,
    /// How many streams were made; told each time.
    made: watch::Sender<usize>,
    write_backs: Arc<Log>,
    outcomes: Arc<Log>,
    dead_letters: Arc<Log>,
    common: Common,
    // Held for as long as the store is open.
    _lock: File,
}

/// Settings of a store and all that it keeps.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What holds for all.
    pub store: Config,
    /// What differs for a stream.
    pub streams: Vec<StreamConfig>,
    /// What holds for other gateways'.
    pub relay: RelayConfig,
}

/// What all logs of a store share.
struct Common {
    disk: Arc<Disk>,
    metrics: Metrics,
    /// A log whose committer ended by a panic.
    broken: watch::Sender<Option<String>>,
}

impl Store {
    /// As [`Store::open_as`], with what a relay has by default.
    ///
    /// # Errors
    /// As there.
    pub fn open(
        folder: &Path,
        config: Config,
        streams: Vec<StreamConfig>,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let relay = RelayConfig::default();
        Self::open_as(folder, Settings { store: config, streams, relay }, metrics)
    }

    /// Opens the data directory, makes what is missing, recovers what was
    /// left unclean. Blocks on the disk.
    ///
    /// # Errors
    /// Where the folder cannot be used at all. Damage is no error: it is
    /// quarantined and reported.
    pub fn open_as(folder: &Path, settings: Settings, metrics: Metrics) -> Result<Self, OpenError> {
        let config = &settings.store;
        let failed = |action| {
            let path = folder.to_owned();
            move |source| OpenError::Io { action, path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed("make the folder"))?;
        let lock_file = lock_folder(folder)?;
        let streams_folder = folder.join("streams");
        quarantine::clear_for(Kind::Folder, &folder.join(QUARANTINE), "store", &streams_folder)
            .and_then(|()| std::fs::create_dir_all(&streams_folder))
            .map_err(failed("make the folder of the streams in"))?;
        // What is kept in a folder is kept only if the folder is.
        checked_file::sync_folder(folder).map_err(failed("sync the folder"))?;
        if let Some(parent) = folder.parent() {
            // Often not ours to read; then it was made by somebody long ago.
            let _ = checked_file::sync_folder(parent);
        }
        let disk = Arc::new(Disk::new(folder));
        let common = Common { disk, metrics, broken: watch::Sender::default() };
        let internal = |name: &str, limits| {
            Log::open(setup(
                folder,
                folder.join(name),
                name,
                limits,
                config,
                &common,
                common.metrics.of(name),
            ))
            .map(Arc::new)
        };
        let write_backs = internal("write-backs", config.limits_of_write_backs())?;
        let outcomes = internal("outcomes", config.limits_of_write_backs())?;
        let dead_letters = internal("dead-letters", config.limits_of_dead_letters())?;
        let configured = settings.streams.clone();
        let store = Self {
            folder: folder.to_owned(),
            config: RwLock::new(settings),
            streams: RwLock::default(),
            remotes: RwLock::default(),
            making: Mutex::default(),
            made: watch::Sender::default(),
            write_backs,
            outcomes,
            dead_letters,
            common,
            _lock: lock_file,
        };
        let mut names: Vec<String> = configured.into_iter().map(|stream| stream.name).collect();
        names.push(DEFAULT_STREAM.to_owned());
        let folders = std::fs::read_dir(streams_folder);
        for entry in folders.map_err(failed("list the streams in"))?.flatten() {
            names.extend(entry.file_name().into_string());
        }
        for name in names {
            if is_stream_name(&name) {
                store.open_stream(&name, usize::MAX)?;
            } else {
                warn!(name, "not a stream's name; left alone");
            }
        }
        store.open_remotes()?;
        Ok(store)
    }

    /// The stream of that name, or `default` where there are `most` already.
    fn open_stream(&self, name: &str, most: usize) -> Result<Arc<Log>, OpenError> {
        let _one_at_a_time = lock(&self.making);
        let known = self.stream(name).or_else(|| {
            let is_full = read(&self.streams).len() >= most;
            if is_full { self.stream(DEFAULT_STREAM) } else { None }
        });
        if let Some(log) = known {
            return Ok(log);
        }
        let setup = {
            let config = read(&self.config);
            let own = config.streams.iter().find(|stream| stream.name == name);
            let limits = config.store.limits_of(own);
            let folder = self.folder.join("streams").join(name);
            setup(
                &self.folder,
                folder,
                name,
                limits,
                &config.store,
                &self.common,
                self.common.metrics.of(name),
            )
        };
        let log = Arc::new(Log::open(setup)?);
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.insert(name.to_owned(), Arc::clone(&log));
        drop(streams);
        self.made.send_modify(|made| *made += 1);
        Ok(log)
    }

    /// Told each time a stream is made.
    #[must_use]
    pub fn watch_streams(&self) -> watch::Receiver<usize> {
        self.made.subscribe()
    }

    /// A stream that there is.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<Arc<Log>> {
        read(&self.streams).get(name).cloned()
    }

    /// The stream that a notification for `name` belongs to: that one, made
    /// if need be; `default` where the name is not allowed or there are too
    /// many already.
    ///
    /// # Errors
    /// Where a new stream cannot be made on the disk.
    pub async fn stream_for(self: &Arc<Self>, name: &str) -> Result<Arc<Log>, AppendError> {
        if let Some(log) = self.stream(name) {
            return Ok(log);
        }
        let most = read(&self.config).store.max_streams;
        let is_full = read(&self.streams).len() >= most;
        let name = if is_stream_name(name) && !is_full { name } else { DEFAULT_STREAM };
        if let Some(log) = self.stream(name) {
            return Ok(log);
        }
        let (store, name) = (Arc::clone(self), name.to_owned());
        // Counted again there: several may be asked for at once.
        let opened = tokio::task::spawn_blocking(move || store.open_stream(&name, most)).await;
        match opened {
            Ok(Ok(log)) => Ok(log),
            Ok(Err(error)) => Err(AppendError::Disk(error.to_string())),
            Err(_) => Err(AppendError::Closed),
        }
    }

    /// All streams, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Log>> {
        read(&self.streams).values().cloned().collect()
    }

    /// The logs of this gateway: the streams, then its own.
    #[must_use]
    pub fn own_logs(&self) -> Vec<Arc<Log>> {
        let own = [&self.write_backs, &self.outcomes, &self.dead_letters];
        self.streams().into_iter().chain(own.map(Arc::clone)).collect()
    }

    /// Every log: also what is kept for other gateways.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let remotes = self.remotes();
        let theirs = remotes.iter().flat_map(|remote| remote.logs());
        self.own_logs().into_iter().chain(theirs).collect()
    }

    /// The write-backs that wait for Orion, and what staged them.
    #[must_use]
    pub fn write_backs(&self) -> &Arc<Log> {
        &self.write_backs
    }

    /// What became of write-backs that are not all done yet.
    #[must_use]
    pub fn outcomes(&self) -> &Arc<Log> {
        &self.outcomes
    }

    /// Write-backs that Orion refused for good.
    #[must_use]
    pub fn dead_letters(&self) -> &Arc<Log> {
        &self.dead_letters
    }

    /// The disk under the data directory.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.common.disk
    }

    /// The data directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes over limits from a changed configuration.
    pub fn reload(&self, config: Config, streams: Vec<StreamConfig>) {
        let relay = read(&self.config).relay.clone();
        self.reload_as(Settings { store: config, streams, relay });
    }

    /// As [`Store::reload`], of a relay too.
    pub fn reload_as(&self, settings: Settings) {
        let Settings { store: config, streams, relay } = &settings;
        for log in self.streams() {
            let stream = streams.iter().find(|stream| stream.name == log.name());
            log.set_limits(config.limits_of(stream));
        }
        for remote in self.remotes() {
            for (_, replicas) in remote.streams() {
                for log in replicas {
                    log.set_limits(config.limits_of_replica(relay));
                }
            }
            remote.outbox().iter().for_each(|log| log.set_limits(config.limits_of_outbox(relay)));
        }
        self.write_backs.set_limits(config.limits_of_write_backs());
        self.outcomes.set_limits(config.limits_of_write_backs());
        self.dead_letters.set_limits(config.limits_of_dead_letters());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Looks at ages and free space from time to time, until `stop`.
    pub async fn tidy(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TIDY_INTERVAL);
        let mut tick = 0;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let disk = Arc::clone(&self.common.disk);
            let looked = tokio::task::spawn_blocking(move || {
                disk.sample();
                disk.take_on_ballast();
            });
            let _ = looked.await;
            self.own_logs().iter().for_each(|log| log.tidy());
            // Of these there may be hundreds.
            tick = (tick + 1) % REMOTES_EVERY;
            if tick == 0 {
                self.remotes().iter().flat_map(|remote| remote.logs()).for_each(|log| log.tidy());
                self.tidy_remotes().await;
            }
        }
    }

    /// Writes what waits and seals every log.
    pub async fn close(&self) {
        let mut left = self.logs().into_iter();
        let mut closing = tokio::task::JoinSet::new();
        loop {
            while closing.len() < replicas::AT_ONCE
                && let Some(log) = left.next()
            {
                closing.spawn(boxed(async move { log.close().await }));
            }
            if closing.join_next().await.is_none() {
                return;
            }
        }
    }
}

fn setup(
    store: &Path,
    folder: PathBuf,
    name: &str,
    limits: LogLimits,
    config: &Config,
    common: &Common,
    metrics: LogMetrics,
) -> log::Setup {
    log::Setup {
        name: name.to_owned(),
        origin: Origin::Own,
        folder,
        quarantine: store.join(QUARANTINE),
        limits,
        linger: config.linger,
        compression_level: config.compression_level,
        disk: Arc::clone(&common.disk),
        metrics,
        broken: common.broken.clone(),
    }
}

fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let io = |source| OpenError::Io { action: "lock", path: path.clone(), source };
    // A folder in its place is nobody's lock.
    quarantine::clear_for(Kind::File, &folder.join(QUARANTINE), "store", &path).map_err(io)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// A lock whose holder panicked protects values that are changed whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
