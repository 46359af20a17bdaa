//! A program that is easily written, and wrong: it answers at once, writes a
//! little later, and never syncs. Its losses show that they would be seen.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::http::{self, Client};
use crate::wire::{self, Framing};

/// How long it keeps in memory what it has promised.
const WRITES_EVERY: Duration = Duration::from_millis(5);

type Unwritten = Arc<Mutex<Vec<u8>>>;

pub async fn run(in_port: u16, out_port: u16, data_dir: &Path) -> Result<()> {
    fs::create_dir_all(data_dir)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, in_port)).await?;
    let unwritten = Unwritten::default();
    let queue = OpenOptions::new().create(true).append(true).open(data_dir.join("queue"))?;
    tokio::spawn(write(queue, Arc::clone(&unwritten)));
    let receiver = SocketAddr::from((Ipv4Addr::LOCALHOST, out_port));
    tokio::spawn(forward(data_dir.to_owned(), receiver));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(take(stream, Arc::clone(&unwritten)));
    }
}

async fn take(stream: TcpStream, unwritten: Unwritten) -> Result<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    while let Some(head) = wire::read_head(&mut stream).await? {
        let Framing::Length(length) = head.framing()? else { break };
        let body = wire::read_exactly(&mut stream, length).await?;
        unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend([&body[..], b"\n"].concat());
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
    Ok(())
}

async fn write(mut queue: File, unwritten: Unwritten) -> Result<()> {
    loop {
        sleep(WRITES_EVERY).await;
        let lines = std::mem::take(&mut *unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        queue.write_all(&lines)?;
    }
}

/// Sends line by line, and remembers how many lines it has sent.
async fn forward(data_dir: std::path::PathBuf, receiver: SocketAddr) -> Result<()> {
    let (queue, told) = (data_dir.join("queue"), data_dir.join("sent"));
    let mut sent: usize = fs::read_to_string(&told).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    loop {
        let lines = BufReader::new(File::open(&queue)?).split(b'\n').skip(sent);
        if let Ok(mut client) = Client::connect(receiver).await {
            for line in lines {
                let raw = http::request("POST", "/", &[], &line?);
                if client.exchange(&raw).await.is_err() {
                    break;
                }
                sent += 1;
                fs::write(&told, sent.to_string())?;
            }
        }
        sleep(WRITES_EVERY).await;
    }
}
