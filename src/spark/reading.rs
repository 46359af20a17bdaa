//! What goes into an answer with records: in strict order, or live records
//! first while a backlog drains; and the backlog no faster than it may.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::query::Query;
use crate::budget::{Budget, Share};
use crate::pace::Pace;
use crate::record::{Sequence, trusted_ms};
use crate::store::{Batch, Group, Log, ReadError};

const DEFAULT_MAX_BYTES: u64 = 4 << 20;
/// Where memory or the drain's rate is short, an answer waits for no more
/// than this.
const LEAST_BYTES: usize = 64 << 10;
/// Records of this age are live: no drain rate holds them back.
const LIVE: Duration = Duration::from_secs(5);

/// What an answer may take, whatever is asked.
#[derive(Debug, Clone)]
pub struct AnswerBounds {
    /// Bytes of lines.
    pub max_bytes: u64,
    /// Wait of a long-poll.
    pub max_wait: Duration,
    /// Part of the bytes for live records, where a client asks for them and a
    /// backlog; 0 is strict order.
    pub live_share: f64,
    /// How fast backlogs may go.
    pub drain: Option<Arc<Pace>>,
}

/// The query of a request for records.
///
/// `from` and `until` are the range wanted. With `live_from` the range is a
/// backlog, and an answer holds records from `live_from` on first. Nothing of
/// this is kept here: the client sends back `Ngsi-Ferry-Next` as `from` and
/// `Ngsi-Ferry-Live-Next` as `live_from`, while `until` stays the first
/// `live_from`, until `from` has reached it; from then on `live_from` is its
/// `from`. So each record comes once. The consumer's position is the low-water
/// mark, `from`, in either case: retention knows no other.
pub(super) struct Asked {
    pub epoch: Option<String>,
    pub from: Sequence,
    pub until: Sequence,
    pub live_from: Option<Sequence>,
    max_bytes: Option<u64>,
    wait: Duration,
}

impl Asked {
    /// # Errors
    /// What is wrong with it, for whoever sent it.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, String> {
        let known = ["epoch", "from", "until", "live_from", "max_bytes", "wait"];
        let query = Query::parse(query, &known)?;
        let from = query.number("from")?;
        let (until, live_from) = (query.number("until")?, query.number("live_from")?);
        // Without it the backlog would end where the live part has got to,
        // and records would come twice.
        if live_from.is_some_and(|live| until.is_none_or(|until| until > live)) {
            return Err("with live_from, until is where the backlog ends: \
                        the first live_from, and never above it"
                .to_owned());
        }
        Ok(Self {
            epoch: query.text("epoch").map(ToOwned::to_owned),
            from: from.ok_or("from is missing: the number of the first record wanted")?,
            until: until.unwrap_or(Sequence::MAX),
            live_from,
            max_bytes: query.number("max_bytes")?,
            wait: query.duration("wait")?.unwrap_or_default(),
        })
    }
}

/// What was read for an answer.
pub(super) struct Read {
    /// Comes first; `None` in strict order.
    pub live: Option<Batch>,
    pub backlog: Batch,
    /// Memory of both.
    pub share: Share,
}

/// Which part of what was asked cannot be read, and why.
pub(super) struct Unreadable {
    /// Told where there are two.
    pub part: Option<&'static str>,
    pub error: ReadError,
}

/// Reads for one request.
pub(super) struct Reader<'a> {
    pub log: &'a Log,
    pub bounds: &'a AnswerBounds,
    pub budget: &'a Budget,
    pub stop: &'a CancellationToken,
    /// Groups go out as they are stored.
    pub packed: bool,
}

