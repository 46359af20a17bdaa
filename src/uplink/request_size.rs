//! How much goes up in one request: more on a line that is fast, less on one
//! that is slow, and never what the relay refused as too large.

use std::time::Duration;

/// Bytes of lines of the first request, of one that tries a line, and of one on
/// a line that is too slow for more: a line of 1 kB/s takes it in 20 s.
pub(super) const LEAST: usize = 64 << 10;

pub(super) struct RequestSize {
    /// Bytes of lines of the next request.
    bytes: usize,
    /// The relay refused twice as many as too large.
    ceiling: usize,
}

impl RequestSize {
    pub(super) fn new() -> Self {
        Self { bytes: LEAST, ceiling: usize::MAX }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A request was answered after `took`, or not within `timeout`.
    pub(super) fn adapt(&mut self, took: Duration, timeout: Duration, largest: usize) {
        if took < timeout / 4 {
            self.bytes = (self.bytes * 2).min(largest).min(self.ceiling);
        } else if took > timeout / 2 {
            self.bytes = (self.bytes / 2).max(LEAST.min(self.bytes));
        }
    }

    /// The relay refused a request as too large.
    pub(super) fn refused(&mut self) {
        self.bytes = (self.bytes / 2).max(1);
        self.ceiling = self.bytes;
    }

    /// The relay was away: it may take more now.
    pub(super) fn forget_refusals(&mut self) {
        self.ceiling = usize::MAX;
    }
}
