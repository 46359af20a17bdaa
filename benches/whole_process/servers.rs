//! The two reference servers, each run in a process of its own by starting
//! this benchmark again with a hidden argument.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::target::{ADDRESSES_FILE, DATA_DIR};

/// More than the connections of any phase: the committer, not the channel,
/// decides how large a group becomes.
const WAITING: usize = 1024;

#[derive(Clone, Copy)]
pub enum Kind {
    /// Reads the body and answers 204: what HTTP alone costs.
    Bare,
    /// Answers after one fdatasync for every request that was waiting: the
    /// practical limit of durable intake.
    File,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::File => "file",
        }
    }

    pub fn argument(self) -> &'static str {
        match self {
            Self::Bare => "--serve-bare",
            Self::File => "--serve-file",
        }
    }

    pub fn from_argument(argument: &str) -> Option<Self> {
        [Self::Bare, Self::File].into_iter().find(|kind| kind.argument() == argument)
    }
}

pub fn run(kind: Kind) -> anyhow::Result<()> {
    // Our standard input is a pipe from the benchmark: it closes when that
    // ends, however it ends, and no server is left behind.
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let committer = match kind {
        Kind::Bare => None,
        Kind::File => Some(committer(Path::new(&std::env::var(DATA_DIR)?))?),
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(committer))
}

async fn serve(committer: Option<mpsc::Sender<Waiting>>) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(&listener)?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let committer = committer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, committer.as_ref()));
            // The client closes when it has enough: no error worth telling.
            let _ = hyper::server::conn::http1::Builder::new()
                .title_case_headers(true)
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

/// Told the way the gateway tells it. The name appears with the whole content:
/// whoever waits for the file never reads half of it.
fn announce(listener: &TcpListener) -> anyhow::Result<()> {
    let file = std::env::var(ADDRESSES_FILE)?;
    let partial = format!("{file}.partial");
    std::fs::write(&partial, format!(r#"{{"intake":"{}"}}"#, listener.local_addr()?))?;
    std::fs::rename(partial, file)?;
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    committer: Option<&mpsc::Sender<Waiting>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let status = match receive(request, committer).await {
        Some(()) => StatusCode::NO_CONTENT,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

async fn receive(
    request: Request<Incoming>,
    committer: Option<&mpsc::Sender<Waiting>>,
) -> Option<()> {
    let body = request.into_body().collect().await.ok()?.to_bytes();
    if let Some(committer) = committer {
        let (stored, wait) = oneshot::channel();
        committer.send(Waiting { body, stored }).await.ok()?;
        wait.await.ok()?;
    }
    Some(())
}

struct Waiting {
    body: Bytes,
    stored: oneshot::Sender<()>,
}

fn committer(directory: &Path) -> io::Result<mpsc::Sender<Waiting>> {
    let mut file = File::create_new(directory.join("bodies"))?;
    let (sender, mut receiver) = mpsc::channel::<Waiting>(WAITING);
    std::thread::spawn(move || -> io::Result<()> {
        let mut group = Vec::new();
        let mut bytes = Vec::new();
        while let Some(first) = receiver.blocking_recv() {
            group.push(first);
            while let Ok(next) = receiver.try_recv() {
                group.push(next);
            }
            for waiting in &group {
                bytes.extend_from_slice(&waiting.body);
            }
            // An error ends the thread: the channel closes and all that wait
            // are answered 500.
            file.write_all(&bytes)?;
            file.sync_data()?;
            bytes.clear();
            for waiting in group.drain(..) {
                // Fails only where the client has gone.
                let _ = waiting.stored.send(());
            }
        }
        Ok(())
    });
    Ok(sender)
}
