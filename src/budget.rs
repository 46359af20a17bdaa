//! One bound for all bytes that requests and answers hold at a time: however
//! many connections there are, memory stays what the configuration says.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size.
const PIECE: usize = 1024;
/// So many that their bytes can be counted, on a board of 32 bits too.
#[allow(clippy::cast_possible_truncation)] // the smaller of the two
const MOST_PIECES: u32 = {
    let countable = usize::MAX / PIECE;
    if countable < (u32::MAX >> 4) as usize { countable as u32 } else { u32::MAX >> 4 }
};

/// The bytes that may be in flight.
#[derive(Debug, Clone)]
pub struct Budget {
    pieces: Arc<Semaphore>,
    all: u32,
    overdraft: Arc<Mutex<()>>,
    /// Counted there too, where this is a part of another budget.
    whole: Option<Arc<Budget>>,
}

/// Bytes in flight; given back when dropped. Counts what is there, not what
/// was announced: who announces much and sends nothing holds up nobody.
#[derive(Debug, Default)]
pub struct Share {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedMutexGuard<()>>,
    whole: Option<Box<Share>>,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let pieces = bytes / PIECE as u64;
        let all = u32::try_from(pieces).unwrap_or(MOST_PIECES).clamp(1, MOST_PIECES);
        let pieces = Arc::new(Semaphore::new(all as usize));
        Self { pieces, all, overdraft: Arc::default(), whole: None }
    }

    /// Half of this budget, for those who must leave the other half to others.
    #[must_use]
    pub fn half(&self) -> Self {
        let half = u64::from(self.all / 2) * PIECE as u64;
        Self { whole: Some(Arc::new(self.clone())), ..Self::new(half) }
    }

    /// Waits until so many bytes are free. What is larger than the whole
    /// budget gets all of it, alone.
    pub async fn take(&self, bytes: usize) -> Share {
        let mut share = Share::default();
        self.grow(&mut share, bytes).await;
        share
    }

    /// Takes what is wanted, but at most half of what is free: those who keep
    /// theirs for long must leave something to whoever comes next. Waits only
    /// where not even `least` is free. Answers how many bytes it took.
    pub async fn take_some(&self, wanted: usize, least: usize) -> (Share, usize) {
        let free = self.pieces.available_permits() * PIECE;
        let bytes = wanted.min((free / 2).max(least));
        (self.take(bytes).await, bytes)
    }

    /// Adds bytes to a share, and waits until they are free. Where all that
    /// is taken belongs to shares that wait to grow, one of them at a time
    /// grows beyond the budget, so that they end.
    pub async fn grow(&self, share: &mut Share, bytes: usize) {
        self.grow_here(share, bytes).await;
        // Only then: who waits for its own half holds nothing of the whole.
        if let Some(whole) = &self.whole {
            // Nor does one that is larger than its half count for more there.
            let counted = share.bytes.min(self.all as usize * PIECE);
            let within = share.whole.get_or_insert_default();
            whole.grow_here(within, counted.saturating_sub(within.bytes)).await;
        }
    }

    async fn grow_here(&self, share: &mut Share, bytes: usize) {
        share.bytes += bytes;
        let missing = self.pieces(share.bytes).saturating_sub(share.pieces());
        if missing == 0 || share.overdraft.is_some() {
            return;
        }
        let pieces = Arc::clone(&self.pieces);
        if let Ok(permit) = Arc::clone(&pieces).try_acquire_many_owned(missing) {
            share.add(permit);
        } else if share.permit.is_none() {
            // Who holds nothing yet keeps nobody waiting.
            if let Ok(permit) = pieces.acquire_many_owned(missing).await {
                share.add(permit);
            }
        } else {
            tokio::select! {
                biased;
                Ok(permit) = pieces.acquire_many_owned(missing) => share.add(permit),
                overdraft = Arc::clone(&self.overdraft).lock_owned() => {
                    share.overdraft = Some(overdraft);
                }
            }
        }
    }

    /// Bytes that are in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.all as usize - self.pieces.available_permits()) * PIECE
    }

    fn pieces(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX).clamp(1, self.all)
    }
}

impl Share {
    /// Gives back all but so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(whole) = &mut self.whole {
            whole.shrink(bytes);
        }
        self.bytes = self.bytes.min(bytes);
        let kept = bytes.div_ceil(PIECE).max(1);
        if let Some(permit) = &mut self.permit {
            let spare = permit.num_permits().saturating_sub(kept);
            drop(permit.split(spare));
        }
    }

    fn pieces(&self) -> u32 {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits(growing: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_secs(1), growing).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_counted_and_given_back() {
        let budget = Budget::new(8 << 10);
        let mut share = budget.take(6 << 10).await;
        assert_eq!(budget.in_flight(), 6 << 10);
        assert!(waits(async { drop(budget.take(3 << 10).await) }).await);
        share.shrink(1 << 10);
        drop(budget.take(7 << 10).await);
        drop(share);
        assert_eq!(budget.in_flight(), 0);
        drop(budget.take(1 << 30).await);
    }

    #[tokio::test(start_paused = true)]
    async fn shares_that_wait_for_each_other_grow_one_at_a_time() {
        let budget = Budget::new(8 << 10);
        let (mut one, mut other) = (budget.take(4 << 10).await, budget.take(4 << 10).await);
        assert!(!waits(budget.grow(&mut one, 2 << 10)).await);
        assert!(waits(budget.grow(&mut other, 2 << 10)).await);
        drop(one);
        assert!(!waits(budget.grow(&mut other, 2 << 10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_some_leaves_some() {
        let budget = Budget::new(8 << 10);
        let (_first, first) = budget.take_some(1 << 20, 1 << 10).await;
        let (_second, second) = budget.take_some(1 << 20, 1 << 10).await;
        assert_eq!((first, second, budget.in_flight()), (4 << 10, 2 << 10, 6 << 10));
        assert_eq!(budget.take_some(10, 1 << 10).await.1, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_beyond_what_can_be_addressed_counts_what_is_taken() {
        for bytes in [1 << 32, (1 << 32) + (1 << 20), 1 << 40, 1 << 41, u64::MAX] {
            let budget = Budget::new(bytes);
            assert_eq!(budget.in_flight(), 0);
            let (share, got) = budget.take_some(8 << 20, 1 << 10).await;
            assert_eq!((got, budget.in_flight()), (8 << 20, 8 << 20), "of {bytes}");
            drop((share, budget.half().take(1 << 30).await));
            assert_eq!(budget.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_budget_leaves_the_other_half() {
        let budget = Budget::new(8 << 10);
        let half = budget.half();
        let held = half.take(1 << 20).await;
        assert!(waits(async { drop(half.take(1).await) }).await);
        drop(budget.take(4 << 10).await);
        drop(held);
        assert_eq!((half.in_flight(), budget.in_flight()), (0, 0));
    }
}
