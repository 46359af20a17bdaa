//! What the replay promises, against a scripted Orion and a real store.

mod failures;
mod fleet;
mod orion;
mod promises;

use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::orion::dead_letters::Listed;
use crate::store;
use crate::write_back::{Attempt, Batch, Entry, Request};
use orion::Orion;

const SOON: Duration = Duration::from_secs(20);

struct Gateway {
    store: Store,
    letters: DeadLetters,
    signs: Arc<Notify>,
    _folder: TempDir,
}

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Gateway {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = store::Config::default();
        let store =
            Store::open(folder.path(), config, Vec::new(), store::Metrics::default()).unwrap();
        let (log, write_backs) = (store.dead_letters(), store.write_backs());
        let letters = DeadLetters::open(Arc::clone(log), Arc::clone(write_backs)).await.unwrap();
        Self { store, letters, signs: Arc::default(), _folder: folder }
    }

    async fn append(&self, entry: Entry) -> u64 {
        let line = entry.to_line(SystemTime::now());
        self.store.write_backs().append(vec![line]).await.unwrap().start
    }

    async fn patch(&self, entity: &str, body: &str) -> u64 {
        self.append(patch(entity, body)).await
    }

    fn run(&self, config: Config) -> Running {
        let replay = Replay::new(
            config,
            Logs::from(&self.store),
            self.letters.clone(),
            Metrics::default(),
            Arc::clone(&self.signs),
        )
        .unwrap();
        let (handle, stop) = (replay.handle(), CancellationToken::new());
        let task = tokio::spawn(replay.run(stop.clone()));
        Running { handle, stop, task }
    }

    /// Waits for that many dead letters.
    async fn dead(&self, count: usize) -> Vec<Listed> {
        let mut end = self.store.dead_letters().watch_end();
        tokio::time::timeout(SOON, async {
            while self.letters.count() < count {
                let _ = tokio::time::timeout(Duration::from_millis(20), end.changed()).await;
            }
        })
        .await
        .expect("dead letters in time");
        self.letters.list(0, 100).await.unwrap()
    }
}

impl Running {
    /// Ends as a crash does.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    async fn until(&self, what: impl Fn(&Status) -> bool) {
        tokio::time::timeout(SOON, async {
            while !what(&self.handle.status()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the replay's status in time");
    }

    async fn idle(&self) {
        self.until(|status| !status.targets.is_empty() && status.waiting == 0).await;
    }
}

fn request(method: &str, path: &str, body: &str) -> Request {
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".into())],
        body: body.to_owned().into(),
    }
}

fn patch(entity: &str, body: &str) -> Entry {
    Entry::Request(request("PATCH", &format!("/v2/entities/{entity}/attrs"), body))
}

fn value(value: u32) -> String {
    format!(r#"{{"t":{{"value":{value},"type":"Number"}}}}"#)
}

const INCREMENT: &str = r#"{"t":{"value":{"$inc":1},"type":"Number"}}"#;

fn config(orion: &Orion) -> Config {
    at(orion.url())
}

fn at(url: String) -> Config {
    Config {
        url,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        ..Config::default()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}
