//! The one writer of a log: a thread that takes what waits, numbers it, packs
//! it into a group, writes and syncs it, and only then answers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::chain::{Active, Sealed};
use super::group::{Group, MAX_GROUP_COUNT, Packer};
use super::linger::Linger;
use super::log::{Origin, Shared};
use super::reader;
use super::replication::Replicate;
use super::retention;
use super::segment::{PIECE_LEN, Seal, Segment, SegmentError};
use super::{AppendError, lock};
use crate::boxed::boxed;
use crate::budget::Share;
use crate::record::{Line, Sequence};

/// Numbers reserved at a time: a rare write, and a hole that costs nothing.
const RESERVED_BLOCK: u64 = 1 << 16;
pub(super) const MAX_GROUP_RECORDS: usize = 1024;
/// Up to so many answers are quicker given straight away.
const ANSWERED_FROM_OUTSIDE: usize = 4;
pub(super) const MAX_GROUP_BYTES: usize = 1 << 20;

/// Lines that are to be appended in one step.
pub(super) struct Append {
    pub lines: Vec<Line>,
    pub reply: oneshot::Sender<Result<Range<Sequence>, AppendError>>,
    /// The memory of the lines, given back with them: whoever handed them in
    /// may be gone before they are written.
    pub _share: Option<Arc<Share>>,
}

/// What a log's users ask of its committer.
pub(super) enum Command {
    Append(Append),
    /// Records of another gateway, at the numbers that they have there.
    Replicate(Replicate),
    /// Seal what is being written: nothing more will come for a while.
    Rest,
    /// Delete what need not be kept any more.
    Tidy,
    /// Seal the log and end.
    Close(oneshot::Sender<()>),
    /// Be broken.
    #[cfg(test)]
    Panic,
}

/// Of the segment that is being sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Good,
    /// Its handle failed, and would fail its readers too.
    Failed,
}

