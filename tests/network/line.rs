//! A line between two programs that does what lines do: it stalls, breaks,
//! swallows, crawls, and cuts an answer in its middle.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connected to who listens.
    There,
    Back,
}

/// What the line does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Bytes are held, and go on later.
    Stalled,
    /// Bytes of this way vanish for good, the end of the connection too:
    /// connections that meet this are half-open from then on.
    Swallows(Way),
    /// Answers pass at so many bytes a second.
    Crawls(u32),
    /// Connections are reset after so many bytes of an answer.
    CutsAnswers(usize),
}

/// A line to one listener at a time; connections already made stay with theirs.
pub struct Line {
    at: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    weather: watch::Sender<Weather>,
    resets: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
        self.resets.send_replace(());
    }
}

impl Line {
    pub async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, to) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(to)));
        let (weather, resets) = (watch::Sender::new(Weather::Fair), watch::Sender::new(()));
        let (target, skies, cuts) = (Arc::clone(&to), weather.clone(), resets.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let to = *target.lock().unwrap_or_else(PoisonError::into_inner);
                tokio::spawn(connection(near, to, skies.subscribe(), cuts.subscribe()));
            }
        });
        Self { at, to, weather, resets, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Leads somewhere else from now on.
    pub fn lead_to(&self, to: SocketAddr) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets every connection, with all that is held of it.
    pub fn reset(&self) {
        self.resets.send_replace(());
    }
}

async fn connection(
    mut near: TcpStream,
    to: SocketAddr,
    weather: watch::Receiver<Weather>,
    mut resets: watch::Receiver<()>,
) {
    // Small: what is not taken at the near end soon stands at the far one.
    let Ok(socket) = TcpSocket::new_v4() else { return };
    let _ = socket.set_recv_buffer_size(32 * 1024);
    let Ok(mut far) = socket.connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let is_over = {
        let (mut from_near, mut to_near) = near.split();
        let (mut from_far, mut to_far) = far.split();
        let there = pump(&mut from_near, &mut to_far, Way::There, weather.clone());
        let back = pump(&mut from_far, &mut to_near, Way::Back, weather);
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.is_ok(),
            _ = resets.changed() => false,
        }
    };
    if !is_over {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Carries bytes one way, to their end.
async fn pump(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    way: Way,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    let mut carried = 0;
    let mut swallowed = false;
    loop {
        let n = from.read(&mut bytes).await?;
        let mut piece = &bytes[..n];
        loop {
            let now = *weather.borrow_and_update();
            swallowed |= now == Weather::Swallows(way);
            if swallowed {
                break;
            }
            let (len, pause) = match now {
                Weather::Stalled => {
                    weather.changed().await.map_err(io::Error::other)?;
                    continue;
                }
                Weather::Crawls(rate) if way == Way::Back => {
                    let len = piece.len().min(512);
                    let seconds = f64::from(u32::try_from(len).unwrap_or(0)) / f64::from(rate);
                    (len, Some(Duration::from_secs_f64(seconds)))
                }
                Weather::CutsAnswers(after) if way == Way::Back && n > 0 => {
                    if carried >= after {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    (piece.len().min(after - carried), None)
                }
                _ => (piece.len(), None),
            };
            to.write_all(&piece[..len]).await?;
            carried += len;
            piece = &piece[len..];
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            if piece.is_empty() {
                break;
            }
        }
        if n == 0 {
            if swallowed {
                // The other end never learns of it.
                return std::future::pending().await;
            }
            return to.shutdown().await;
        }
    }
}
