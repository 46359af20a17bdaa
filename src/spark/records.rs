//! Records out: stored groups as they stand, or unpacked for who cannot.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::reading::{AnswerBounds, Asked, Reader, Unreadable};
use crate::budget::{Budget, Share};
use crate::record::Sequence;
use crate::serve::{self, Body};
use crate::store::{Group, Log, ReadError};

/// Header of the log's epoch.
const EPOCH: &str = "ngsi-ferry-epoch";
/// Header of the number to read on from.
const NEXT: &str = "ngsi-ferry-next";
/// Header of the number that the live part goes on from; not there in strict
/// order.
const LIVE_NEXT: &str = "ngsi-ferry-live-next";
const NDJSON: &str = "application/x-ndjson";

/// Answers `GET …/records`, whose query is an [`Asked`]. Also tells how many
/// records and bytes went.
pub async fn answer(
    log: &Log,
    query: Option<&str>,
    headers: &HeaderMap,
    bounds: &AnswerBounds,
    budget: &Budget,
    stop: &CancellationToken,
) -> (Response<Body>, u64, u64) {
    let asked = match Asked::parse(query) {
        Ok(asked) => asked,
        Err(wrong) => return (bad_request(&wrong), 0, 0),
    };
    let epoch = log.epoch();
    if asked.epoch.as_ref().is_some_and(|given| *given != epoch) {
        return (other_epoch(log, &epoch), 0, 0);
    }
    let packed = accepts_zstd(headers);
    let reader = Reader { log, bounds, budget, stop, packed };
    let read = match reader.read(&asked).await {
        Ok(read) => read,
        Err(unreadable) => return (refuse(log, &epoch, &unreadable), 0, 0),
    };
    let live_next = read.live.as_ref().map(|live| live.next);
    let mut groups = read.live.map(|live| live.groups).unwrap_or_default();
    groups.extend(read.backlog.groups);
    let records = groups.iter().map(|group| u64::from(group.header.count)).sum();
    let packed = packed && !groups.is_empty();
    let mut share = read.share;
    share.shrink(held(&groups, packed));
    let body = Groups { left: groups.into_iter(), packed, _share: share };
    let bytes = body.len();
    let mut answer = Response::new(body.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    insert_place(headers, &epoch, read.backlog.next);
    if let Some(next) = live_next {
        headers.insert(LIVE_NEXT, HeaderValue::from(next));
    }
    (answer, records, bytes)
}

/// The epoch that a query asks for, whatever else is in it.
pub(super) fn epoch_in(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("epoch="))
}

fn accepts_zstd(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(
        |value| {
            value.split(',').any(|coding| {
                let mut parts = coding.split(';').map(str::trim);
                parts.next() == Some("zstd")
                    && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
            })
        },
    )
}

fn insert_place(headers: &mut HeaderMap, epoch: &str, next: Sequence) {
    if let Ok(epoch) = HeaderValue::from_str(epoch) {
        headers.insert(EPOCH, epoch);
    }
    headers.insert(NEXT, HeaderValue::from(next));
}

fn bad_request(description: &str) -> Response<Body> {
    serve::refusal(StatusCode::BAD_REQUEST, "BadRequest", description)
}

/// 409: the log is another one than the client means.
pub(super) fn other_epoch(log: &Log, epoch: &str) -> Response<Body> {
    let bounds = log.bounds();
    let body = json!({
        "error": "EpochDiffers",
        "description": "the stream is another one than the one you read: it was wiped or restored; \
                        decide where to begin anew",
        "epoch": epoch, "earliest": bounds.earliest, "next": bounds.next,
    });
    serve::json(StatusCode::CONFLICT, &body)
}

/// 409: the number is not given out yet, so it is of another log.
pub(super) fn beyond(epoch: &str, next: Sequence) -> Response<Body> {
    let body = json!({
        "error": "BeyondEnd",
        "description": format!("the stream ends at {next}; a number beyond it is of another stream"),
        "epoch": epoch, "next": next,
    });
    serve::json(StatusCode::CONFLICT, &body)
}

fn refuse(log: &Log, epoch: &str, unreadable: &Unreadable) -> Response<Body> {
    let error = &unreadable.error;
    match error {
        ReadError::Gone { earliest, reason } => {
            let mut body = json!({
                "error": "Gone", "reason": reason, "earliest": earliest, "epoch": epoch,
                "description": error.to_string(),
            });
            if let Some(part) = unreadable.part {
                body["part"] = part.into();
            }
            serve::json(StatusCode::GONE, &body)
        }
        ReadError::Beyond { next } => beyond(epoch, *next),
        ReadError::Store(reason) => {
            tracing::error!(log = log.name(), reason, "records could not be read");
            serve::busy("the records cannot be read from the disk now")
        }
    }
}

/// Bytes in memory for as long as the answer takes: the groups as they are
/// stored, and where they go out unpacked the largest of them once more.
fn held(groups: &[Group], packed: bool) -> usize {
    let frames: usize = groups.iter().map(|group| group.frame.len()).sum();
    let unpacked = groups.iter().map(|group| group.header.lines_len as usize).max().unwrap_or(0);
    if packed { frames } else { frames + unpacked }
}

/// A body of groups, unpacked one at a time where that is needed.
struct Groups {
    left: std::vec::IntoIter<Group>,
    packed: bool,
    // Memory of the answer; given back when it is sent.
    _share: Share,
}

impl Groups {
    fn len(&self) -> u64 {
        let len = |group: &Group| {
            u64::from(if self.packed { group.header.frame_len } else { group.header.lines_len })
        };
        self.left.as_slice().iter().map(len).sum()
    }
}

impl hyper::body::Body for Groups {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let packed = self.packed;
        Poll::Ready(self.left.next().map(|group| {
            let data =
                if packed { group.frame } else { group.lines().map_err(io::Error::other)?.into() };
            Ok(Frame::data(data))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}
