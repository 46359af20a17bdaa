//! A reader of lines, and notifications that can be told apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::TcpStream;

use crate::common::gateway::{DEADLINE, Gateway, Setup};
use crate::common::http;

/// Where nothing is to come any more, so long is waited for it.
const SILENCE: Duration = Duration::from_millis(700);

/// A gateway with one line socket, on the stream `press`.
pub fn setup(settings: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new();
    for (name, value) in [("LISTEN", "127.0.0.1:0"), ("STREAM", "press")].iter().chain(settings) {
        setup = setup.set(&format!("LINE_SOCKET__0__{name}"), value);
    }
    setup
}

/// Reads as `socketTextStream` does: line by line, and sends nothing.
pub struct Lines<S> {
    stream: BufReader<S>,
}

impl Lines<TcpStream> {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap())
    }

    /// One whose kernel takes little that is not read.
    pub async fn connect_small(to: SocketAddr, bytes: u32) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        Self::over(socket.connect(to).await.unwrap())
    }

    /// Ends the connection as a crash or a broken line does.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
}

impl<S: AsyncRead + Unpin> Lines<S> {
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The next whole line; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = tokio::time::timeout(DEADLINE, self.stream.read_until(b'\n', &mut line)).await;
        match read.expect("no line comes") {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                assert_eq!(line.pop(), Some(b'\n'), "half a line before an orderly end");
                Some(String::from_utf8(line).unwrap())
            }
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            lines.push(self.next().await.expect("the connection ended"));
        }
        lines
    }

    /// What comes until nothing more does.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self.stream.read_until(b'\n', &mut line);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(1..)) => lines.push(String::from_utf8(line).unwrap().trim_end().to_owned()),
                _ => return lines,
            }
        }
    }
}

/// A normalized notification of so many bytes at least; its content is told
/// by its number.
pub fn notification(number: usize, bytes: usize) -> Value {
    let letters = "abcdefghijklmnopqrstuvwxyz".chars().cycle();
    let filler: String = letters.skip(number % 26).step_by(7).take(bytes).collect();
    json!({"subscriptionId": "6b02ca0c7877078ce701fe9c", "data": [{
        "id": format!("urn:Press:{number}"), "type": "Press",
        "number": {"type": "Number", "value": number, "metadata": {}},
        "filler": {"type": "Text", "value": filler, "metadata": {}},
    }]})
}

/// The number of a connector line's notification, which must be whole.
pub fn number_of(line: &str) -> usize {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let body = &line["Body"];
    let number = body["data"][0]["number"]["value"].as_u64().unwrap();
    let number = usize::try_from(number).unwrap();
    let bytes = body["data"][0]["filler"]["value"].as_str().unwrap().len();
    assert_eq!(*body, notification(number, bytes), "the notification is changed");
    number
}

/// Sends notifications over one connection.
pub async fn send(gateway: &Gateway, numbers: std::ops::Range<usize>, bytes: usize) {
    send_to(gateway.intake, numbers, bytes).await;
}

pub async fn send_to(intake: SocketAddr, numbers: std::ops::Range<usize>, bytes: usize) {
    let mut client = http::Client::connect(intake).await.unwrap();
    for number in numbers {
        let raw = http::json_request("POST", "/notify/press", &notification(number, bytes));
        assert_eq!(client.exchange(&raw).await.unwrap().status, 204);
    }
}

/// How often each number came.
pub fn counted(lines: &[String]) -> BTreeMap<usize, usize> {
    let mut counted = BTreeMap::new();
    for line in lines {
        *counted.entry(number_of(line)).or_default() += 1;
    }
    counted
}

pub fn assert_all(lines: &[String], count: usize) {
    let counted = counted(lines);
    let missing: Vec<_> = (0..count).filter(|number| !counted.contains_key(number)).collect();
    assert!(missing.is_empty(), "{} of {count} are missing: {missing:?}", missing.len());
}

/// What `/status` says of the line socket, once it fits.
pub async fn status(gateway: &Gateway, fits: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let status = gateway.status().await["line_sockets"][0].clone();
            if fits(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.expect("the line socket does not get there")
}

/// The durable position of the line socket's consumer, once it fits.
pub async fn position(gateway: &Gateway, fits: impl Fn(u64) -> bool) -> u64 {
    let client = gateway.spark_client();
    let look = async {
        loop {
            let answer = client.get(gateway.spark_url("/v1/streams/press")).send().await.unwrap();
            let stream: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let position = stream["consumers"][0]["position"].as_u64().unwrap();
            if fits(position) {
                return position;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.expect("the position does not get there")
}
