//! Futures in boxes.
//!
//! What drives a task is made anew for each type of future, by tokio twice,
//! for each of its schedulers: 6 kB of the program. In a box all are one type.

use std::pin::Pin;

/// A future of any type.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Puts a future into a box, to be spawned.
pub fn boxed<T>(future: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
    Box::pin(future)
}
