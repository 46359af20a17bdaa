//! What Orion's answer to a write-back means.
//!
//! The classes are the ones measured on Orion 4.7 and read in Orion-LD's
//! source; the meaning of 207 is NGSI-LD's (ETSI GS CIM 009).

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::ngsi::{
    AfterAmbiguity, Api, BatchAction, Kind, WriteRequest, elements, members, write_array,
    write_object,
};

/// A longer `Retry-After` is not waited for: the entity's later writes wait too.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// What to do with a write-back after Orion's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Applied,
    /// Part of it is done; the rest is refused for good.
    AppliedInPart {
        /// A body with only what was not applied, or `None` where the answer
        /// does not tell: the whole request then goes to the dead letters.
        rest: Option<Bytes>,
    },
    /// Try again.
    Retry {
        /// Not before this time has passed, if Orion said so.
        after: Option<Duration>,
        /// Whether this attempt may have been applied; what may be done then is
        /// [`WriteRequest::after_ambiguity`].
        ambiguous: bool,
    },
    /// Read the token again, then retry.
    Unauthorized,
    /// Refused for good: to the dead letters, with the answer.
    Refused,
}

/// Tells what an answer means. `ambiguous_before` says that an earlier attempt
/// may have been applied.
///
/// * 2xx but 207: applied, unless an NGSI-LD batch result in it lists errors.
/// * 207, and 422 `PartialUpdate`: applied in part.
/// * 401, 403: the token.
/// * 408, 429 and 5xx: again. Not 501, nor Orion-LD's 503 `TRoE Not Enabled`:
///   those are settings of the broker. After 408, 429 and 503 nothing was
///   applied: the request did not arrive whole, or was turned away at the door.
///   500 may come after the database was written, and 502 and 504 are a proxy
///   that lost the broker's answer: these are ambiguous, and so is any other 5xx.
/// * Everything else is for good. So is a redirect: a write must not follow one
///   to where nobody configured it to go (and 301 to 303 would turn it into a
///   GET); sent again, it would be answered the same.
/// * After an ambiguous attempt "exists already" (422 in NGSIv2, 409 in NGSI-LD)
///   to a create, and 404 to a delete, mean that the attempt was applied.
#[must_use]
pub fn classify(
    request: &WriteRequest,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    ambiguous_before: bool,
) -> Outcome {
    let again = ambiguous_before.then(|| request.after_ambiguity());
    if request.kind().is_ld_batch()
        && (status.is_success() || status.is_client_error())
        && let Some(result) = batch_result(body)
    {
        return batch(request, status, &result, again);
    }
    match status.as_u16() {
        207 => attributes(request, body, again),
        200..=299 => Outcome::Applied,
        401 | 403 => Outcome::Unauthorized,
        501 => Outcome::Refused,
        503 if request.kind() == Kind::Temporal && troe_is_off(body) => Outcome::Refused,
        408 | 429 | 503 => Outcome::Retry { after: retry_after(headers), ambiguous: false },
        500..=599 => Outcome::Retry { after: retry_after(headers), ambiguous: true },
        404 if again == Some(AfterAmbiguity::RepeatDelete) => Outcome::Applied,
        409 if again == Some(AfterAmbiguity::RepeatCreate) && request.api() == Api::Ld => {
            Outcome::Applied
        }
        422 if request.api() == Api::V2 => unprocessable(request, body, again),
        _ => Outcome::Refused,
    }
}

/// NGSIv2's 422: an entity or attribute exists already, or `PartialUpdate`,
/// where what could be done has been done.
fn unprocessable(request: &WriteRequest, body: &[u8], again: Option<AfterAmbiguity>) -> Outcome {
    #[derive(Deserialize)]
    struct OrionError {
        error: String,
    }
    let partial =
        serde_json::from_slice::<OrionError>(body).is_ok_and(|e| e.error == "PartialUpdate");
    match again {
        Some(AfterAmbiguity::RepeatCreate) => Outcome::Applied,
        // What the first attempt deleted is missing for the second.
        Some(AfterAmbiguity::RepeatDelete)
            if request.kind() == Kind::Batch(BatchAction::Delete) =>
        {
            Outcome::Applied
        }
        // Orion names what failed only in prose: the whole is the rest.
        _ if partial => Outcome::AppliedInPart { rest: Some(request.body().clone()) },
        _ => Outcome::Refused,
    }
}

/// NGSI-LD's `BatchOperationResult`.
#[derive(Deserialize)]
struct BatchResult {
    #[serde(default)]
    success: Option<Vec<Value>>,
    errors: Vec<BatchError>,
}

#[derive(Deserialize)]
struct BatchError {
    #[serde(rename = "entityId")]
    entity: String,
    #[serde(default)]
    error: Value,
}

impl BatchError {
    /// Whether the error says that an earlier attempt had done it.
    fn done_before(&self, again: Option<AfterAmbiguity>) -> bool {
        let status = self.error.get("status").and_then(Value::as_u64);
        let says = |what: &str| {
            ["title", "detail"].iter().any(|name| {
                let text = self.error.get(*name).and_then(Value::as_str).unwrap_or("");
                text.to_ascii_lowercase().contains(what)
            })
        };
        match again {
            Some(AfterAmbiguity::RepeatCreate) => status == Some(409) || says("already exists"),
            Some(AfterAmbiguity::RepeatDelete) => status == Some(404) || says("not found"),
            _ => false,
        }
    }
}

