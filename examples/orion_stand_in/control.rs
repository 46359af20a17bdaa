//! What a test in another language can ask of the stand-in, and tell it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::common::orion::{Fault, OrionStandIn, Request};
use crate::common::wire::{self, Framing};

/// Serves the control paths until it is aborted.
pub async fn serve(listener: TcpListener, orion: Arc<Mutex<OrionStandIn>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let orion = Arc::clone(&orion);
        tokio::spawn(async move {
            let _ = connection(stream, &orion).await;
        });
    }
}

async fn connection(stream: TcpStream, orion: &Mutex<OrionStandIn>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = wire::read_head(&mut stream).await? {
        if let Framing::Length(length) = head.framing()? {
            wire::read_exactly(&mut stream, length).await?;
        }
        let (method, target) = head.request_line()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut orion = orion.lock().await;
        let answer = answer(&mut orion, method, path, query).await;
        drop(orion);
        let (status, body) = match answer {
            Some(body) => ("200 OK", body.to_string()),
            None => ("404 Not Found", json!({"error": "NotFound"}).to_string()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn answer(orion: &mut OrionStandIn, method: &str, path: &str, query: &str) -> Option<Value> {
    let number = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(given, _)| *given == name).find_map(|(_, value)| value.parse::<usize>().ok())
    };
    match (method, path) {
        ("GET", "/journal") => {
            let requests = orion.requests();
            let from = number("from").unwrap_or(0).min(requests.len());
            let shown: Vec<Value> = requests[from..].iter().map(shown).collect();
            return Some(json!({"requests": shown, "next": requests.len()}));
        }
        ("GET", "/count") => {
            let requests = orion.requests();
            let applied = requests.iter().filter(|request| request.applied).count();
            return Some(json!({"requests": requests.len(), "applied": applied}));
        }
        ("GET", entity) => {
            let (tenant, id) = entity.strip_prefix("/entities/")?.split_once('/')?;
            return orion.entity(tenant, &wire::percent_decoded(id));
        }
        ("POST", "/down") => orion.stop().await,
        ("POST", "/up") => orion.restart().await,
        ("POST", "/slow") => {
            let by = Duration::from_millis(number("ms")? as u64);
            orion.inject(&Fault::delayed(by));
        }
        ("POST", "/lose-answers") => {
            orion.inject(&Fault::apply_then_close().times(number("times")?));
        }
        ("POST", "/heal") => orion.heal(),
        _ => return None,
    }
    Some(json!({}))
}

/// One request as it came, and what became of it.
fn shown(request: &Request) -> Value {
    json!({
        "number": request.number,
        "method": request.method,
        "path": request.path,
        "headers": request.headers,
        "body": String::from_utf8_lossy(&request.body),
        "targets": request.targets,
        "applied": request.applied,
        "status": request.status(),
    })
}
