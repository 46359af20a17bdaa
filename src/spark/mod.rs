//! Spark's side: streams out over HTTP on TLS, write-backs in.

mod access;
pub mod api;
mod config;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub mod line_socket;
mod metrics;
mod outboxes;
mod pass_through;
mod query;
mod reading;
mod records;
mod staging;

pub use access::{Access, AccessError, Grant, Right};
pub use config::{Config, PassThroughConfig};
pub use metrics::SparkMetrics;
pub use outboxes::Outboxes;
pub use pass_through::PassThrough;
pub use reading::AnswerBounds;
pub use records::answer as answer_records;
pub use staging::{Staging, TakeOverError};
