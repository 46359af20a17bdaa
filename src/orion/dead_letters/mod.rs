//! Dead letters: write-backs that Orion refused for good, or that may not be
//! sent again, each with its reason, until a person retries or drops them.
//!
//! They are a log of the store. A record is a dead letter, or says of an
//! earlier one that it was resolved or superseded. A dead letter's id is its
//! record's number. In memory are only the ids of the open ones, and hashes
//! of their entities.

mod index;
mod letter;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tracing::{error, warn};

pub use letter::{DeadLetter, Entity, How, LetterRequest, MAX_ANSWER, Place, Sealed};

use crate::boxed::boxed;
use crate::ngsi::EntityKey;
use crate::record::{Line, Sequence};
use crate::store::{AppendError, Log, ReadError};
use crate::write_back::Entry;
use index::Index;
use letter::Item;

/// Consumer of the dead letters' log: below its position none is open.
pub const OPERATOR: &str = "operator";
const READ_BYTES: usize = 256 * 1024;

/// Why something could not be done with a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No open dead letter has that id. Reject.
    #[error("there is no open dead letter {0}; it may have been retried, dropped or evicted")]
    Unknown(Sequence),
    /// Sending it again would overwrite something newer. Reject.
    #[error(
        "a newer write of an entity of dead letter {0} has been delivered since; retrying would overwrite it with older values: repeat with --force to do so all the same, or drop it"
    )]
    Superseded(Sequence),
    /// It holds no request that could be sent. Reject.
    #[error("dead letter {0} holds no request that could be sent; drop it")]
    NotARequest(Sequence),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A log did not take it. Retry later.
    #[error("{log}: {source}")]
    Append {
        /// Which log.
        log: String,
        /// Why not.
        source: AppendError,
    },
}

/// A dead letter as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: Sequence,
    /// Whether a newer write of one of its entities was delivered since.
    pub superseded: bool,
    /// What it says.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// The open dead letters. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct DeadLetters {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<Log>,
    write_backs: Arc<Log>,
    index: Mutex<Index>,
    /// One change at a time, so that none is retried twice by two people.
    changing: tokio::sync::Mutex<()>,
}

