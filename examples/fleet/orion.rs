//! As much of an Orion as a fleet needs: it takes every write, as many at a
//! time as it can, and notes who came when.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::histogram::{self, SLOT};

#[derive(Default)]
struct Seen {
    /// When each gateway came first, and when it was served, since the return.
    first: BTreeMap<String, Duration>,
    served: BTreeMap<String, Duration>,
    /// Requests of the slot that is running.
    slot: (u128, usize),
}

struct Shared {
    back: Instant,
    capacity: usize,
    seen: Mutex<Seen>,
    count: watch::Sender<usize>,
}

pub struct Orion(Arc<Shared>);

impl Orion {
    pub async fn start(address: SocketAddr, capacity: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Arc::new(Shared {
            back: Instant::now(),
            capacity,
            seen: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.back.elapsed(), Arc::clone(&serving)));
            }
        });
        Ok(Self(shared))
    }

    /// Waits until so many gateways were served.
    pub async fn wait_for(&self, gateways: usize) {
        let mut count = self.0.count.subscribe();
        let _ = count.wait_for(|count| *count >= gateways).await;
    }

    pub fn print(&self) {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        histogram::print("first connections", seen.first.values().copied());
        histogram::print("served", seen.served.values().copied());
    }
}

async fn serve(stream: TcpStream, came: Duration, shared: Arc<Shared>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut came = Some(came);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let gateway = line.split('/').nth(3).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if header.trim_end().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        let now = shared.back.elapsed();
        let answer = shared.note(gateway, came.take().unwrap_or(now), now);
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

impl Shared {
    fn note(&self, gateway: String, came: Duration, now: Duration) -> &'static str {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.first.entry(gateway.clone()).or_insert(came);
        let slot = now.as_millis() / SLOT.as_millis();
        if seen.slot.0 != slot {
            seen.slot = (slot, 0);
        }
        seen.slot.1 += 1;
        if seen.slot.1 > self.capacity {
            return "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        }
        seen.served.entry(gateway).or_insert(now);
        let served = seen.served.len();
        drop(seen);
        self.count.send_replace(served);
        "HTTP/1.1 204 No Content\r\n\r\n"
    }
}
