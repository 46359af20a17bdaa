//! What an attempt's outcome means for its unit and its target.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;
use tracing::{error, info};

use super::Error;
use super::down::Cause;
use super::engine::{Engine, Event};
use super::journal::PATIENCE;
use super::metrics::Kind;
use super::schedule::Ordinal;
use super::send::Attempt;
use super::unit::{Content, State, Why};
use crate::backoff;
use crate::boxed::boxed;
use crate::ngsi::{AfterAmbiguity, EntityKey, Targets};
use crate::orion::dead_letters::{self, DeadLetters};
use crate::orion::outcome::{Outcome, classify};
use crate::store::AppendError;

impl Engine {
    pub(super) fn sent(
        &mut self,
        ordinal: Ordinal,
        attempt: Attempt,
        token: Option<HeaderValue>,
        took: Duration,
    ) {
        let Some(unit) = self.units.get(&ordinal) else { return };
        let target = &mut self.targets[unit.target];
        target.ended(ordinal);
        let name = target.name().to_owned();
        self.metrics.sent(&name, took);
        match attempt {
            Attempt::NotSent(reason) => self.failed(ordinal, &reason, true, false),
            Attempt::Lost(reason) => self.failed(ordinal, &reason, false, true),
            Attempt::Impossible(reason) => {
                self.bury(ordinal, Kind::refused, Why::new(reason), None);
            }
            Attempt::Answered { status, headers, body } => {
                self.answered(ordinal, status, &headers, &body, token);
            }
        }
    }

    fn answered(
        &mut self,
        ordinal: Ordinal,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
        token: Option<HeaderValue>,
    ) {
        let waiting = self.waiting();
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        let Content::Write { request, .. } = &unit.content else { return };
        let outcome = classify(request, status, headers, body, unit.ambiguous);
        let keys = entities(&unit.content);
        let count = unit.ids.len();
        let target = &mut self.targets[unit.target];
        let name = target.name().to_owned();
        let why = |reason: String| Why {
            reason,
            status: Some(status.as_u16()),
            answer: Some(body.clone()),
        };
        match outcome {
            Outcome::Applied => {
                target.succeeded(waiting);
                self.metrics.outcome(&name, Kind::applied, count);
                self.delivered(ordinal, keys);
            }
            Outcome::AppliedInPart { rest } => {
                target.succeeded(waiting);
                let reason = match rest {
                    Some(_) => "Orion applied it in part; this is what it refused",
                    None => "Orion applied it in part, and does not tell which: this is the whole",
                };
                let why = why(reason.to_owned());
                self.bury(ordinal, Kind::applied_in_part, why, rest);
            }
            Outcome::Retry { after, ambiguous } => {
                if let Some(after) = after {
                    target.hold(after);
                }
                if !status.is_server_error() {
                    target.answered(waiting);
                }
                let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                self.failed(ordinal, &format!("{status}: {text}"), false, ambiguous);
            }
            Outcome::Unauthorized => {
                self.metrics.outcome(&name, Kind::unauthorized, 1);
                let endpoint = Arc::clone(&target.endpoint);
                let refusal = status.to_string();
                target.reading_token += 1;
                self.tasks.spawn(boxed(async move {
                    let read = endpoint.read_token().await;
                    Ok(Event::Token { unit: ordinal, token: read, used: token, refusal })
                }));
            }
            Outcome::Refused => {
                let strange =
                    matches!(status.as_u16(), 300..=399 | 404 | 405) && !is_of_a_broker(body);
                if !strange {
                    target.is_a_broker();
                } else if target.is_strange(&keys) {
                    let location = headers.get(http::header::LOCATION);
                    let location = location.map(|l| format!(" to {l:?}")).unwrap_or_default();
                    let refusal = format!("{status}{location} for everything");
                    target.pause(Cause::Misdirected, refusal, &self.config);
                    return self.again(ordinal, Duration::ZERO);
                }
                target.answered(waiting);
                let why = why(format!("Orion answered {status}"));
                self.bury(ordinal, Kind::refused, why, None);
            }
        }
    }

    /// The token was read again after a 401 or 403.
    pub(super) fn token_read(
        &mut self,
        ordinal: Ordinal,
        token: Option<HeaderValue>,
        used: Option<&HeaderValue>,
        refusal: String,
    ) {
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        let target = &mut self.targets[unit.target];
        target.reading_token = target.reading_token.saturating_sub(1);
        let is_new = token.is_some() && token.as_ref() != used;
        if token.is_some() {
            target.token = token;
        }
        if is_new && !unit.token_tried {
            unit.token_tried = true;
            info!(target = target.name(), "trying a new token for Orion");
            target.try_now();
        } else {
            unit.token_tried = false;
            target.pause(Cause::Unauthorized, refusal, &self.config);
        }
        self.again(ordinal, Duration::ZERO);
    }

