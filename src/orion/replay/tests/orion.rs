//! As much of an Orion as the replay's tests need.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    /// In lower case, one line each.
    pub headers: String,
    pub body: String,
}

#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    With(u16, &'static str, &'static str),
    /// Closes the connection instead.
    Close,
    /// Never answers.
    Hang,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub struct Orion {
    pub address: SocketAddr,
    seen: watch::Receiver<Vec<Seen>>,
    script: Arc<Mutex<Arc<Script>>>,
    task: JoinHandle<()>,
}

impl Drop for Orion {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Orion {
    pub async fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub async fn at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(script)));
        let (told, seen) = watch::channel(Vec::new());
        let (told, scripts) = (Arc::new(told), Arc::clone(&script));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&scripts), Arc::clone(&told)));
            }
        });
        Self { address, seen, script, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Waits for that many requests and answers with all there are.
    pub async fn requests(&self, count: usize) -> Vec<Seen> {
        self.seen.clone().wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen.borrow().iter().map(|seen| seen.line.clone()).collect()
    }
}

async fn serve(
    stream: TcpStream,
    script: Arc<Mutex<Arc<Script>>>,
    told: Arc<watch::Sender<Vec<Seen>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.is_empty() {
            return None;
        }
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            stream.read_line(&mut headers).await.ok().filter(|read| *read > 0)?;
        }
        let headers = headers.to_ascii_lowercase();
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.ok()?;
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let seen = Seen { line, headers, body: String::from_utf8(body).unwrap() };
        let reply = {
            let script = Arc::clone(&script.lock().unwrap());
            script(&seen)
        };
        told.send_modify(|all| all.push(seen));
        let (status, header, body) = match reply {
            Reply::Status(status) => (status, "", ""),
            Reply::With(status, header, body) => (status, header, body),
            Reply::Close => return None,
            Reply::Hang => std::future::pending().await,
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} X\r\n{header}Content-Length: {length}\r\n\r\n{body}");
        // A 204 has no length.
        let answer = answer.replace("204 X\r\nContent-Length: 0\r\n", "204 X\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
    }
}
