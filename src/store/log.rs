//! A log: a named, ordered, durable sequence of records, kept as a chain of
//! segments. Streams, write-backs, outcomes and dead letters are all logs.
//!
//! Its invariants:
//! 1. A record can be read only after the sync that covers it.
//! 2. A number is given out once in an epoch. Numbers are reserved durably in
//!    blocks before use, and an unclean start goes on above the block.
//! 3. The numbers in a segment have no gaps; holes lie between segments, and
//!    every hole has a reason.
//! 4. What is deleted was acknowledged durably before, or counted as evicted.

use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::age::Clock;
use super::chain::Chain;
use super::checked_file::sync_folder;
use super::committer::{Append, Command, Committer};
use super::config::LogLimits;
use super::disk::Disk;
use super::identity;
use super::linger::Meeting;
use super::metrics::LogMetrics;
use super::names;
use super::progress::{Broken, Progress};
use super::quarantine::{self, Kind};
use super::reader::Opened;
use super::recovery;
use super::replica_recovery;
use super::state::{self, State, StateFile};
use super::{AppendError, OpenError, PositionError, lock};
use crate::budget::Share;
use crate::record::{Line, Sequence};

/// Appends that may wait for the committer; each belongs to a waiting request.
const QUEUE: usize = 4096;

/// Where the numbers of a log's records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// It gives them out.
    Own,
    /// From another gateway's log, of this epoch: a replica of that.
    Replica(String),
}

/// How a log is made.
pub(super) struct Setup {
    /// A replica's has its gateway in front: `edge1/press`.
    pub name: String,
    pub origin: Origin,
    pub folder: PathBuf,
    pub quarantine: PathBuf,
    pub limits: LogLimits,
    pub linger: Duration,
    pub compression_level: i32,
    pub disk: Arc<Disk>,
    pub metrics: LogMetrics,
    /// Gets the name of a log whose committer ended by a panic.
    pub broken: watch::Sender<Option<String>>,
}

/// What committer, readers and the log's users share.
pub(super) struct Shared {
    pub name: String,
    pub origin: Origin,
    pub segments: PathBuf,
    pub quarantine: PathBuf,
    pub limits: ArcSwap<LogLimits>,
    pub state: StateFile,
    pub clock: Clock,
    pub chain: Mutex<Chain>,
    pub opened: Mutex<Opened>,
    /// Ends of the log as they become durable.
    pub durable: watch::Sender<Sequence>,
    /// Told when records were deleted.
    pub room: Notify,
    pub disk: Arc<Disk>,
    pub metrics: LogMetrics,
    /// Where producers wake a committer that waits for a fuller group.
    pub meeting: Meeting,
    /// A tidying is wanted or under way.
    pub tidy_wanted: AtomicBool,
    /// The segment that is being written cannot be read: a new one is wanted.
    pub seal_wanted: AtomicBool,
    /// The disk refused the last write.
    pub failing: AtomicBool,
    /// How it gets on.
    pub progress: Progress,
}

impl Shared {
    pub(super) fn segment_folder(&self, first: Sequence) -> PathBuf {
        self.segments.join(recovery::folder_name(first))
    }
}

/// A durable sequence of records. See the module for what it promises.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// Lines on their way to stable storage; resolves to their numbers. Dropping
/// it takes nothing back.
#[derive(Debug)]
pub struct Appending(oneshot::Receiver<Result<Range<Sequence>, AppendError>>);

impl Future for Appending {
    type Output = Result<Range<Sequence>, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = std::task::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answered.unwrap_or(Err(AppendError::Closed)))
    }
}

/// Has nothing in the log's place that would keep it from opening: what stands
/// there instead is damage, and costs what it took the place of.
fn make_way(setup: &Setup, segments: &std::path::Path) -> std::io::Result<()> {
    let clear = |kind, path: &std::path::Path| {
        quarantine::clear_for(kind, &setup.quarantine, &setup.name, path)
    };
    clear(Kind::Folder, &setup.folder)?;
    clear(Kind::Folder, segments)?;
    let files = state::COPIES.into_iter().chain([identity::FILE]).chain(names::FILES);
    files.map(|name| setup.folder.join(name)).try_for_each(|path| clear(Kind::File, &path))
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest number that may still be asked for.
    pub earliest: Sequence,
    /// The number that the next record gets.
    pub next: Sequence,
}

