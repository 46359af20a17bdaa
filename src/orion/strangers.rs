//! Tells of senders that may not send. What they send is lost, and Orion alone
//! is told; a line for each would let anybody fill the log.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

const PAUSE: Duration = Duration::from_mins(10);

/// When the last line was written.
#[derive(Default)]
pub(super) struct Strangers(Mutex<Option<Instant>>);

impl Strangers {
    /// One was refused for that reason.
    pub(super) fn refused(&self, from: Option<SocketAddr>, reason: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= PAUSE) {
            *told = Some(Instant::now());
            let from = from.map(|from| from.ip().to_canonical().to_string()).unwrap_or_default();
            warn!(
                from,
                reason,
                "notifications are refused, and lost; the next ones are only counted for ten minutes"
            );
        }
    }
}