/// The appends of a group that is being gathered.
#[derive(Default)]
struct Gathered {
    appends: Vec<Append>,
    records: usize,
    bytes: usize,
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    linger: Linger,
    runtime: tokio::runtime::Handle,
    /// A replica needs none: its groups come packed.
    packer: Option<Packer>,
    lines: Vec<u8>,
    /// Sealed segments that sled has not written its last to.
    unprepared: Vec<Seal>,
    preparing: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, linger: Duration, level: i32) -> std::io::Result<Self> {
        let packer = match shared.origin {
            Origin::Own => Some(Packer::new(level)?),
            Origin::Replica(_) => None,
        };
        let runtime = tokio::runtime::Handle::try_current().map_err(std::io::Error::other)?;
        let linger = Linger::new(linger);
        let (lines, unprepared, preparing) = (Vec::new(), Vec::new(), None);
        Ok(Self { shared, linger, runtime, packer, lines, unprepared, preparing })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.shared.meeting.join();
        while let Some(command) = commands.blocking_recv() {
            let mut next = Some(command);
            while let Some(command) = next.take() {
                self.shared.progress.take();
                match command {
                    Command::Append(append) => {
                        let (group, other) = self.gather(append, &mut commands);
                        self.commit(group);
                        next = other;
                    }
                    Command::Replicate(asked) => self.replicate(asked),
                    Command::Rest => drop(self.seal_active(Condition::Good)),
                    Command::Tidy => {}
                    #[cfg(test)]
                    Command::Panic => panic!("as the test asked"),
                    Command::Close(done) => {
                        commands.close();
                        while let Some(left) = commands.blocking_recv() {
                            if let Command::Append(append) = left {
                                let (group, _) = self.gather(append, &mut commands);
                                self.commit(group);
                            }
                        }
                        self.close();
                        self.shared.progress.done();
                        let _ = done.send(());
                        return;
                    }
                }
                if self.shared.seal_wanted.swap(false, Ordering::AcqRel) {
                    self.seal_active(Condition::Failed);
                }
                if self.shared.tidy_wanted.swap(false, Ordering::AcqRel) {
                    self.tidy();
                }
                self.shared.progress.done();
            }
        }
    }

    fn tidy(&mut self) {
        retention::tidy(&self.shared);
        if retention::active_is_due(&self.shared) || retention::active_is_in_the_way(&self.shared) {
            self.seal_active(Condition::Good);
            retention::tidy(&self.shared);
        }
        // Also where nothing was deleted: the disk or the limits may have changed.
        if retention::has_room(&self.shared) {
            self.shared.room.notify_waiters();
        }
    }

    /// Takes what waits behind `first`, up to the size of a group. Also
    /// returns a command that is none of its business.
    fn gather(
        &self,
        first: Append,
        commands: &mut mpsc::Receiver<Command>,
    ) -> (Vec<Append>, Option<Command>) {
        let mut group = Gathered::default();
        self.take(first, &mut group);
        let mut lingered = false;
        while group.records < MAX_GROUP_RECORDS && group.bytes < MAX_GROUP_BYTES {
            match commands.try_recv() {
                Ok(Command::Append(append)) => self.take(append, &mut group),
                Ok(other) => return (group.appends, Some(other)),
                Err(_) if lingered => break,
                Err(_) => {
                    let gather_for = self.shared.limits.load().gather;
                    if gather_for.is_zero() {
                        self.linger.wait_for_clients(&self.shared.meeting, group.appends.len());
                    } else {
                        let room = MAX_GROUP_RECORDS - group.records;
                        self.shared.meeting.wait_for(room, gather_for);
                    }
                    lingered = true;
                }
            }
        }
        (group.appends, None)
    }

    fn take(&self, append: Append, group: &mut Gathered) {
        self.shared.meeting.take();
        group.records += append.lines.len();
        group.bytes += append.lines.iter().map(Line::len).sum::<usize>();
        group.appends.push(append);
    }

    fn commit(&mut self, appends: Vec<Append>) {
        let started = Instant::now();
        let next = lock(&self.shared.chain).next;
        let mut seq = next;
        let mut newest_ms = 0;
        self.lines.clear();
        for line in appends.iter().flat_map(|append| &append.lines) {
            line.write_numbered(seq, &mut self.lines);
            newest_ms = newest_ms.max(line.received_ms());
            seq += 1;
        }
        match self.store(next, seq, newest_ms) {
            Ok(()) => {
                if self.shared.failing.swap(false, Ordering::Relaxed) {
                    info!(log = self.shared.name, "the log is written again");
                }
                let took = started.elapsed();
                self.linger.committed(&self.shared.meeting, appends.len(), took);
                self.shared.metrics.committed(seq - next, self.lines.len(), took);
                self.answer(next, appends);
            }
            Err(error) => {
                self.shared.metrics.refused(seq - next);
                if let AppendError::Disk(reason) = &error
                    && !self.shared.failing.swap(true, Ordering::Relaxed)
                {
                    error!(log = self.shared.name, %reason, "the log cannot be written");
                }
                for append in appends {
                    let _ = append.reply.send(Err(error.clone()));
                }
            }
        }
        // One large record must not keep its memory for ever.
        if self.lines.capacity() > 2 * MAX_GROUP_BYTES {
            self.lines = Vec::new();
        }
        self.rotate();
    }

    /// Ends a segment that is full.
    pub(super) fn rotate(&mut self) {
        let due = {
            let limits = self.shared.limits.load();
            let chain = lock(&self.shared.chain);
            chain.active.as_ref().is_some_and(|active| active.disk_bytes >= limits.segment_bytes)
        };
        if due {
            if let Some(seal) = self.seal_active(Condition::Good) {
                self.prepare(seal);
            }
            self.shared.tidy_wanted.store(true, Ordering::Release);
        }
    }

    /// Tells everyone of a group where their records are.
    fn answer(&self, first: Sequence, appends: Vec<Append>) {
        let are_many = appends.len() > ANSWERED_FROM_OUTSIDE;
        let answer = move || {
            let mut from = first;
            for append in appends {
                let until = from + append.lines.len() as u64;
                // The one who asked may have gone; the records stay.
                let _ = append.reply.send(Ok(from..until));
                from = until;
            }
        };
        // Waking many tasks from outside the runtime wakes its threads for
        // each; from inside, once.
        if are_many {
            self.runtime.spawn(boxed(async move { answer() }));
        } else {
            answer();
        }
    }

    fn store(&mut self, next: Sequence, end: Sequence, newest_ms: u64) -> Result<(), AppendError> {
        if next == end {
            return Ok(());
        }
        self.make_room()?;
        let count = u32::try_from(end - next).ok().filter(|n| u64::from(*n) <= MAX_GROUP_COUNT);
        let count = count.ok_or_else(|| {
            AppendError::Disk(format!("more than {MAX_GROUP_RECORDS} records in one step"))
        })?;
        let Some(packer) = &mut self.packer else {
            return Err(AppendError::Disk("a replica gives no numbers out".to_owned()));
        };
        let group = packer
            .pack(next, count, &self.lines, newest_ms, PIECE_LEN)
            .map_err(|error| AppendError::Disk(error.to_string()))?;
        self.reserve(end).map_err(|error| AppendError::Disk(error.to_string()))?;
        self.write_surely(&group)
    }

    /// Writes a group, if need be into a new segment.
    pub(super) fn write_surely(&mut self, group: &Group) -> Result<(), AppendError> {
        let disk = |error: SegmentError| AppendError::Disk(error.to_string());
        let Err(error) = self.write(group) else { return Ok(()) };
        // The failed segment is never synced again. What it may hold beyond
        // its last good sync has no reader, and the same group with the same
        // numbers goes into a new one.
        let failed = self.seal_active(Condition::Failed);
        if error.is_full_disk() {
            // What is left is for reading what was acknowledged: sled needs
            // some of it before it opens what was being written.
            self.shared.disk.sample();
            if let Some(seal) = failed {
                reader::prepare(&self.shared, seal);
            }
            if !retention::has_room(&self.shared) && !retention::make_room(&self.shared) {
                return Err(disk(error));
            }
        }
        self.write(group).map_err(disk)
    }

    fn write(&self, group: &Group) -> Result<(), SegmentError> {
        let writing = {
            let chain = lock(&self.shared.chain);
            chain.active.as_ref().map(|active| (Arc::clone(&active.segment), active.seal))
        };
        let (segment, seal) = match writing {
            Some(writing) => writing,
            None => self.begin_segment(group.header.first)?,
        };
        segment.write(group)?;
        self.shared.progress.step();
        self.shared.progress.last_commit.set();
        let disk_bytes = segment.disk_bytes();
        let end = group.header.end();
        {
            let mut chain = lock(&self.shared.chain);
            chain.active = Some(Active {
                seal: seal.with(group),
                segment,
                written: Instant::now(),
                disk_bytes,
            });
            chain.next = end;
        }
        self.shared.durable.send_replace(end);
        Ok(())
    }

    fn begin_segment(&self, first: Sequence) -> Result<(Arc<Segment>, Seal), SegmentError> {
        let folder = self.shared.segment_folder(first);
        if folder.exists() {
            // Left by a write that failed before anything in it counted. The
            // state may name it: what it names and is not there counts as lost.
            self.shared.state.update(|state| state.active = None)?;
            std::fs::remove_dir_all(&folder)?;
        }
        let bytes = self.shared.limits.load().segment_bytes;
        let segment = Arc::new(Segment::create(&folder, bytes)?);
        // Should it vanish as a whole, that is noticed.
        self.shared.state.update(|state| state.active = Some(first))?;
        self.shared.progress.step();
        Ok((segment, Seal::empty(first)))
    }

    /// Reserves numbers durably before they are given out.
    fn reserve(&self, end: Sequence) -> std::io::Result<()> {
        if end <= self.shared.state.get().reserved {
            return Ok(());
        }
        let durable = *self.shared.durable.borrow();
        self.shared.state.update_with_end(durable, |state| state.reserved = end + RESERVED_BLOCK)
    }

    pub(super) fn make_room(&mut self) -> Result<(), AppendError> {
        if retention::has_room(&self.shared) {
            return Ok(());
        }
        if retention::make_room(&self.shared) {
            return Ok(());
        }
        // All that is left to give up is what is being written.
        if retention::may_give_up_active(&self.shared) {
            self.seal_active(Condition::Good);
            if retention::make_room(&self.shared) {
                return Ok(());
            }
        }
        Err(AppendError::Full)
    }

    /// Ends the segment that is being written, where there is one, and tells
    /// what it holds.
    pub(super) fn seal_active(&mut self, condition: Condition) -> Option<Seal> {
        let (segment, seal) = {
            let chain = lock(&self.shared.chain);
            let active = chain.active.as_ref()?;
            (Arc::clone(&active.segment), active.seal)
        };
        match seal.write(segment.folder()) {
            // Not before: a length like that means damage where there is no seal.
            Ok(()) => segment.end(),
            Err(error) => {
                // It is read through at the next start instead.
                let folder = segment.folder().display();
                error!(log = self.shared.name, %folder, %error, "a segment could not be sealed");
            }
        }
        self.shared.progress.step();
        if condition == Condition::Good {
            // sled locks it for as long as a reader has it: the next reader
            // must find the same one. Without any it is closed, for memory.
            let slot = lock(&self.shared.opened).slot(seal.first);
            *lock(&slot) = Arc::downgrade(&segment);
        }
        let disk_bytes = segment.disk_bytes();
        let mut chain = lock(&self.shared.chain);
        let active = chain.active.take();
        if let Some(active) = &active {
            chain.sealed.push_back(Sealed { seal, written: Some(active.written), disk_bytes });
        }
        drop(chain);
        // Closing a database takes milliseconds, in which readers may go on.
        drop((active, segment));
        Some(seal)
    }

    /// Has a segment that was sealed made ready for its readers, unless they
    /// keep up: then one has it open, and it is deleted soon. One at a time:
    /// each takes memory.
    fn prepare(&mut self, seal: Seal) {
        if self.shared.state.get().acknowledged().is_some_and(|upto| upto >= seal.first) {
            return;
        }
        self.unprepared.push(seal);
        if self.preparing.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = Arc::clone(&self.shared);
            let seals = std::mem::take(&mut self.unprepared);
            let prepare = move || seals.into_iter().for_each(|seal| reader::prepare(&shared, seal));
            self.preparing = Some(self.runtime.spawn_blocking(prepare));
        }
    }

    /// Leaves the log so that the next start needs no recovery.
    fn close(&mut self) {
        self.seal_active(Condition::Good);
        if let Some(task) = self.preparing.take() {
            // Whatever became of it, nothing of ours is open afterwards.
            let _ = self.runtime.block_on(task);
        }
        let kept = lock(&self.shared.opened).clear();
        drop(kept);
        let next = lock(&self.shared.chain).next;
        let left = self.shared.state.update(|state| {
            state.reserved = next;
            state.written = next;
        });
        if let Err(error) = left {
            error!(log = self.shared.name, %error, "the log could not be closed cleanly; the next start recovers it");
        }
    }
}