impl Log {
    /// Opens or makes the log and starts its committer. Reads the disk: call
    /// it where blocking is allowed.
    pub(super) fn open(setup: Setup) -> Result<Self, OpenError> {
        let failed = |action| {
            let path = setup.folder.clone();
            move |source| OpenError::Io { action, path, source }
        };
        let segments = setup.folder.join("segments");
        make_way(&setup, &segments).map_err(failed("make way in"))?;
        std::fs::create_dir_all(&segments).map_err(failed("make the folder"))?;
        // What is kept in a folder is kept only if the folder is.
        for folder in [Some(setup.folder.as_path()), setup.folder.parent()].into_iter().flatten() {
            sync_folder(folder).map_err(failed("sync the folder"))?;
        }
        let epoch = match &setup.origin {
            Origin::Own => None,
            Origin::Replica(epoch) => Some(epoch.as_str()),
        };
        let opened = StateFile::open(&setup.folder, epoch);
        let (state, found) = opened.map_err(failed("read the state in"))?;
        let chain = match epoch {
            None => recovery::recover(&setup, &segments, &state, found)?,
            Some(epoch) => replica_recovery::recover(&setup, &segments, &state, found, epoch)?,
        };
        let committer = {
            let shared = Arc::new(Shared {
                name: setup.name,
                origin: setup.origin,
                segments,
                quarantine: setup.quarantine,
                limits: ArcSwap::from_pointee(setup.limits),
                durable: watch::Sender::new(chain.next),
                state,
                clock: Clock::new(),
                chain: Mutex::new(chain),
                opened: Mutex::new(Opened::default()),
                room: Notify::new(),
                disk: setup.disk,
                metrics: setup.metrics,
                meeting: Meeting::default(),
                tidy_wanted: AtomicBool::new(false),
                seal_wanted: AtomicBool::new(false),
                failing: AtomicBool::new(false),
                progress: Progress::default(),
            });
            Committer::new(shared, setup.linger, setup.compression_level)
                .map_err(failed("prepare zstd for"))?
        };
        let shared = Arc::clone(committer.shared());
        let (commands, receiver) = mpsc::channel(QUEUE);
        // The kernel keeps fifteen characters of a thread's name.
        let thread = std::thread::Builder::new().name(format!("log {}", shared.name));
        let broken = Broken { log: shared.name.clone(), tell: setup.broken };
        let thread = thread
            .spawn(move || {
                let _broken = broken;
                committer.run(receiver);
            })
            .map_err(failed("start the committer thread of"))?;
        Ok(Self { shared, commands, committer: Mutex::new(Some(thread)) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its identity: another one means that old numbers mean nothing.
    #[must_use]
    pub fn epoch(&self) -> String {
        self.shared.state.get().epoch.clone()
    }

    /// Where it begins and ends.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let earliest = self.shared.state.get().earliest;
        Bounds { earliest, next: *self.shared.durable.borrow() }
    }

    /// Where the last `count` records begin. Not `count` below the end: after
    /// an unclean start numbers are left unused there.
    #[must_use]
    pub fn last(&self, count: u64) -> Sequence {
        lock(&self.shared.chain).last(count)
    }

    /// Told each time the log's durable end moves; holds that end.
    #[must_use]
    pub fn watch_end(&self) -> watch::Receiver<Sequence> {
        self.shared.durable.subscribe()
    }

    /// Hands lines to the committer, to be appended as one atomic step.
    ///
    /// # Errors
    /// [`AppendError::Closed`] while shutting down.
    pub async fn submit(&self, lines: Vec<Line>) -> Result<Appending, AppendError> {
        self.hand_in(lines, None).await
    }

    /// As [`Log::submit`]; `share`, the memory of the line, is kept until it is
    /// written, also where nobody waits for that any more.
    ///
    /// # Errors
    /// As [`Log::submit`].
    pub async fn submit_with(
        &self,
        line: Line,
        share: &Arc<Share>,
    ) -> Result<Appending, AppendError> {
        self.hand_in(vec![line], Some(Arc::clone(share))).await
    }

    async fn hand_in(
        &self,
        lines: Vec<Line>,
        share: Option<Arc<Share>>,
    ) -> Result<Appending, AppendError> {
        let (reply, answer) = oneshot::channel();
        let append = Command::Append(Append { lines, reply, _share: share });
        self.commands.send(append).await.map_err(|_| AppendError::Closed)?;
        self.shared.meeting.hand_in();
        Ok(Appending(answer))
    }

    /// Appends lines as one atomic step, and answers with their numbers once
    /// they are on stable storage.
    ///
    /// # Errors
    /// [`AppendError::Full`] where nothing may be deleted for them,
    /// [`AppendError::Disk`] where the disk refused them,
    /// [`AppendError::Closed`] while shutting down.
    pub async fn append(&self, lines: Vec<Line>) -> Result<Range<Sequence>, AppendError> {
        self.submit(lines).await?.await
    }

    /// As [`Log::append`] with the line's memory, as [`Log::submit_with`], but
    /// while the log is full waits until there is room, at most `patience`.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_patiently(
        &self,
        line: Line,
        share: &Arc<Share>,
        patience: Duration,
    ) -> Result<Range<Sequence>, AppendError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let room = self.room();
            match self.submit_with(line.clone(), share).await?.await {
                Err(AppendError::Full) => {
                    tokio::time::timeout_at(deadline, room).await.map_err(|_| AppendError::Full)?;
                }
                answered => return answered,
            }
        }
    }

    /// Resolves when there may be room again: records were deleted after this
    /// call, or a look at the limits found some.
    pub fn room(&self) -> Notified<'_> {
        self.shared.room.notified()
    }

    /// Keeps a small fact that outlives the log's segments.
    ///
    /// # Errors
    /// Where the disk refused it.
    pub async fn set_mark(&self, name: &str, value: &str) -> Result<(), PositionError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.update_state(move |state| state.marks.insert(name, value)).await?;
        Ok(())
    }

    /// Keeps facts of [`Log::set_mark`] no longer.
    ///
    /// # Errors
    /// Where the disk refused it.
    pub async fn drop_marks(&self, names: Vec<String>) -> Result<(), PositionError> {
        let names: std::collections::HashSet<String> = names.into_iter().collect();
        self.update_state(move |state| state.marks.retain(|name, _| !names.contains(name))).await
    }

    /// Where it is kept.
    pub(super) fn folder(&self) -> PathBuf {
        // The segments' folder lies in it.
        self.shared.segments.parent().unwrap_or(&self.shared.segments).to_owned()
    }

    /// What [`Log::set_mark`] kept.
    #[must_use]
    pub fn marks(&self) -> std::collections::BTreeMap<String, String> {
        self.shared.state.get().marks.clone()
    }

    pub(super) async fn update_state<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, PositionError> {
        let shared = Arc::clone(&self.shared);
        let under_way = shared.progress.positions.begin();
        let updated = tokio::task::spawn_blocking(move || {
            let _until_then = under_way;
            let durable = *shared.durable.borrow();
            shared.state.update_with_end(durable, change)
        })
        .await;
        match updated {
            Ok(result) => result.map_err(|error| PositionError::Disk(error.to_string())),
            Err(_) => Err(PositionError::Disk("the update was cancelled".to_owned())),
        }
    }

    /// Has the committer delete what need not be kept any more.
    pub(super) fn tidy(&self) {
        if !self.shared.tidy_wanted.swap(true, Ordering::AcqRel) {
            // A full queue tidies at its next commit anyway.
            let _ = self.commands.try_send(Command::Tidy);
        }
    }

    /// Changes what the log is held to.
    pub fn set_limits(&self, limits: LogLimits) {
        self.shared.limits.store(Arc::new(limits));
        self.tidy();
    }

    /// Writes what waits, seals the log and ends its committer. Appends after
    /// this are [`AppendError::Closed`].
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        let thread = lock(&self.committer).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}
