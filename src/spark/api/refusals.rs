//! Answers that end a request early.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::super::access::{Identity, Right};
use super::super::records;
use super::super::staging::StagingError;
use crate::serve::{self, Body};
use crate::store::{AppendError, Log, Malformed, PositionError, ReplicaError, ReplicateError};

/// An answer that ends a request early; boxed, for it is the rare case.
pub(super) struct Refused(pub Box<Response<Body>>);

impl Refused {
    pub(super) fn new(answer: Response<Body>) -> Self {
        Self(Box::new(answer))
    }
}

pub(super) fn bad_request(description: &str) -> Refused {
    Refused::new(serve::refusal(StatusCode::BAD_REQUEST, "BadRequest", description))
}

pub(super) fn bad_batch() -> Refused {
    bad_request(
        "the path is /v1/write-backs/{query}/{batch}/{attempt}: batch a whole number, \
         query and attempt 1 to 128 of A-Z a-z 0-9 . _ : -, attempt neither commit nor abort",
    )
}

pub(super) fn not_found(description: &str) -> Refused {
    Refused::new(serve::refusal(StatusCode::NOT_FOUND, "NotFound", description))
}

pub(super) fn not_allowed() -> Refused {
    let text =
        "this path does not take that method; see the table of requests in the documentation";
    Refused::new(serve::refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text))
}

/// 403: it is another's.
pub(super) fn not_yours(who: &Identity, gateway: &str) -> Refused {
    let text = format!(
        "this certificate is of {}, and nobody but {gateway} itself may do that: set the gateway's \
         id to the first DNS name in its certificate, or give it a certificate for {gateway}",
        who.0
    );
    Refused::new(serve::refusal(StatusCode::FORBIDDEN, "Forbidden", &text))
}

pub(super) fn position_refused(log: &Log, error: &PositionError) -> Refused {
    Refused::new(match error {
        PositionError::Beyond { next } => records::beyond(&log.epoch(), *next),
        PositionError::Epoch { epoch } => records::other_epoch(log, epoch),
        PositionError::Leased { expires_in } => serve::json(
            StatusCode::CONFLICT,
            &json!({
                "error": "Leased", "description": error.to_string(),
                "expires_in": expires_in.as_secs() + 1,
            }),
        ),
        PositionError::TooMany => return bad_request(&error.to_string()),
        PositionError::Disk(_) => serve::busy(&error.to_string()),
    })
}

pub(super) fn staging_refused(error: &StagingError) -> Refused {
    match error {
        StagingError::Row(_)
        | StagingError::NoWrite { .. }
        | StagingError::TooManyHeaders { .. } => bad_request(&error.to_string()),
        StagingError::NotStaged(attempts) => {
            let body = json!({
                "error": "Gone", "description": error.to_string(), "attempts": attempts,
            });
            Refused::new(serve::json(StatusCode::GONE, &body))
        }
        StagingError::Forgotten(_) => {
            Refused::new(serve::refusal(StatusCode::GONE, "Forgotten", &error.to_string()))
        }
        StagingError::Append(_) | StagingError::Mark(_) | StagingError::NotReady => {
            Refused::new(serve::busy(&error.to_string()))
        }
    }
}

pub(super) fn replica_refused(error: &ReplicaError) -> Refused {
    match error {
        ReplicaError::Name(_) => bad_request(&error.to_string()),
        ReplicaError::TooMany(_) | ReplicaError::Disk(_) => {
            tracing::warn!(%error, "what a gateway hands over has no place here");
            Refused::new(serve::busy(&error.to_string()))
        }
    }
}

pub(super) fn gap(next: u64) -> Refused {
    let body = json!({
        "error": "Gap", "next": next,
        "description": format!(
            "the replica ends at {next}: go on from there, or declare what is gone as a hole"
        ),
    });
    Refused::new(serve::json(StatusCode::CONFLICT, &body))
}

pub(super) fn replicate_refused(error: &ReplicateError) -> Refused {
    match error {
        ReplicateError::Gap { next } => gap(*next),
        ReplicateError::Append(AppendError::Full) => Refused::new(serve::busy(
            "the replica is full, and its consumers have not acknowledged its records: see \
             relay.max_bytes and relay.when_full",
        )),
        ReplicateError::Append(error) => Refused::new(serve::busy(&error.to_string())),
    }
}

pub(super) fn malformed(error: &Malformed) -> Refused {
    match error {
        Malformed::TooLarge(_) => Refused::new(serve::refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &error.to_string(),
        )),
        _ => bad_request(&error.to_string()),
    }
}

/// 401: neither a certificate's name nor a token, or a denied one.
pub(in crate::spark) fn who_are_you() -> Response<Body> {
    let text =
        "bring a client certificate of this gateway's authority with a DNS name, or a bearer token";
    let mut answer = serve::refusal(StatusCode::UNAUTHORIZED, "Unauthorized", text);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// 403: known, but not granted that.
pub(in crate::spark) fn not_granted(who: &Identity, right: Right) -> Response<Body> {
    let right = serde_json::to_value(right).unwrap_or_default();
    let text =
        format!("{} is not granted {right} here; see [[client]] in the configuration", who.0);
    serve::refusal(StatusCode::FORBIDDEN, "Forbidden", &text)
}
