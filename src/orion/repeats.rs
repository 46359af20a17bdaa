//! libcurl's one repeat: when a reused connection closes without an answer,
//! it sends the same bytes again at once. Such a repeat is stored once.
//!
//! A repeat is a request identical byte for byte to one whose answer was not
//! delivered, a moment ago. Correlators prove nothing: clients may reuse them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::Notify;

use crate::record::Notification;
use crate::store::Appending;

/// How long a repeat may take to come.
pub(super) const WINDOW: Duration = Duration::from_secs(5);
/// How long a repeat waits for the end of the connection that it came on
/// first: it may overtake the news of that.
const NEWS: Duration = Duration::from_millis(50);
/// Most requests without a delivered answer that are remembered, and the most
/// bytes of them.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;
/// Of larger bodies only the digest is remembered.
const KEPT: usize = 2 << 10;

/// What identifies a request: everything that is kept of it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub method: Method,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Where the body is only the digest of one: how long that was.
    digested: Option<usize>,
}

/// What became of a request whose answer was not delivered.
pub(super) enum Fate {
    /// It is on stable storage.
    Stored,
    /// The committer has it.
    Appending(Appending),
}

/// The requests whose answers were not delivered.
#[derive(Default)]
pub(super) struct Repeats {
    undelivered: Mutex<VecDeque<Undelivered>>,
    // Nearly always 0: then no request is compared with anything.
    count: AtomicUsize,
    // Of open connections, the last request of each, by its checksum.
    open: Mutex<HashMap<u32, usize>>,
    closed: Notify,
}

/// The last request of a connection, for as long as its answer may still be
/// found not to have been delivered.
pub(super) struct Outstanding {
    repeats: Arc<Repeats>,
    checksum: u32,
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        let mut open = self.repeats.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.checksum) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.checksum);
            }
        }
        drop(open);
        self.repeats.closed.notify_waiters();
    }
}

struct Undelivered {
    since: Instant,
    identity: Identity,
    fate: Fate,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let alike = self.digested.is_some() == other.digested.is_some();
        self.body_len() == other.body_len()
            && self.method == other.method
            && self.path == other.path
            && self.headers == other.headers
            && if alike { self.body == other.body } else { self.digest() == other.digest() }
    }
}

impl Identity {
    pub(super) fn new(method: Method, path: PathAndQuery, headers: HeaderMap, body: Bytes) -> Self {
        Self { method, path, headers, body, digested: None }
    }

    /// Forgets a large body but for its digest: every connection keeps its last
    /// request, and nobody counts the memory of that.
    pub(super) fn shortened(mut self) -> Self {
        if self.digested.is_none() && self.body.len() > KEPT {
            let digest = self.digest();
            self.digested = Some(self.body.len());
            self.body = digest;
        }
        self
    }

    fn digest(&self) -> Bytes {
        if self.digested.is_some() {
            return self.body.clone();
        }
        Bytes::copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &self.body).as_ref())
    }

    fn body_len(&self) -> usize {
        self.digested.unwrap_or(self.body.len())
    }

    fn len(&self) -> usize {
        let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let headers: usize = self.headers.iter().map(header).sum();
        self.path.as_str().len() + headers + self.body.len()
    }

    /// The same for the same request; another's may be the same too.
    fn checksum(&self) -> u32 {
        let mut sum = crc32c::crc32c(self.path.as_str().as_bytes());
        for (name, value) in &self.headers {
            sum = crc32c::crc32c_append(sum, name.as_str().as_bytes());
            sum = crc32c::crc32c_append(sum, value.as_bytes());
        }
        crc32c::crc32c_append(sum, &self.body)
    }

    /// Of a stored notification; `None` where it never came over HTTP.
    fn of(stored: Notification) -> Option<Self> {
        let mut headers = HeaderMap::with_capacity(stored.headers.len());
        for (name, value) in stored.headers {
            let value = HeaderValue::from_maybe_shared(value).ok()?;
            headers.append(HeaderName::try_from(name).ok()?, value);
        }
        let method = stored.method.parse().ok()?;
        Some(Self::new(method, stored.path.parse().ok()?, headers, stored.body))
    }
}

impl Repeats {
    /// Remembers a request whose answer, given at `since`, was not delivered.
    pub(super) fn remember(&self, identity: Identity, fate: Fate, since: Instant) {
        if since.elapsed() >= WINDOW {
            return;
        }
        let mut undelivered = self.lock();
        undelivered.push_back(Undelivered { since, identity: identity.shortened(), fate });
        let mut bytes: usize = undelivered.iter().map(|one| one.identity.len()).sum();
        while undelivered.len() > MOST || (bytes > MOST_BYTES && undelivered.len() > 1) {
            bytes -= undelivered.pop_front().map_or(0, |one| one.identity.len());
        }
        self.count.store(undelivered.len(), Ordering::Release);
    }

