//! The intake under arbitrary bytes, as they would come on a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::IntakeMetrics;
use super::intake::{self, Rules, Sender};
use super::route::Route;
use crate::budget::Budget;
use crate::serve::{Limits, drive};
use crate::store::{Config, DEFAULT_STREAM, Metrics, Store};

const LONG: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { connections: 1, handshake: LONG, head: LONG, write: LONG };

/// An intake with a store of its own.
pub struct Intake {
    runtime: tokio::runtime::Runtime,
    intake: Arc<intake::Intake>,
    store: Arc<Store>,
}

impl Intake {
    /// Keeps what it takes in `folder`, and little of it.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let inside = runtime.enter();
        let config =
            Config { min_free: 0, max_bytes: 4 << 20, max_streams: 2, ..Config::default() };
        let store = Store::open(folder, config, Vec::new(), Metrics::default());
        let store = Arc::new(store.expect("a store"));
        let route = Route {
            stream: "typed".to_owned(),
            entity_type: Some("Room".to_owned()),
            ..Route::default()
        };
        let rules = Rules { routes: vec![route], secret: None };
        let intake = intake::Intake::new(
            intake::Config { max_body: 1 << 20, ..intake::Config::default() },
            Arc::new(ArcSwap::from_pointee(rules)),
            Arc::clone(&store),
            Budget::new(16 << 20),
            Arc::new(Notify::new()),
            IntakeMetrics::register(&mut Registry::default()),
        );
        drop(inside);
        Self { runtime, intake: Arc::new(intake), store }
    }

    /// Takes a connection with these bytes. What was answered is HTTP, and
    /// what was stored can be read again.
    pub fn take(&self, data: &[u8]) {
        let next = || self.store.streams().iter().map(|log| log.bounds().next).sum::<u64>();
        let before = next();
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let sender = Sender::new(Arc::clone(&self.intake), None);
        let mut answers = Vec::new();
        self.runtime.block_on(async {
            let talk = async {
                // It may have closed by then.
                let _ = client.write_all(data).await;
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut answers).await;
            };
            tokio::join!(drive(server, LIMITS, std::future::pending(), sender), talk);
        });
        assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "no answer of HTTP");
        if next() == before {
            return;
        }
        for log in self.store.streams() {
            let (from, end) = (log.last(1), log.bounds().next);
            if from < end {
                let batch =
                    self.runtime.block_on(log.read(from..end, 1 << 20)).expect("it is there");
                let records = batch.records().expect("a record of our own can be read");
                assert!(!records.is_empty(), "{} has none", log.name());
            }
        }
        assert!(self.store.stream(DEFAULT_STREAM).is_some());
    }
}
