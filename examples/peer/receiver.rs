//! Where the program under test sends to: an HTTP or HTTPS server that takes
//! everything, while it is there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ngsi_ferry::tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::wire::{self, Framing};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Listens while it is there; when it goes away, every connection is cut.
pub async fn run(
    at: SocketAddr,
    tls: Option<Arc<Acceptor>>,
    ledger: Ledger,
    mut is_there: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        turns(&mut is_there, true).await?;
        let listener = TcpListener::bind(at).await?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                gone = turns(&mut is_there, false) => {
                    gone?;
                    break;
                }
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    connections.spawn(accept(stream, tls.clone(), ledger.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Waits until it is there, or until it is not.
pub async fn turns(is_there: &mut watch::Receiver<bool>, wanted: bool) -> Result<()> {
    is_there.wait_for(|there| *there == wanted).await?;
    Ok(())
}

async fn accept(stream: TcpStream, tls: Option<Arc<Acceptor>>, ledger: Ledger) {
    // What a connection ends with is the program's concern.
    let _ = match tls {
        None => serve(stream, &ledger).await,
        Some(tls) => match tls.accept(stream, HANDSHAKE).await {
            Ok((stream, _)) => serve(stream, &ledger).await,
            Err(error) => {
                eprintln!("peer: the program's TLS: {error}");
                Ok(())
            }
        },
    };
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, ledger: &Ledger) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = wire::read_head(&mut stream).await? {
        if head.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = match head.framing()? {
            Framing::Length(length) => wire::read_exactly(&mut stream, length).await?,
            Framing::Chunked => wire::read_chunked(&mut stream).await?,
            Framing::Untold => Vec::new(),
        };
        // Not before it is whole: what was cut short is not received.
        ledger.received(&body);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
        stream.flush().await?;
        if head.closes() {
            break;
        }
    }
    Ok(())
}
