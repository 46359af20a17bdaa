//! STUB
mod config;
pub use config::{Coalesce, Config, TargetConfig};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct Status {
    pub waiting: u64,
    pub in_flight: usize,
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub oldest_waiting: Option<SystemTime>,
    pub targets: Vec<TargetStatus>,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetStatus {
    pub name: String,
    pub url: String,
    pub up: bool,
    #[serde(with = "humantime_serde")]
    pub since: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub next_try: Option<SystemTime>,
}
#[derive(Clone)]
pub struct Watch;
impl Watch {
    pub fn status(&self) -> Status {
        Status::default()
    }
}
pub struct Metrics;
impl Metrics {
    pub fn register(_: &mut prometheus_client::registry::Registry) -> Self {
        Self
    }
}
#[derive(Clone)]
pub struct Control;
impl Control {
    pub fn reload(&self, _: &Config) {}
}
pub struct Replay;
impl Replay {
    pub fn new(
        _: Config,
        _: &std::sync::Arc<crate::store::Store>,
        _: crate::orion::dead_letters::DeadLetters,
        _: Metrics,
        _: std::sync::Arc<tokio::sync::Notify>,
    ) -> Result<Self, std::io::Error> {
        Ok(Self)
    }
    pub fn control(&self) -> Control {
        Control
    }
    pub fn watch(&self) -> Watch {
        Watch
    }
    pub async fn run(
        self,
        stop: tokio_util::sync::CancellationToken,
    ) -> Result<(), std::io::Error> {
        stop.cancelled().await;
        Ok(())
    }
}