impl Reader<'_> {
    /// Reads, and where there is nothing yet waits for it. What is read
    /// counts against the budget; who waits holds nothing.
    pub(super) async fn read(&self, asked: &Asked) -> Result<Read, Unreadable> {
        let max_bytes = asked.max_bytes.unwrap_or(DEFAULT_MAX_BYTES).min(self.bounds.max_bytes);
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let begun = Instant::now();
        let deadline = begun + asked.wait.min(self.bounds.max_wait);
        // Who is held back would take an empty answer for the end.
        let patience = begun + self.bounds.max_wait;
        let mut live_from = asked.live_from.filter(|_| self.bounds.live_share > 0.0);
        let mut from = asked.from;
        let mut end = self.log.watch_end();
        loop {
            let ends = *end.borrow_and_update();
            // Also what cannot be there is to be read: its error is the answer.
            let is_expected =
                live_from.is_some_and(|live| live != ends) || from != ends && from < asked.until;
            let wanted = if is_expected { max_bytes } else { 0 };
            let (share, granted) = self.budget.take_some(wanted, LEAST_BYTES).await;
            let mut left = if is_expected { granted } else { max_bytes.min(LEAST_BYTES) };

            let live = match live_from {
                None => None,
                Some(live_from) => {
                    let part = if from < asked.until { self.live_part(left) } else { left };
                    let read = self.log.read(live_from..Sequence::MAX, part).await;
                    let read = read.map_err(|error| Unreadable { part: Some("live"), error })?;
                    left = left.saturating_sub(lines(&read.groups));
                    Some(read)
                }
            };
            let backlog = self.backlog(from..asked.until.max(from), left).await;
            let part = live.is_some().then_some("backlog");
            let (mut backlog, held_until) = backlog.map_err(|error| Unreadable { part, error })?;
            if live.is_some() {
                // Numbers left unused may lie across the end of the backlog.
                backlog.next = backlog.next.min(asked.until.max(from));
            }
            let is_found = live.iter().chain([&backlog]).any(|read| !read.groups.is_empty());
            let is_done = is_found || live.is_none() && backlog.next >= asked.until;
            let wakes = held_until.map_or(deadline, |at| at.min(patience));
            let last = if held_until.is_some() { patience } else { deadline };
            if is_done || Instant::now() >= last || self.stop.is_cancelled() {
                return Ok(Read { live, backlog, share });
            }
            drop(share);
            from = backlog.next;
            live_from = live.map(|live| live.next);
            // What is held back is there already: only live records are news.
            let news = live_from.or(held_until.is_none().then_some(from));
            tokio::select! {
                _ = end.wait_for(|end| news.is_some_and(|from| *end > from)) => {}
                () = tokio::time::sleep_until(wakes) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn live_part(&self, bytes: usize) -> usize {
        (bytes as f64 * self.bounds.live_share) as usize
    }

    /// Reads of the backlog what its rate allows now; where that is nothing,
    /// also answers when to look again.
    async fn backlog(
        &self,
        range: Range<Sequence>,
        max_bytes: usize,
    ) -> Result<(Batch, Option<Instant>), ReadError> {
        let read = async |max_bytes| self.log.read(range.clone(), max_bytes).await;
        let Some(drain) = &self.bounds.drain else { return Ok((read(max_bytes).await?, None)) };
        // Errors are not held back, nor are records that have just come.
        let first = read(0).await?;
        if first.groups.first().is_none_or(is_live) {
            return Ok((read(max_bytes).await?, None));
        }
        let grant = match drain.take(max_bytes, max_bytes.min(LEAST_BYTES)) {
            Ok(grant) => grant,
            Err(at) => return Ok((Batch { groups: Vec::new(), next: range.start }, Some(at))),
        };
        let batch = read(grant.bytes()).await?;
        let held_back = batch.groups.iter().filter(|group| !is_live(group));
        grant.spend(held_back.map(|group| self.on_the_line(group)).sum());
        Ok((batch, None))
    }

    fn on_the_line(&self, group: &Group) -> usize {
        let header = &group.header;
        (if self.packed { header.frame_len } else { header.lines_len }) as usize
    }
}

fn lines(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.header.lines_len as usize).sum()
}

/// Where a clock was not set, or jumped back, nothing tells the age: then it
/// is of the backlog.
fn is_live(group: &Group) -> bool {
    let (now, newest) = (trusted_ms(SystemTime::now()), group.header.newest_ms);
    let clock_step = 1000;
    newest > 0
        && newest <= now + clock_step
        && u128::from(now.saturating_sub(newest)) < LIVE.as_millis()
}
