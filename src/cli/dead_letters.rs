//! `ngsi-ferry dead-letters`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::gateway::Gateway;
use super::print_line;
use super::table::table;
use crate::config::Config;
use crate::orion::dead_letters::{DeadLetters, Listed};
use crate::record::Sequence;

const PAGE: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the dead letters, oldest first
    List {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Show one, with Orion's own answer
    Show {
        /// Its number
        id: Sequence,
    },
    /// Send write-backs to Orion again
    Retry {
        /// Their numbers
        #[arg(required_unless_present = "all")]
        ids: Vec<Sequence>,
        /// All there are
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Also where a newer write of the same entity was delivered since
        #[arg(long)]
        force: bool,
    },
    /// Give write-backs up for good
    Drop {
        /// Their numbers
        #[arg(required_unless_present = "all")]
        ids: Vec<Sequence>,
        /// All there are
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// The dead letters of a running gateway, or of its store.
enum Letters {
    Running(super::gateway::Socket),
    Stopped(DeadLetters, std::sync::Arc<crate::store::Store>),
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode> {
    let letters = match Gateway::find(config).await? {
        Gateway::Running(socket) => Letters::Running(socket),
        Gateway::Stopped(store) => {
            let open = DeadLetters::open(store.dead_letters().clone(), store.write_backs().clone());
            Letters::Stopped(open.await?, store)
        }
    };
    let done = letters.act(&arguments.command).await;
    if let Letters::Stopped(_, store) = &letters {
        store.close().await;
    }
    done
}

impl Letters {
    async fn act(&self, command: &Command) -> Result<ExitCode> {
        match command {
            Command::List { json } => self.list(*json).await,
            Command::Show { id } => {
                print_line(&serde_json::to_string_pretty(&self.show(*id).await?)?);
                Ok(ExitCode::SUCCESS)
            }
            Command::Retry { ids, all, force } => {
                self.each(ids, *all, "sent again", async |id| self.retry(id, *force).await).await
            }
            Command::Drop { ids, all } => {
                self.each(ids, *all, "dropped", async |id| self.drop(id).await).await
            }
        }
    }

    async fn list(&self, json: bool) -> Result<ExitCode> {
        let letters = self.all().await?;
        if json {
            for letter in &letters {
                print_line(&serde_json::to_string(letter)?);
            }
        } else if letters.is_empty() {
            print_line("No dead letters.");
        } else {
            let rows: Vec<_> = letters.iter().map(row).collect();
            let heading = ["ID", "TIME", "REQUEST", "STATUS", "ATTEMPTS", "REASON"];
            print_line(table(&heading, &rows).trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn each(
        &self,
        ids: &[Sequence],
        all: bool,
        done: &str,
        act: impl AsyncFn(Sequence) -> Result<()>,
    ) -> Result<ExitCode> {
        let ids = if all { self.ids().await? } else { ids.to_vec() };
        let mut failed = 0;
        for id in &ids {
            match act(*id).await {
                Ok(()) => print_line(&format!("{id}: {done}")),
                Err(error) => {
                    eprintln!("{id}: {error:#}");
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} refused", ids.len());
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn ids(&self) -> Result<Vec<Sequence>> {
        Ok(self.all().await?.iter().filter_map(|letter| letter["id"].as_u64()).collect())
    }

    async fn all(&self) -> Result<Vec<Value>> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let page = self.page(from).await?;
            let last = page.last().and_then(|letter| letter["id"].as_u64());
            all.extend(page);
            match last {
                Some(last) => from = last + 1,
                None => return Ok(all),
            }
        }
    }

    async fn page(&self, from: Sequence) -> Result<Vec<Value>> {
        match self {
            Self::Running(socket) => {
                socket.ask(Method::GET, &format!("/dead-letters?from={from}")).await
            }
            Self::Stopped(letters, _) => {
                let page: Vec<Listed> = letters.list(from, PAGE).await?;
                Ok(page.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
            }
        }
    }

    async fn show(&self, id: Sequence) -> Result<Value> {
        match self {
            Self::Running(socket) => socket.ask(Method::GET, &format!("/dead-letters/{id}")).await,
            Self::Stopped(letters, _) => Ok(serde_json::to_value(letters.show(id).await?)?),
        }
    }

    async fn retry(&self, id: Sequence, force: bool) -> Result<()> {
        match self {
            Self::Running(socket) => {
                let query = if force { "?force" } else { "" };
                socket.ask(Method::POST, &format!("/dead-letters/{id}/retry{query}")).await
            }
            Self::Stopped(letters, _) => Ok(letters.retry(id, force).await?),
        }
    }

    async fn drop(&self, id: Sequence) -> Result<()> {
        match self {
            Self::Running(socket) => {
                socket.ask(Method::DELETE, &format!("/dead-letters/{id}")).await
            }
            Self::Stopped(letters, _) => Ok(letters.drop(id).await?),
        }
    }
}

fn row(letter: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let request = &letter["request"];
    vec![
        text(&letter["id"]),
        text(&letter["time"]),
        format!("{} {}", text(&request["method"]), text(&request["path"])),
        text(&letter["status"]),
        text(&letter["attempts"]),
        text(&letter["reason"]),
    ]
}
