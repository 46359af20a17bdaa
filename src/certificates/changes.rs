//! Files that were replaced while the gateway runs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;

use tracing::{error, info};

/// Somebody in the gateway who has read files of certificates and keys.
pub struct User {
    /// For people: `spark.cert`.
    pub name: String,
    /// The files as they are configured now; the certificate first.
    pub files: Box<dyn Fn() -> Vec<PathBuf> + Send + Sync>,
    /// Reads them again; an error leaves the old ones in use.
    pub take_over: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// A user, and what it has read.
pub(super) struct Known {
    user: User,
    in_use: Content,
    failed: Option<Failed>,
}

struct Failed {
    content: Content,
    error: String,
    /// Seen twice: nobody is just replacing the files one by one.
    lasts: bool,
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    TakenOver,
    /// Cannot be used; perhaps only one file of two is there yet.
    Perhaps,
    Refused,
}

/// Of all files together; told apart from other contents, not kept.
type Content = u64;

impl Known {
    pub(super) fn new(user: User) -> Self {
        let in_use = content(&(user.files)());
        Self { user, in_use, failed: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.user.name
    }

    /// The file that stands for all.
    pub(super) fn certificate(&self) -> Option<PathBuf> {
        (self.user.files)().into_iter().next()
    }

    /// Why what the files hold is not in use.
    pub(super) fn problem(&self) -> Option<&str> {
        self.failed.as_ref().filter(|failed| failed.lasts).map(|failed| failed.error.as_str())
    }

    /// Takes changed files over.
    pub(super) fn look(&mut self) -> Outcome {
        // Before they are read: what comes in between is seen at the next look.
        let content = content(&(self.user.files)());
        if content == self.in_use {
            self.failed = None;
            return Outcome::Unchanged;
        }
        let lasts = self.failed.as_ref().is_some_and(|failed| failed.content == content);
        match (self.user.take_over)() {
            Ok(()) => {
                info!(certificate = self.user.name, "renewed files are in use");
                (self.in_use, self.failed) = (content, None);
                Outcome::TakenOver
            }
            Err(error) => {
                self.failed = Some(Failed { content, error, lasts });
                if lasts { Outcome::Refused } else { Outcome::Perhaps }
            }
        }
    }

    /// Takes the files over, changed or not: somebody asked for it.
    pub(super) fn reload(&mut self) {
        let content = content(&(self.user.files)());
        match (self.user.take_over)() {
            Ok(()) => (self.in_use, self.failed) = (content, None),
            Err(error) => {
                error!(certificate = self.user.name, error, "a certificate is not taken over");
                self.failed = Some(Failed { content, error, lasts: true });
            }
        }
    }
}

fn content(files: &[PathBuf]) -> Content {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        match std::fs::read(file) {
            Ok(bytes) => bytes.hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
    }
    hasher.finish()
}
