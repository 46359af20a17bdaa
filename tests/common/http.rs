//! A raw HTTP/1.1 client: sends the bytes it is given and reads one whole
//! answer. It adds, repairs and follows nothing.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::wire::{self, Framing, Head};

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    /// Joined where it came in chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} has no JSON body: {e}: {}", self.status, self.text()))
    }
}

/// One connection, plain or over any other stream.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Whether this idle connection is of no use: the peer has closed it, or
    /// sent what nobody asked for.
    pub fn looks_dead(&self) -> bool {
        if !self.stream.buffer().is_empty() {
            return true;
        }
        match self.stream.get_ref().try_read(&mut [0; 1]) {
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub async fn send(&mut self, raw: &[u8]) -> io::Result<()> {
        self.stream.write_all(raw).await?;
        self.stream.flush().await
    }

    /// Reads one answer; `None` where the peer closed without a byte of it.
    pub async fn try_answer(&mut self) -> io::Result<Option<Answer>> {
        let head = match wire::read_head(&mut self.stream).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e),
        };
        let status = head.status()?;
        let body = match head.framing()? {
            _ if status == 204 || status == 304 || status < 200 => Vec::new(),
            Framing::Length(length) => wire::read_exactly(&mut self.stream, length).await?,
            Framing::Chunked => wire::read_chunked(&mut self.stream).await?,
            Framing::Untold => {
                let mut rest = Vec::new();
                self.stream.read_to_end(&mut rest).await?;
                rest
            }
        };
        Ok(Some(Answer { status, head, body }))
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.try_answer()
            .await?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))
    }

    pub async fn exchange(&mut self, raw: &[u8]) -> io::Result<Answer> {
        self.send(raw).await?;
        self.answer().await
    }

    /// Waits for the peer to close, and says whether it did so without a byte.
    pub async fn closes_silently(&mut self) -> bool {
        match self.stream.fill_buf().await {
            Ok(bytes) => bytes.is_empty(),
            Err(_) => true,
        }
    }
}

/// Sends one request on a connection of its own.
///
/// # Panics
/// Where no whole answer comes.
pub async fn once(to: SocketAddr, raw: &[u8]) -> Answer {
    let mut client = Client::connect(to).await.unwrap_or_else(|e| panic!("{to}: {e}"));
    client.exchange(raw).await.unwrap_or_else(|e| panic!("no answer from {to}: {e}"))
}

/// A request with exactly these headers, `Host` before them and
/// `Content-Length` after them.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A request with a JSON body.
pub fn json_request(method: &str, path: &str, body: &Value) -> Vec<u8> {
    let json = [("Content-Type", "application/json")];
    request(method, path, &json, body.to_string().as_bytes())
}

/// A request without a body, and without a `Content-Length`.
pub fn bare_request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}
