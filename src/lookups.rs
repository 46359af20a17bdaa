//! Looking names up, two at a time for each client.
//!
//! The system's look-up takes a thread of those that the store reads with, and
//! cannot be broken off: where the resolver is behind a line that is down, each
//! takes up to a minute, and requests that are tried again would take all of
//! the threads.

use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::boxed::boxed;

const AT_A_TIME: usize = 2;

/// Looks names up for one client.
pub struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Resolve for Lookups {
    fn resolve(&self, name: Name) -> Resolving {
        let turns = Arc::clone(&self.0);
        Box::pin(async move {
            // Who gives up while it waits for its turn leaves nothing behind;
            // afterwards the turn is over when the thread is free again.
            let turn = turns.acquire_owned().await?;
            let lookup = tokio::spawn(boxed(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await;
                drop(turn);
                found.map(Vec::from_iter)
            }));
            let found = lookup.await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_found_and_one_that_waits_for_its_turn_can_be_given_up() {
        let lookups = Lookups::default();
        let name = || "localhost".parse().unwrap();
        assert!(lookups.resolve(name()).await.unwrap().all(|address| address.ip().is_loopback()));
        let turns = Arc::clone(&lookups.0).acquire_many_owned(2).await.unwrap();
        let waits = tokio::time::timeout(std::time::Duration::ZERO, lookups.resolve(name()));
        assert!(waits.await.is_err());
        drop(turns);
        assert!(lookups.resolve(name()).await.is_ok());
        assert_eq!(lookups.0.available_permits(), AT_A_TIME);
    }
}
