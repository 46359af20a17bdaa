//! The one stand-in for a context broker: Orion 4.7's and Orion-LD's answers
//! to writes, their limits, faults on demand, and their notifications.
//!
//! Measured on Orion 4.7.0-next: status codes, what a 422 applied, the
//! limits, the bytes of notifications. After its documentation and source, and
//! not measured: the wording of most error descriptions, and what an update of
//! some missing *attributes* is answered.

mod answer;
mod entities;
mod faults;
mod ld;
mod ld_batch;
pub mod ld_notifier;
mod ledger;
mod limits;
pub mod notification;
pub mod notifier;
mod request;
mod server;
mod state;
mod v2;
mod v2_batch;
mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

pub use answer::Answer;
pub use entities::{Applied, Entities};
pub use faults::{Fault, Gate};
pub use ledger::{Comparison, Ledger, Sent};
pub use request::{Answered, Request};
pub use server::reserve;
pub use state::{Connection, State};

/// No wait of a test takes this long unless it fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A context broker on a port of its own.
#[derive(Debug)]
pub struct OrionStandIn {
    at: SocketAddr,
    shared: Arc<state::Shared>,
    serving: Option<JoinHandle<()>>,
    /// Keeps the port while the broker is down.
    _reserved: TcpSocket,
}

impl OrionStandIn {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Where it cannot listen.
    #[allow(clippy::unused_async, reason = "it spawns: it must run inside a runtime")]
    pub async fn start() -> Self {
        let mut orion = Self::down();
        orion.up();
        orion
    }

    /// One that refuses connections until [`restart`](Self::restart): its port
    /// is already its own.
    ///
    /// # Panics
    /// Where no port is free.
    pub fn down() -> Self {
        let (reserved, at) = server::reserve(0).expect("a free port");
        Self { at, shared: Arc::new(state::Shared::new()), serving: None, _reserved: reserved }
    }

    pub fn addr(&self) -> SocketAddr {
        self.at
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Every request received, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.look().requests.clone()
    }

    /// The entity as it is now: id, type and attributes.
    pub fn entity(&self, tenant: &str, id: &str) -> Option<Value> {
        self.shared.look().entities.entity(tenant, id)
    }

    /// Every update applied to the entity, in order.
    pub fn history(&self, tenant: &str, id: &str) -> Vec<Applied> {
        self.shared.look().entities.history(tenant, id)
    }

    /// Everything, as it is now.
    pub fn state(&self) -> State {
        self.shared.look().clone()
    }

    /// Waits until the condition holds; looks again at every change.
    ///
    /// # Panics
    /// After half a minute, with all that happened.
    pub async fn wait_for(&self, holds: impl Fn(&State) -> bool) {
        let mut changes = self.shared.changes();
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                changes.mark_unchanged();
                if holds(&self.shared.look()) {
                    return;
                }
                // The sender lives in `self`: waiting cannot fail.
                let _ = changes.changed().await;
            }
        });
        assert!(waited.await.is_ok(), "waited in vain. {}", self.shared.look().dump());
    }

    /// From now on, and after the faults injected before it.
    pub fn inject(&self, fault: &Fault) {
        self.shared.change(|state| state.faults.push(fault.clone()));
    }

    /// Takes all faults back. Who is held by a gate stays held.
    pub fn heal(&self) {
        self.shared.change(|state| state.faults.clear());
    }

    /// Temporal storage: off by default, as in Orion-LD without `-troe`.
    pub fn enable_temporal(&self) {
        self.shared.change(|state| state.temporal = true);
    }

    /// Down: connections are cut, new ones refused. State and requests stay.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
            self.wait_for(|state| state.connections.is_empty()).await;
        }
    }

    /// Down and up again on the same port, with its entities.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.up();
    }

    /// Down and up again on the same port, without any entity. The history
    /// goes too; the requests stay.
    pub async fn restart_wiped(&mut self) {
        self.stop().await;
        self.shared.change(|state| state.entities = Entities::default());
        self.up();
    }

    /// Closes the connections that are idle now, and waits until they are;
    /// one that gets a request at that moment is closed after its answer.
    pub async fn close_idle(&self) {
        let idle: Vec<usize> = {
            let state = self.shared.look();
            self.shared.close_idle.send_modify(|order| *order += 1);
            let idle = state.connections.iter().filter(|(_, what)| **what == Connection::Idle);
            idle.map(|(number, _)| *number).collect()
        };
        self.wait_for(|state| !idle.iter().any(|n| state.connections.contains_key(n))).await;
    }

    fn up(&mut self) {
        let serving = server::start(self.at, Arc::clone(&self.shared));
        self.serving =
            Some(serving.unwrap_or_else(|e| panic!("cannot listen on {}: {e}", self.at)));
    }
}

impl Drop for OrionStandIn {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// Answers a request that no limit refused.
fn route(entities: &mut Entities, request: &Request, temporal: bool) -> Result<Answer, Answer> {
    let segments = request.segments();
    match segments.first().map(String::as_str) {
        Some("version") if request.method == "GET" => Ok(Answer::json(
            200,
            json!({"orion": {"version": "4.7.0-next", "uptime": "0 d, 0 h, 0 m, 1 s"}}),
        )),
        Some("v2") => v2::answer(entities, request),
        Some("ngsi-ld") => ld::answer(entities, request, temporal),
        _ => Err(Answer::v2(404, "NotFound", "no such resource")),
    }
}
