//! What strace wrote, as calls with a beginning and an end.

use std::collections::HashMap;
use std::fmt;

/// One system call.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// The first argument as `-y` shows it: `9<TCP:[…]>`, `12</data/db>`.
    pub file: String,
    /// The line it was told in, arguments and result.
    pub text: String,
    /// Numbers of the lines in which it began and ended; others may begin and
    /// end between.
    pub began: usize,
    pub ended: usize,
}

impl Call {
    fn succeeded(&self) -> bool {
        self.text.rsplit(" = ").next().is_some_and(|result| !result.starts_with('-'))
    }
}

#[derive(Debug)]
pub struct Trace {
    /// In the order of their beginnings.
    calls: Vec<Call>,
}

/// An answer, the request before it, and the syncs between.
pub struct Answer<'a> {
    request: &'a Call,
    reply: &'a Call,
    calls: &'a [Call],
    file: &'a str,
}

impl Trace {
    pub fn parse(text: &str) -> Self {
        let mut calls: Vec<Call> = Vec::new();
        // By thread: a call that another one's line has interrupted.
        let mut unfinished: HashMap<&str, usize> = HashMap::new();
        for (line, text) in text.lines().enumerate() {
            let Some((thread, text)) = text.split_once(' ') else { continue };
            let text = text.trim_start();
            if text.starts_with("<... ") {
                if let Some(at) = unfinished.remove(thread) {
                    let rest = text.split_once("resumed>").map_or("", |(_, rest)| rest);
                    calls[at].text.push_str(rest);
                    calls[at].ended = line;
                }
                continue;
            }
            let Some((name, arguments)) = text.split_once('(') else { continue };
            let file = arguments.split_once('>').map_or(arguments, |(file, _)| file);
            let whole = text.strip_suffix("<unfinished ...>");
            calls.push(Call {
                name: name.to_owned(),
                file: file.to_owned(),
                text: whole.unwrap_or(text).to_owned(),
                began: line,
                ended: if whole.is_some() { usize::MAX } else { line },
            });
            if whole.is_some() {
                unfinished.insert(thread, calls.len() - 1);
            }
        }
        Self { calls }
    }

    /// The answers that begin so to requests that begin so, with what was
    /// synced of files whose path holds `file`.
    pub fn answers<'a>(&'a self, request: &str, answer: &str, file: &'a str) -> Vec<Answer<'a>> {
        let holds = |call: &Call, text: &str| call.text.contains(&format!("\"{text}"));
        let receives =
            |call: &Call| matches!(call.name.as_str(), "read" | "recvfrom" | "recvmsg" | "readv");
        let sends =
            |call: &Call| matches!(call.name.as_str(), "write" | "sendto" | "sendmsg" | "writev");
        let mut asked: HashMap<&str, &Call> = HashMap::new();
        let mut found = Vec::new();
        for call in &self.calls {
            if receives(call) && holds(call, request) {
                asked.insert(&call.file, call);
            } else if sends(call)
                && holds(call, answer)
                && let Some(request) = asked.remove(call.file.as_str())
            {
                found.push(Answer { request, reply: call, calls: &self.calls, file });
            }
        }
        found
    }
}

impl Answer<'_> {
    fn between(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| {
            call.began > self.request.began
                && call.began < self.reply.began
                && call.file.contains(self.file)
        })
    }

    /// Whether, between the request and the answer, something was written to
    /// the log and then synced, and the sync had returned.
    pub fn is_synced(&self) -> bool {
        let mut written = None;
        for call in self.between() {
            let is_data = call.file.ends_with("/db");
            match call.name.as_str() {
                "pwrite64" | "pwritev" if is_data && call.ended < self.reply.began => {
                    written.get_or_insert(call.ended);
                }
                "fdatasync" | "fsync" if is_data && call.succeeded() => {
                    let covers = written.is_some_and(|written| call.began > written);
                    if covers && call.ended < self.reply.began {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "not synced: line {}: {}", self.request.began, self.request.text)?;
        for call in self.between() {
            writeln!(f, "  {} to {}: {}", call.began, call.ended, call.text)?;
        }
        write!(f, "line {}: {}", self.reply.began, self.reply.text)
    }
}