fn batch_result(body: &[u8]) -> Option<BatchResult> {
    // A derived struct also reads an array; 201 has one, of ids.
    let object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    object.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Orion-LD sends the result with 207, in older versions with 200, and with a
/// 4xx where nothing succeeded.
fn batch(
    request: &WriteRequest,
    status: StatusCode,
    result: &BatchResult,
    again: Option<AfterAmbiguity>,
) -> Outcome {
    // An entity may be in the batch, and fail, more than once.
    let mut failed = HashSet::new();
    let mut forgiven = 0;
    for error in &result.errors {
        if error.done_before(again) {
            forgiven += 1;
        } else {
            failed.insert(error.entity.as_str());
        }
    }
    if failed.is_empty() && (forgiven > 0 || status.is_success()) {
        return Outcome::Applied;
    }
    if matches!(status.as_u16(), 401 | 403) {
        return Outcome::Unauthorized;
    }
    if matches!(status.as_u16(), 408 | 429) {
        return Outcome::Retry { after: None, ambiguous: false };
    }
    let nothing_applied = forgiven == 0 && result.success.as_ref().is_none_or(Vec::is_empty);
    if status.is_client_error() && nothing_applied {
        return Outcome::Refused;
    }
    Outcome::AppliedInPart { rest: failed_entities(request.body(), &failed) }
}

/// The elements of a batch whose ids are in `failed`; `None` unless each of
/// these was found.
fn failed_entities(body: &[u8], failed: &HashSet<&str>) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Element {
        Id(String),
        Entity {
            #[serde(alias = "@id")]
            id: String,
        },
    }
    let mut found = HashSet::new();
    let mut rest = Vec::new();
    for element in elements(body)? {
        let (Element::Id(id) | Element::Entity { id }) =
            serde_json::from_str(element.get()).ok()?;
        if let Some(id) = failed.get(id.as_str()) {
            found.insert(*id);
            rest.push(element);
        }
    }
    (found.len() == failed.len()).then(|| write_array(&rest))
}

/// NGSI-LD's `UpdateResult`.
#[derive(Deserialize)]
struct UpdateResult {
    #[serde(rename = "notUpdated")]
    not_updated: Vec<NotUpdated>,
}

#[derive(Deserialize)]
struct NotUpdated {
    #[serde(rename = "attributeName")]
    name: String,
    #[serde(default)]
    reason: Value,
}

/// 207 to a write on one entity's attributes.
fn attributes(request: &WriteRequest, body: &[u8], again: Option<AfterAmbiguity>) -> Outcome {
    let Ok(result) = serde_json::from_slice::<UpdateResult>(body) else {
        return Outcome::AppliedInPart { rest: None };
    };
    // A strict append that had been applied finds its own attributes.
    let done_before = |attribute: &NotUpdated| {
        again == Some(AfterAmbiguity::RepeatCreate)
            && attribute
                .reason
                .as_str()
                .is_some_and(|reason| reason.to_ascii_lowercase().contains("already exist"))
    };
    let failed: Vec<&str> = result
        .not_updated
        .iter()
        .filter(|attribute| !done_before(attribute))
        .map(|attribute| attribute.name.as_str())
        .collect();
    if failed.is_empty() {
        return Outcome::Applied;
    }
    let keyed = matches!(
        request.kind(),
        Kind::UpdateAttributes
            | Kind::AppendAttributes
            | Kind::AppendAttributesStrictly
            | Kind::MergeEntity
    );
    let rest = if keyed { failed_attributes(request.body(), &failed) } else { None };
    Outcome::AppliedInPart { rest }
}

/// The body with only the attributes in `failed`, and what is needed to read
/// them; `None` unless each of them was found.
fn failed_attributes(body: &[u8], failed: &[&str]) -> Option<Bytes> {
    // Orion-LD names them as they were sent; others may expand them to IRIs.
    let short = |name: &str| name.rsplit(['/', '#', ':']).next().unwrap_or(name).to_owned();
    let full: HashSet<&str> = failed.iter().copied().collect();
    let shortened: HashSet<String> = failed.iter().map(|name| short(name)).collect();
    let mut members = members(body)?;
    let mut found = 0;
    members.retain(|(name, _)| match name.as_ref() {
        "@context" | "id" | "@id" | "type" | "@type" => true,
        name => {
            let hit = full.contains(name) || (!name.contains(':') && shortened.contains(name));
            found += usize::from(hit);
            hit
        }
    });
    (found == full.len()).then(|| write_object(&members))
}

fn troe_is_off(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).to_ascii_lowercase();
    text.contains("troe") && text.contains("not enabled")
}

/// `Retry-After` in seconds or as a date, at most [`MAX_RETRY_AFTER`]. A date is
/// read against the answer's own `Date`: this box's clock may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let value = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let until = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    let now = OffsetDateTime::parse(text(header::DATE)?.trim(), &Rfc2822).ok()?;
    let seconds = u64::try_from((until - now).whole_seconds()).unwrap_or(0);
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
