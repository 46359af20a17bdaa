//! One bound for all bytes that requests and answers hold at a time: however
//! many connections there are, memory stays what the configuration says.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size.
const PIECE: usize = 1024;

/// The bytes that may be in flight.
#[derive(Debug, Clone)]
pub struct Budget {
    pieces: Arc<Semaphore>,
    all: u32,
}

/// Bytes in flight; given back when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let pieces = bytes / PIECE as u64;
        let all = u32::try_from(pieces).unwrap_or(u32::MAX >> 4).max(1);
        Self { pieces: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until so many bytes are free. What is larger than the whole
    /// budget gets all of it, alone.
    pub async fn take(&self, bytes: usize) -> Share {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX).clamp(1, self.all);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.pieces).acquire_many_owned(pieces).await.ok();
        Share { _permit: permit }
    }

    /// Bytes that are in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.all as usize - self.pieces.available_permits()) * PIECE
    }
}
