//! Reading a request's body: whole, within bounds, and in time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Body, refusal};
use crate::budget::{Budget, Share};

/// Why a request's body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Larger than allowed.
    TooLarge,
    /// Not whole in time.
    TooSlow,
    /// Malformed, or the connection broke.
    Broken,
}

impl BodyError {
    /// The answer to such a request.
    #[must_use]
    pub fn answer(self, max_bytes: usize, deadline: Duration) -> Response<Body> {
        match self {
            Self::TooLarge => refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &format!("the body is larger than {max_bytes} bytes"),
            ),
            Self::TooSlow => refusal(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                &format!("the body was not whole within {}", humantime::format_duration(deadline)),
            ),
            Self::Broken => {
                refusal(StatusCode::BAD_REQUEST, "BadRequest", "the body could not be read")
            }
        }
    }
}

/// Most bytes of a refused body that are read for the refusal to arrive: a
/// connection closed over unread bytes takes the answer with it.
const DISCARDED: usize = 64 << 20;

/// Reads a body whole. What has come of it counts against the budget, twice
/// once it is whole: as it came, and as it is stored.
///
/// # Errors
/// Where it is too large, too slow, or broken.
pub async fn read_body(
    mut body: Incoming,
    max_bytes: usize,
    deadline: Duration,
    budget: &Budget,
) -> Result<(Bytes, Share), BodyError> {
    let read = tokio::time::timeout(deadline, read_pieces(&mut body, max_bytes, budget)).await;
    match read.unwrap_or(Err(BodyError::TooSlow)) {
        Ok((pieces, mut share)) => {
            let len = pieces.iter().map(Bytes::len).sum();
            let body = match <[Bytes; 1]>::try_from(pieces) {
                Ok([whole]) => whole,
                Err(pieces) => pieces.concat().into(),
            };
            budget.grow(&mut share, len).await;
            Ok((body, share))
        }
        Err(error) => {
            if error == BodyError::TooLarge {
                discard(body, deadline).await;
            }
            Err(error)
        }
    }
}

async fn read_pieces(
    body: &mut Incoming,
    max_bytes: usize,
    budget: &Budget,
) -> Result<(Vec<Bytes>, Share), BodyError> {
    let (mut pieces, mut share, mut len) = (Vec::new(), Share::default(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        len += piece.len();
        if len > max_bytes {
            return Err(BodyError::TooLarge);
        }
        budget.grow(&mut share, piece.len()).await;
        pieces.push(piece);
    }
    Ok((pieces, share))
}

/// Reads and forgets the rest of a body that is refused, within bounds.
pub async fn discard(mut body: Incoming, deadline: Duration) {
    let reading = async {
        let mut left = DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(deadline, reading).await;
}

/// Whether the other end waits to be told to send its body.
#[must_use]
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
