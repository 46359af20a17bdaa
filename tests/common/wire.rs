//! HTTP/1.1 messages read byte for byte, requests and answers alike.
//!
//! By hand and not with hyper, because the tests look at what hyper hides: the
//! spelling and order of headers, and messages that end in the middle.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// No message of a test has a longer head.
const MAX_HEAD: usize = 64 * 1024;

/// The start line and the headers, as spelled by the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Every byte up to and including the empty line.
    pub raw: Vec<u8>,
    pub start: String,
    pub headers: Vec<(String, String)>,
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    Untold,
}

impl Head {
    /// The first header of that name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn framing(&self) -> io::Result<Framing> {
        if self.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Ok(Framing::Chunked);
        }
        self.header("content-length").map_or(Ok(Framing::Untold), |v| {
            v.parse().map(Framing::Length).map_err(|_| bad(format!("Content-Length {v:?}")))
        })
    }

    /// `[method, target]` of a request.
    pub fn request_line(&self) -> io::Result<(&str, &str)> {
        let mut parts = self.start.split(' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) => {
                Ok((method, target))
            }
            _ => Err(bad(format!("not a request line: {:?}", self.start))),
        }
    }

    /// The code of an answer.
    pub fn status(&self) -> io::Result<u16> {
        self.start
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad(format!("not a status line: {:?}", self.start)))
    }

    /// Whether the sender wants the connection to end after this message.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }
}

/// The first header of that name, in any spelling.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// Parses a head that ends with its empty line.
pub fn parse_head(raw: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(raw).map_err(|_| bad("a head that is not UTF-8".into()))?;
    let text = text
        .strip_suffix("\r\n\r\n")
        .ok_or_else(|| bad(format!("a head without its end: {text:?}")))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .ok_or_else(|| bad(format!("not a header: {line:?}")))
        })
        .collect::<io::Result<_>>()?;
    Ok(Head { raw: raw.to_vec(), start, headers })
}

/// Reads a head; `None` where the peer closed before its first byte.
pub async fn read_head<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Option<Head>> {
    let mut raw = Vec::new();
    loop {
        if from.read_until(b'\n', &mut raw).await? == 0 {
            return if raw.is_empty() { Ok(None) } else { Err(cut_short("head")) };
        }
        if raw.ends_with(b"\r\n\r\n") {
            return parse_head(&raw).map(Some);
        }
        if raw.len() > MAX_HEAD {
            return Err(bad("a head without an end".into()));
        }
    }
}

pub async fn read_exactly<R: AsyncBufRead + Unpin>(
    from: &mut R,
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    from.read_exact(&mut body).await.map_err(|_| cut_short("body"))?;
    Ok(body)
}

/// Reads a chunked body, its trailer too, and joins it.
pub async fn read_chunked<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| bad(format!("chunk size {line:?}")))?;
        if size == 0 {
            while !read_line(from).await?.is_empty() {}
            return Ok(body);
        }
        body.extend(read_exactly(from, size).await?);
        if !read_line(from).await?.is_empty() {
            return Err(bad("a chunk longer than its size".into()));
        }
    }
}

async fn read_line<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| cut_short("line"))
}

/// `%3A` and its kind; what is no valid escape stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the {what} was cut short"))
}
