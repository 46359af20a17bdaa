//! The tests' stand-in for Orion as a program, for tests in other languages.
//!
//! ```text
//! cargo run --example orion_stand_in
//! {"orion":"http://127.0.0.1:41307","control":"http://127.0.0.1:40029"}
//! ```
//!
//! It ends when its standard input does, so that none is left behind by a test
//! that was killed. At `control`:
//!
//! | request | |
//! |---|---|
//! | `GET /journal?from=N` | `{"requests":[…],"next":N}`: every request received, `applied` tells whether it changed anything |
//! | `GET /count` | `{"requests":N,"applied":N}` |
//! | `GET /entities/{tenant}/{id}` | the entity as it is now; the default tenant is empty |
//! | `POST /down`, `POST /up` | connections are refused; taken again |
//! | `POST /slow?ms=N` | every answer that much later |
//! | `POST /lose-answers?times=N` | the next N writes are applied, and never answered |
//! | `POST /heal` | takes back `slow` and `lose-answers` |

#[path = "orion_stand_in/common.rs"]
mod common;
#[path = "orion_stand_in/control.rs"]
mod control;

use std::io;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use common::orion::OrionStandIn;

#[tokio::main]
async fn main() -> Result<()> {
    let orion = OrionStandIn::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let control = format!("http://{}", listener.local_addr()?);
    println!("{}", json!({"orion": orion.url(), "control": control}));
    tokio::spawn(control::serve(listener, Arc::new(Mutex::new(orion))));
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    Ok(())
}
