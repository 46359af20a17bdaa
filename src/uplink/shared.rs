//! What the tasks of the uplink share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::client::{Answer, Asked, Client};
use super::config::Config;
use super::line::{Cause, Line, Pass};
use super::metrics::Metrics;
use super::status::Streams;
use super::{Error, Parts};
use crate::budget::Budget;
use crate::health::{Jobs, LongestWait};
use crate::store::Store;

/// Streams that may send at a time: while the relay stores what one sent,
/// another has the line. Who waits is served in its turn.
const SENDING: usize = 3;

pub(super) struct Shared {
    /// The gateway's name, here and at the relay.
    pub id: String,
    pub config: ArcSwap<Config>,
    pub client: ArcSwap<Client>,
    pub line: Line,
    pub store: Arc<Store>,
    pub budget: Budget,
    pub turns: Semaphore,
    pub streams: Streams,
    pub metrics: Metrics,
    /// Requests under way.
    pub requests: Jobs,
    pub longest_answer: LongestWait,
    /// Reading and storing under way.
    pub steps: Jobs,
}

impl Shared {
    pub(super) fn new(config: Config, parts: Parts) -> Result<Self, Error> {
        let client = Client::new(&config)?;
        let Parts { id, store, budget, metrics } = parts;
        Ok(Self {
            line: Line::new(&client.url),
            id,
            client: ArcSwap::from_pointee(client),
            config: ArcSwap::from_pointee(config),
            store,
            budget,
            turns: Semaphore::new(SENDING),
            streams: Streams::default(),
            metrics,
            requests: Jobs::default(),
            longest_answer: LongestWait::default(),
            steps: Jobs::default(),
        })
    }

    /// Where the relay keeps what is of this gateway.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v1/gateways/{}/{rest}", self.id)
    }

    pub(super) fn reload(&self, config: &Config) -> Result<(), Error> {
        let mut client = Client::new(config)?;
        let old = self.client.load();
        if client.rate == old.rate {
            // A new bucket would be full.
            client.pace.clone_from(&old.pace);
        }
        self.line.try_now(&client.url);
        self.client.store(Arc::new(client));
        self.config.store(Arc::new(config.clone()));
        Ok(())
    }

    /// Sends a request and tells the line what came of it. Tells nothing more
    /// where the relay did not answer, or does not let the gateway in.
    pub(super) async fn ask(
        &self,
        pass: Pass<'_>,
        client: &Client,
        asked: Asked,
    ) -> Option<Answer> {
        let may_be_missing = asked.may_be_missing;
        let under_way = self.requests.begin();
        let answered = client.send(asked).await;
        drop(under_way);
        let answer = match answered {
            Ok(answer) => answer,
            Err(reason) => {
                pass.down(Cause::Unreachable, &reason);
                return None;
            }
        };
        let is_refusal = matches!(answer.status, 401 | 403 | 405 | 421)
            || answer.status == 404 && !may_be_missing;
        if is_refusal {
            pass.down(Cause::Refused, &self.refusal(&answer));
            return None;
        }
        pass.up();
        Some(answer)
    }

    /// What is to be done where the relay does not let the gateway in.
    fn refusal(&self, answer: &Answer) -> String {
        let config = self.config.load();
        let name = config.cert.as_deref().map(super::certificate_name);
        let (id, says) = (&self.id, answer.says());
        match name {
            Some(Ok(Some(name))) if name != *id => format!(
                "{says} (the gateway's id is {id}, its certificate is of {name}: set id = \"{name}\", \
                 or make a certificate with `ngsi-ferry pki client {id}` on the relay)"
            ),
            Some(Ok(Some(_))) => format!(
                "{says} (this gateway is {id}: on the relay, a [[client]] of that name, or \"*\", \
                 needs allow = [\"uplink\"], and uplink.url must be its Spark API)"
            ),
            _ => format!(
                "{says} (uplink.cert must be a certificate for {id}: make one with \
                 `ngsi-ferry pki client {id}` on the relay)"
            ),
        }
    }
}