    /// An attempt that may be repeated came to nothing.
    fn failed(&mut self, ordinal: Ordinal, reason: &str, broken: bool, ambiguous: bool) {
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        let target = &mut self.targets[unit.target];
        let name = target.name().to_owned();
        unit.ambiguous |= ambiguous;
        let never = unit.request().map(crate::ngsi::WriteRequest::after_ambiguity)
            == Some(AfterAmbiguity::Never);
        target.failed(reason, broken, &self.config);
        if unit.ambiguous && never {
            let why = format!(
                "ambiguous: it may have been applied ({reason}), and sending it again might count it twice"
            );
            return self.bury(ordinal, Kind::ambiguous, Why::new(why), None);
        }
        self.metrics.outcome(&name, Kind::retried, 1);
        // Only what fails while others succeed is at fault itself.
        if !broken {
            let seen = unit.successes_seen.replace(target.successes);
            let others_succeeded = seen.is_some_and(|seen| seen != target.successes);
            if others_succeeded || unit.failures == 0 {
                unit.failures += 1;
            }
        }
        if unit.failures >= self.config.max_attempts.max(2) {
            let why = format!(
                "it failed {} times while others succeeded; the last time: {reason}",
                unit.failures
            );
            return self.bury(ordinal, Kind::gave_up, Why::new(why), None);
        }
        let tries = unit.attempts.saturating_sub(1);
        let wait = backoff::wait(tries, self.config.backoff_min, self.config.backoff_max);
        self.again(ordinal, wait);
    }

    /// Sends a unit again, not before `wait` has passed.
    fn again(&mut self, ordinal: Ordinal, wait: Duration) {
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        unit.state = State::Waiting;
        if unit.announced && !unit.ambiguous {
            // Should the gateway end now, it has certainly not been applied.
            unit.announced = false;
            self.pending.note.cleared.extend(&unit.ids);
        }
        self.targets[unit.target].put_back(ordinal, Instant::now() + wait);
    }

    /// A unit was applied: older dead letters of its entities are superseded.
    fn delivered(&mut self, ordinal: Ordinal, keys: Vec<EntityKey>) {
        if !self.dead_letters.concerns(&keys) {
            return self.finished(ordinal);
        }
        if let Some(unit) = self.units.get_mut(&ordinal) {
            unit.state = State::Finishing;
        }
        self.keep(ordinal, Keep::Superseded(keys));
    }

    /// Makes a dead letter of a unit, or of its `rest`.
    pub(super) fn bury(&mut self, ordinal: Ordinal, kind: Kind, why: Why, rest: Option<Bytes>) {
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        unit.state = State::Finishing;
        let name = self.targets[unit.target].name().to_owned();
        self.metrics.outcome(&name, kind, unit.ids.len());
        let letter = unit.letter(&self.epoch, why, rest);
        error!(
            target = name,
            path = letter.request.as_ref().map(|request| request.path.as_str()),
            status = letter.status,
            reason = letter.reason,
            "a write-back goes to the dead letters"
        );
        self.keep(ordinal, Keep::Letter(letter.into()));
    }

    /// Keeps something in the dead letters' log; the unit is finished then.
    fn keep(&mut self, unit: Ordinal, what: Keep) {
        let letters = self.dead_letters.clone();
        self.tasks.spawn(boxed(async move {
            keep(&letters, what).await?;
            Ok(Event::Kept { unit })
        }));
    }

    /// A unit has its outcome: it is to be noted.
    pub(super) fn finished(&mut self, ordinal: Ordinal) {
        let Some(unit) = self.units.get_mut(&ordinal) else { return };
        unit.state = State::Finishing;
        self.pending.note.done.extend(&unit.ids);
        self.pending.done.push(ordinal);
    }
}

/// What is kept in the dead letters' log before a unit is finished.
enum Keep {
    Letter(dead_letters::Sealed),
    Superseded(Vec<EntityKey>),
}

/// Keeps it, however long the disk refuses it.
async fn keep(letters: &DeadLetters, what: Keep) -> Result<(), Error> {
    let mut failing = false;
    loop {
        let kept = match &what {
            Keep::Letter(letter) => letters.add(letter).await.map(drop),
            Keep::Superseded(keys) => letters.superseded_by(keys).await,
        };
        match kept {
            Ok(()) => return Ok(()),
            Err(dead_letters::Error::Append { source: AppendError::Closed, .. }) => {
                return Err(Error::Closed);
            }
            Err(reason) => {
                if !std::mem::replace(&mut failing, true) {
                    error!(%reason, "a dead letter cannot be kept; its write-back waits");
                }
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

fn entities(content: &Content) -> Vec<EntityKey> {
    match content {
        Content::Write { request, .. } => match request.targets() {
            Targets::Entities(keys) => keys.clone(),
            Targets::Barrier => Vec::new(),
        },
        Content::Unfit { .. } => Vec::new(),
    }
}

/// Whether a refusal is in the words of Orion or Orion-LD, and not of some
/// other server that does not know the path.
fn is_of_a_broker(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Words {
        #[serde(default)]
        error: String,
        #[serde(default, rename = "type")]
        kind: String,
        #[serde(default)]
        description: String,
    }
    serde_json::from_slice::<Words>(body).is_ok_and(|words| {
        (!words.error.is_empty() && !words.description.is_empty())
            || words.kind.starts_with("https://uri.etsi.org/ngsi-ld/")
            || words.kind.starts_with("http://uri.etsi.org/ngsi-ld/")
    })
}