    /// Takes note of a request that has just come. Where one other open
    /// connection had the same, waits a moment for that to end: its end and
    /// the repeat come at once, and in any order. Of more than one, none was
    /// cut off: somebody sends the same again and again.
    pub(super) async fn begin(self: &Arc<Self>, identity: &Identity) -> Outstanding {
        let checksum = identity.checksum();
        let others = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(checksum).or_default();
            *count += 1;
            *count - 1
        };
        let outstanding = Outstanding { repeats: Arc::clone(self), checksum };
        if others == 1 {
            let alone = async {
                loop {
                    let closed = self.closed.notified();
                    if self.others(checksum) == 0 {
                        return;
                    }
                    closed.await;
                }
            };
            let _ = tokio::time::timeout(NEWS, alone).await;
        }
        outstanding
    }

    fn others(&self, checksum: u32) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&checksum).map_or(0, |count| count.saturating_sub(1))
    }

    /// Whether anything could be a repeat now.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// What became of the request that this one repeats, where it does. Each
    /// is repeated once.
    pub(super) fn take(&self, identity: &Identity) -> Option<Fate> {
        let mut undelivered = self.lock();
        undelivered.retain(|one| one.since.elapsed() < WINDOW);
        let at = undelivered.iter().position(|one| one.identity == *identity);
        let found = at.and_then(|at| undelivered.remove(at));
        self.count.store(undelivered.len(), Ordering::Release);
        found.map(|one| one.fate)
    }

    /// After an unclean end nobody knows which of the last answers were
    /// delivered.
    pub(super) fn remember_stored(&self, stored: impl IntoIterator<Item = Notification>) {
        for identity in stored.into_iter().filter_map(Identity::of) {
            self.remember(identity, Fate::Stored, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Undelivered>> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of a log's last records are candidates: the first of these
/// numbers that is not too much to read.
pub(super) const TAILS: [u64; 4] = [512, 64, 8, 1];

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(body: &'static str) -> Identity {
        let path = PathAndQuery::from_static("/");
        let mut headers = HeaderMap::new();
        headers.insert("fiware-correlator", HeaderValue::from_static("same"));
        Identity::new(Method::POST, path, headers, body.into())
    }

    #[test]
    fn only_identical_bytes_are_a_repeat_and_only_once() {
        let repeats = Repeats::default();
        assert!(!repeats.any());
        repeats.remember(identity("a"), Fate::Stored, Instant::now());
        assert!(repeats.any());
        assert!(repeats.take(&identity("b")).is_none(), "the correlator alone proves nothing");
        assert!(repeats.take(&identity("a")).is_some());
        assert!(repeats.take(&identity("a")).is_none());
        assert!(!repeats.any());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let repeats = Repeats::default();
        for _ in 0..2 * MOST {
            repeats.remember(identity("a"), Fate::Stored, Instant::now());
        }
        assert_eq!(repeats.count.load(Ordering::Relaxed), MOST);
        let mut large = identity("");
        for name in 0..64 {
            let name = HeaderName::try_from(format!("x-{name}")).unwrap();
            large.headers.append(name, HeaderValue::from_bytes(&[b'x'; 16 << 10]).unwrap());
        }
        repeats.remember(large.clone(), Fate::Stored, Instant::now());
        repeats.remember(large, Fate::Stored, Instant::now());
        assert_eq!(repeats.count.load(Ordering::Relaxed), 1);
    }

    fn large(last: u8) -> Identity {
        let mut body = vec![0; 8 << 20];
        body.push(last);
        let path = PathAndQuery::from_static("/");
        Identity::new(Method::POST, path, HeaderMap::new(), body.into())
    }

    #[test]
    fn of_a_large_body_little_is_remembered_and_the_same_bytes_are_still_known() {
        let kept = large(1).shortened();
        assert!(kept.len() < 100, "{} bytes", kept.len());
        assert!(kept == large(1) && large(1) == kept && kept == large(1).shortened());
        assert!(kept != large(2) && large(2) != kept && kept != large(2).shortened());
        let repeats = Repeats::default();
        repeats.remember(kept, Fate::Stored, Instant::now());
        assert!(repeats.take(&large(2)).is_none());
        assert!(repeats.take(&large(1)).is_some());
    }
}
