//! One client of a line socket: reads from the log, writes lines.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::Wire;
use super::form;
use super::ledger::Id;
use super::socket::Socket;
use crate::budget::Share;
use crate::record::{Record, Sequence};
use crate::store::{Batch, ReadError};

/// Bytes of lines that one reading of the log is for.
const LOT: usize = 128 << 10;
/// Where memory is short, a client waits for no more than this.
const LEAST: usize = 16 << 10;
/// Whole lines are written together up to this: as much as a TLS record holds.
const CHUNK: usize = 16 << 10;
/// After the disk refused a read.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the lines that are being written may take at a stop.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How a client ended.
enum End {
    /// It closed the connection, or the connection broke.
    Gone(String),
    /// It was let in and would not be any more.
    Expelled(String),
    /// It took nothing for too long.
    Stalled,
    /// The gateway stops; whole lines were sent.
    Stop,
}

/// A line that waits for its chunk to be written.
struct Waiting {
    seq: Sequence,
    len: u64,
}

/// Serves a client to its end; `expelled` says why it may not stay.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &Arc<Socket>,
    stream: S,
    wire: &Arc<Wire>,
    peer: &str,
    expelled: impl Future<Output = String>,
    stop: &CancellationToken,
) {
    let id = socket.join(Arc::clone(wire));
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut client = Client { socket, id, wire, chunk: Vec::new(), waiting: Vec::new() };
    let end = tokio::select! {
        why = closed(&mut reading) => End::Gone(why),
        why = expelled => End::Expelled(why),
        end = client.send_all(&mut writing, stop) => end,
    };
    socket.leave(id, Instant::now());
    let listen = &socket.config.listen;
    match end {
        End::Gone(why) => info!(%listen, peer, why, "a line socket's client has gone"),
        End::Expelled(why) => {
            warn!(%listen, peer, why, "a line socket's client may read no more and was disconnected");
        }
        End::Stalled => {
            let patience = humantime::format_duration(socket.config.patience).to_string();
            warn!(%listen, peer, patience, "a line socket's client took nothing; what it was sent comes again");
        }
        End::Stop => {
            wire.end_in_order();
            let _ = tokio::time::timeout(LAST_LINES, writing.shutdown()).await;
        }
    }
}

/// Waits until the other end closes. What it says is of no interest.
async fn closed(reading: &mut (impl AsyncRead + Unpin)) -> String {
    let mut ignored = [0; 1024];
    loop {
        match reading.read(&mut ignored).await {
            Ok(0) => return "closed".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

struct Client<'a> {
    socket: &'a Arc<Socket>,
    id: Id,
    wire: &'a Wire,
    chunk: Vec<u8>,
    waiting: Vec<Waiting>,
}

impl Client<'_> {
    async fn send_all<W: AsyncWrite>(
        &mut self,
        to: &mut WriteHalf<W>,
        stop: &CancellationToken,
    ) -> End {
        loop {
            let Some(lot) = stop.run_until_cancelled(self.lot()).await else { return End::Stop };
            let Some((batch, mut share)) = lot else { continue };
            for group in &batch.groups {
                let lines_len = group.header.lines_len as usize;
                self.socket.budget.grow(&mut share, lines_len.saturating_sub(LOT)).await;
                let Ok(lines) = group.lines() else {
                    // Its checksum was right when it was read.
                    return End::Gone("a group does not unpack".to_owned());
                };
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    self.add(line);
                    if self.chunk.len() >= CHUNK
                        && let Err(end) = self.write(to, stop).await
                    {
                        return end;
                    }
                }
            }
            if let Err(end) = self.write(to, stop).await {
                return end;
            }
            self.socket.lock().done(self.id);
            if stop.is_cancelled() {
                return End::Stop;
            }
        }
    }

    /// The next records for this client; waits for them. `None` where it is
    /// to be tried again.
    async fn lot(&self) -> Option<(Batch, Share)> {
        let socket = self.socket;
        self.wait_for_records().await;
        // Before the turn: who waits for memory must not hold up the others.
        let (share, granted) = socket.budget.take_some(LOT, LEAST).await;
        let _turn = socket.turn.lock().await;
        let asked = socket.lock().take(self.id);
        match socket.log.read(asked.clone(), granted).await {
            Ok(batch) => {
                socket.lock().took(self.id, &asked, batch.next);
                Some((batch, share))
            }
            Err(ReadError::Gone { earliest, reason }) => {
                self.skip(&asked, earliest, &format!("{reason:?}"));
                None
            }
            Err(error) => {
                warn!(stream = socket.log.name(), %error, "records could not be read");
                socket.lock().took(self.id, &asked, asked.start);
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    async fn wait_for_records(&self) {
        let socket = self.socket;
        let mut end = socket.log.watch_end();
        loop {
            let returned = socket.returned.notified();
            let now = *end.borrow_and_update();
            if socket.lock().next(self.id) < now {
                return;
            }
            tokio::select! {
                _ = end.changed() => {}
                () = returned => {}
            }
        }
    }

    fn skip(&self, asked: &Range<Sequence>, earliest: Sequence, reason: &str) {
        let socket = self.socket;
        let until = earliest.min(asked.end);
        let numbers = until - asked.start;
        warn!(stream = socket.log.name(), from = asked.start, until, reason, "records are gone");
        socket.gone(numbers);
        let mut ledger = socket.lock();
        ledger.took(self.id, asked, until);
        ledger.done(self.id);
    }

    fn add(&mut self, line: &[u8]) {
        let made = Record::decode(line).map_err(|error| {
            warn!(stream = self.socket.log.name(), %error, "a record cannot be read");
            (Sequence::MAX, "unreadable")
        });
        let made = made.and_then(|record| {
            let made = form::line(self.socket.config.form, &record.notification);
            made.map(|line| (record.seq, line)).map_err(|reason| (record.seq, reason))
        });
        match made {
            Ok((seq, line)) => {
                self.waiting.push(Waiting { seq, len: line.bytes.len() as u64 });
                self.chunk.extend_from_slice(&line.bytes);
                if line.converted {
                    self.socket.converted(seq);
                }
            }
            Err((seq, reason)) => self.socket.left_out(seq, reason),
        }
    }

    /// Writes whole lines, and notes them once the kernel has them.
    async fn write<W: AsyncWrite>(
        &mut self,
        to: &mut WriteHalf<W>,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let writing = async {
            to.write_all(&self.chunk).await?;
            to.flush().await
        };
        let at_a_stop = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_LINES).await;
        };
        let written = tokio::select! {
            written = tokio::time::timeout(self.socket.config.patience, writing) => written,
            () = at_a_stop => return Err(End::Gone("the gateway stops".to_owned())),
        };
        match written {
            Err(_) => return Err(End::Stalled),
            Ok(Err(error)) => return Err(End::Gone(error.to_string())),
            Ok(Ok(())) => {}
        }
        self.socket.sent(self.waiting.len() as u64, self.chunk.len() as u64);
        let end = self.wire.written();
        let mut ledger = self.socket.lock();
        for Waiting { seq, len } in self.waiting.drain(..) {
            ledger.sent(self.id, seq, len, end);
        }
        drop(ledger);
        self.chunk.clear();
        // One long line must not be held for as long as the client stays.
        self.chunk.shrink_to(2 * CHUNK);
        Ok(())
    }
}
