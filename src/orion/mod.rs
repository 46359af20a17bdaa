//! The context broker's side: notifications in, write-backs out.

pub mod dead_letters;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod intake;
mod intake_metrics;
pub mod outcome;
mod repeats;
pub mod replay;
mod route;
mod strangers;

pub use intake_metrics::IntakeMetrics;
pub use route::Route;
