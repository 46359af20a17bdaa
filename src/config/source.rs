//! The text of the configuration file: reading it, and showing a line of it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Origin, Problem};

/// Far above any real configuration; a wrong path (a device, a database) must
/// not fill the memory.
const MAX_BYTES: u64 = 4 << 20;

/// An excerpt longer than this helps nobody.
const MAX_EXCERPT: usize = 160;

const SECRET_WORDS: [&str; 5] = ["token", "secret", "password", "passwd", "passphrase"];

/// Whether a key names something whose value must not be printed.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

#[derive(Default)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn read(path: &Path) -> Result<Self, Box<Problem>> {
        let refuse = |line: Option<usize>, message: String, hint: &str| {
            Box::new(Problem {
                origin: Origin::File { path: path.to_owned(), line },
                setting: String::new(),
                message,
                hint: Some(hint.to_owned()),
                excerpt: None,
            })
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                let (why, hint) = advice(error.kind());
                let why = why.map_or_else(|| error.to_string(), str::to_owned);
                refuse(None, format!("the configuration cannot be read: {why}"), hint)
            })?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refuse(
                None,
                "the configuration is larger than 4 MiB".to_owned(),
                "check that the path names the configuration and not something else",
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.split(|byte| *byte == b'\n').count();
                Err(refuse(
                    Some(line),
                    "not UTF-8 text".to_owned(),
                    "save the file with the encoding UTF-8",
                ))
            }
        }
    }

    pub fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::File { path: self.path.clone(), line: Some(self.line(span.start)) }
    }

    /// The line of a byte offset, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.split(|byte| *byte == b'\n').count()
    }

    /// The bytes of the line that holds `offset`, without its end.
    pub fn line_span(&self, offset: usize) -> Range<usize> {
        let bytes = self.text.as_bytes();
        let offset = offset.min(bytes.len());
        let start = bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = bytes[offset..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |length| offset + length);
        start..end
    }

    /// The line with a caret under `span`, as rustc shows it. None where the
    /// line mentions a secret or would not read well.
    pub fn excerpt(&self, span: &Range<usize>) -> Option<String> {
        let line_span = self.line_span(span.start);
        let line = self.text.get(line_span.clone())?.trim_end();
        let start = span.start.clamp(line_span.start, line_span.start + line.len());
        let end = span.end.clamp(start, line_span.start + line.len());
        let before = self.text.get(line_span.start..start)?.chars().count();
        let marked = self.text.get(start..end)?.chars().count().max(1);
        if line.is_empty() || line.chars().count() > MAX_EXCERPT || names_a_secret(line) {
            return None;
        }
        // A terminal must not obey what the file holds.
        let line: String = line
            .chars()
            .map(|letter| match letter {
                '\t' => ' ',
                letter if letter.is_control() => '\u{fffd}',
                letter => letter,
            })
            .collect();
        let number = self.line(span.start).to_string();
        let margin = " ".repeat(number.len());
        Some(format!(
            "  {number} | {line}\n  {margin} | {}{}",
            " ".repeat(before),
            "^".repeat(marked)
        ))
    }
}

fn advice(kind: ErrorKind) -> (Option<&'static str>, &'static str) {
    match kind {
        ErrorKind::NotFound => (
            Some("there is no such file"),
            "create it, or correct the path; without a file the defaults hold",
        ),
        ErrorKind::PermissionDenied => {
            (Some("permission denied"), "let the user that runs ngsi-ferry read it")
        }
        ErrorKind::IsADirectory => (Some("it is a folder"), "name the file inside it"),
        _ => (None, "check the path and the disk"),
    }
}