impl DeadLetters {
    /// Reads which dead letters are open. What is retried goes to
    /// `write_backs`.
    ///
    /// # Errors
    /// Where the disk cannot be read. Lost and unreadable records are reported
    /// and skipped.
    pub async fn open(log: Arc<Log>, write_backs: Arc<Log>) -> Result<Self, Error> {
        let mut index = Index::default();
        let mut at = log.bounds().earliest.max(log.position(OPERATOR).unwrap_or(0));
        while at < log.bounds().next {
            let batch = match log.read(at..Sequence::MAX, READ_BYTES).await {
                Ok(batch) => batch,
                Err(ReadError::Gone { earliest, .. }) => {
                    at = earliest.max(at + 1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match batch.records() {
                Ok(records) => {
                    for record in records {
                        match Item::from_record(&record) {
                            Ok(item) => index.apply(record.seq, &item),
                            Err(error) => {
                                error!(id = record.seq, %error, "an unreadable dead letter is skipped");
                            }
                        }
                    }
                }
                Err(error) => error!(from = at, %error, "unreadable dead letters are skipped"),
            }
            at = batch.next.max(at + 1);
        }
        let inner = Inner {
            log,
            write_backs,
            index: Mutex::new(index),
            changing: tokio::sync::Mutex::default(),
        };
        let letters = Self { inner: Arc::new(inner) };
        letters.move_position().await;
        Ok(letters)
    }

    /// Keeps a dead letter and answers with its id, once it is on stable
    /// storage. One that is open already, for the same place in the write-back
    /// log, is not kept again.
    ///
    /// # Errors
    /// Where the log did not take it.
    pub async fn add(&self, letter: &Sealed) -> Result<Sequence, Error> {
        let _one = self.inner.changing.lock().await;
        if let Some(id) = self.index().of_place(&letter.rest.write_back) {
            return Ok(id);
        }
        let id = self.append(letter.line.clone()).await?;
        self.index().add(id, &letter.rest);
        Ok(id)
    }

    /// The open dead letters from an id on, at most `limit` of them.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn list(&self, from: Sequence, limit: usize) -> Result<Vec<Listed>, Error> {
        let ids = self.index().ids(from, limit);
        let mut listed = Vec::with_capacity(ids.len());
        for id in ids {
            match self.show(id).await {
                Ok(letter) => listed.push(letter),
                // Evicted since.
                Err(Error::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// One open dead letter.
    ///
    /// # Errors
    /// [`Error::Unknown`], or where the log cannot be read.
    pub async fn show(&self, id: Sequence) -> Result<Listed, Error> {
        let superseded = self.index().superseded(id).ok_or(Error::Unknown(id))?;
        let record = match self.inner.log.read_one(id).await {
            Ok(record) => record.ok_or(Error::Unknown(id))?,
            Err(ReadError::Gone { .. }) => {
                self.index().remove(id);
                return Err(Error::Unknown(id));
            }
            Err(error) => return Err(error.into()),
        };
        match Item::from_record(&record) {
            Ok(Item::Dead(letter)) => Ok(Listed { id, superseded, letter: *letter }),
            _ => Err(Error::Unknown(id)),
        }
    }

    /// Puts a dead letter's request into the write-back log again, as the
    /// newest, and then resolves the dead letter. A crash in between leaves
    /// both: it is then sent twice if it is retried again, and never lost.
    ///
    /// # Errors
    /// [`Error::Superseded`] without `force` where a newer write of one of its
    /// entities was delivered; [`Error::Unknown`], [`Error::NotARequest`], or
    /// where a log did not take it.
    pub async fn retry(&self, id: Sequence, force: bool) -> Result<(), Error> {
        let letters = self.clone();
        self.to_the_end(async move { letters.retry_now(id, force).await }).await
    }

    /// Gives a dead letter up.
    ///
    /// # Errors
    /// [`Error::Unknown`], or where the log did not take it.
    pub async fn drop(&self, id: Sequence) -> Result<(), Error> {
        let letters = self.clone();
        self.to_the_end(async move { letters.drop_now(id).await }).await
    }

    /// Runs a step on a task of its own: whoever asked for it may go in the
    /// middle, and would leave a write-back that is sent and still dead.
    async fn to_the_end(
        &self,
        step: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let closed =
            || Error::Append { log: self.inner.log.name().to_owned(), source: AppendError::Closed };
        tokio::spawn(boxed(step)).await.unwrap_or_else(|_| Err(closed()))
    }

    async fn retry_now(&self, id: Sequence, force: bool) -> Result<(), Error> {
        let _one = self.inner.changing.lock().await;
        let listed = self.show(id).await?;
        if listed.superseded && !force {
            return Err(Error::Superseded(id));
        }
        let request = listed.letter.request.and_then(|request| request.to_request());
        let request = request.ok_or(Error::NotARequest(id))?;
        if !(request.path.starts_with("/v2/") || request.path.starts_with("/ngsi-ld/")) {
            return Err(Error::NotARequest(id));
        }
        let log = &self.inner.write_backs;
        let line = Entry::Request(request).to_line(SystemTime::now());
        let appended = log.append(vec![line]).await;
        appended.map_err(|source| Error::Append { log: log.name().to_owned(), source })?;
        self.resolve(id, How::Retried).await
    }

    async fn drop_now(&self, id: Sequence) -> Result<(), Error> {
        let _one = self.inner.changing.lock().await;
        self.index().superseded(id).ok_or(Error::Unknown(id))?;
        self.resolve(id, How::Dropped).await
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.index().count()
    }

    /// Whether an open dead letter, not yet known as superseded, is of one of
    /// these entities: then [`DeadLetters::superseded_by`] has work to do.
    #[must_use]
    pub fn concerns(&self, entities: &[EntityKey]) -> bool {
        !self.index().of_entities(entities).is_empty()
    }

    /// Notes durably that a newer write of these entities was delivered.
    ///
    /// # Errors
    /// Where the log did not take it.
    pub async fn superseded_by(&self, entities: &[EntityKey]) -> Result<(), Error> {
        if !self.concerns(entities) {
            return Ok(());
        }
        let _one = self.inner.changing.lock().await;
        let ids = self.index().of_entities(entities);
        for id in ids {
            let item = Item::Superseded { id };
            let seq = self.append(item.to_line()).await?;
            self.index().apply(seq, &item);
        }
        Ok(())
    }

    async fn resolve(&self, id: Sequence, how: How) -> Result<(), Error> {
        let item = Item::Resolved { id, how };
        let seq = self.append(item.to_line()).await?;
        self.index().apply(seq, &item);
        self.move_position().await;
        Ok(())
    }

    async fn append(&self, line: Line) -> Result<Sequence, Error> {
        let log = &self.inner.log;
        let appended = log.append(vec![line]).await;
        let failed = |source| Error::Append { log: log.name().to_owned(), source };
        Ok(appended.map_err(failed)?.start)
    }

    /// Lets go of everything below the lowest open dead letter. Should it not
    /// work, the next time does.
    async fn move_position(&self) {
        let log = &self.inner.log;
        let position = self.index().lowest().unwrap_or(log.bounds().next);
        if let Err(error) = log.acknowledge(OPERATOR, None, position, false).await {
            warn!(%error, "resolved dead letters stay on the disk for now");
        }
    }

    /// The index, without what retention has evicted.
    fn index(&self) -> MutexGuard<'_, Index> {
        let earliest = self.inner.log.bounds().earliest;
        let mut index = self.inner.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.forget_below(earliest);
        index
    }
}
