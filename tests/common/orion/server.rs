//! The listener and its connections.
//!
//! By hand and not with hyper: half an answer, a silent close and the
//! spelling of headers are what the tests are about.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::Answer;
use super::faults::{self, Effect, Fault};
use super::request::{Answered, Request};
use super::state::{Connection, Shared, State};
use super::{limits, route};
use crate::common::wire::{self, Framing};

/// A socket on a port of its own that does not listen: it keeps the port
/// while the broker is down, and connections are refused.
pub fn reserve(port: u16) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let at = socket.local_addr()?;
    Ok((socket, at))
}

/// Listens, and serves until it is aborted; its connections end with it.
pub fn start(at: SocketAddr, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let listener = reserve(at.port())?.0.listen(1024)?;
    Ok(tokio::spawn(accept(listener, shared)))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Before it counts as idle, so that no order to close misses it.
        let close_idle = shared.close_idle.subscribe();
        let number = shared.change(|state| {
            state.accepted += 1;
            state.connections.insert(state.accepted - 1, Connection::Idle);
            state.accepted - 1
        });
        let open = Open { number, shared: Arc::clone(&shared) };
        connections.spawn(async move {
            let _ = open.serve(stream, close_idle).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An open connection; dropped, it is no longer open.
struct Open {
    number: usize,
    shared: Arc<Shared>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.change(|state| state.connections.remove(&self.number));
    }
}

impl Open {
    async fn serve(
        &self,
        stream: TcpStream,
        mut close_idle: watch::Receiver<u64>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            tokio::select! {
                biased;
                bytes = stream.fill_buf() => if bytes?.is_empty() { return Ok(()) },
                _ = close_idle.changed() => return Ok(()),
            }
            // An order that came while it was idle holds after this request too.
            let ordered = self.is(Connection::Busy, || close_idle.has_changed().unwrap_or(true));
            let Some(head) = wire::read_head(&mut stream).await? else { return Ok(()) };
            let framing = head.framing()?;
            let body = match framing {
                Framing::Length(length) => wire::read_exactly(&mut stream, length).await?,
                Framing::Chunked => wire::read_chunked(&mut stream).await?,
                Framing::Untold => Vec::new(),
            };
            let chunked = framing == Framing::Chunked;
            let request = Request::new(&head, body, chunked, self.number);
            let request = self.shared.record(request);
            let goes_on = self.answer(&mut stream, &request).await?;
            if !goes_on || ordered || head.closes() {
                return Ok(());
            }
            self.is(Connection::Idle, || close_idle.mark_unchanged());
        }
    }

    /// Notes what it does, and looks at the orders in the same step.
    fn is<T>(&self, what: Connection, orders: impl FnOnce() -> T) -> T {
        self.shared.change(|state| {
            state.connections.insert(self.number, what);
            orders()
        })
    }

    /// Answers one request; false where the connection is to be closed.
    async fn answer(&self, to: &mut BufReader<TcpStream>, request: &Request) -> io::Result<bool> {
        let number = request.number;
        let fault = self.shared.change(|state| faults::pick(&mut state.faults, request));
        if let Some(fault) = &fault {
            fault.held().await;
        }
        match fault.as_ref().map(Fault::effect) {
            None | Some(Effect::None) => self.say(to, request, self.apply(request)).await?,
            Some(Effect::Answer(answer)) => self.say(to, request, answer.clone()).await?,
            Some(Effect::ApplyThenAnswer(answer)) => {
                self.apply(request);
                self.say(to, request, answer.clone()).await?;
            }
            Some(Effect::NeedToken(token)) => {
                let answer = if faults::carries(request, token) {
                    self.apply(request)
                } else {
                    Answer::v2(401, "Unauthorized", "no valid token")
                };
                self.say(to, request, answer).await?;
            }
            Some(Effect::ApplyThenClose) => {
                self.apply(request);
                self.shared.answered(number, Answered::Closed);
                return Ok(false);
            }
            Some(Effect::CloseBeforeApply) => {
                self.shared.answered(number, Answered::Closed);
                return Ok(false);
            }
            Some(Effect::AnswerHalfThenClose) => {
                let answer = self.apply(request);
                let bytes = answer.to_bytes(correlator(request));
                self.shared.answered(number, Answered::Half(answer.status));
                to.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records the answer and then sends it, so that a client that has it
    /// finds it in the records too.
    async fn say(
        &self,
        to: &mut BufReader<TcpStream>,
        request: &Request,
        answer: Answer,
    ) -> io::Result<()> {
        let bytes = answer.to_bytes(correlator(request));
        self.shared.answered(request.number, Answered::Status(answer.status, answer.body));
        to.write_all(&bytes).await
    }

    fn apply(&self, request: &Request) -> Answer {
        self.shared.change(|state| {
            if request.chunked && request.body.len() >= limits::CHUNKED_CRASH {
                state.crashes += 1;
            }
            let State { entities, temporal, .. } = state;
            let before = entities.applied();
            let answer = limits::check_head(request)
                .and_then(|()| route(entities, request, *temporal))
                .unwrap_or_else(|refusal| refusal);
            state.requests[request.number].applied = state.entities.applied() > before;
            answer
        })
    }
}

fn correlator(request: &Request) -> &str {
    request.header("fiware-correlator").unwrap_or("2dbd3f16-e663-11f1-a40b-02fc00000001")
}
