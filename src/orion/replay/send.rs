//! One request to Orion, and what came of it.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::endpoint::Endpoint;
use crate::ngsi::{AfterAmbiguity, WriteRequest};
use crate::tls::chain;

/// Longer answers are cut: Orion's are short, but for a batch's errors.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Orion answered.
    Answered { status: StatusCode, headers: HeaderMap, body: Bytes },
    /// Nothing was sent: no connection.
    NotSent(String),
    /// It was, or may have been, sent; what became of it is not known.
    Lost(String),
    /// It can never be sent.
    Impossible(String),
}

/// Sends a request once.
pub(super) async fn send(
    endpoint: &Endpoint,
    token: Option<HeaderValue>,
    request: &WriteRequest,
) -> Attempt {
    let url = match url(&endpoint.url, request.path()) {
        Ok(url) => url,
        Err(reason) => return Attempt::Impossible(reason),
    };
    let mut headers = request.headers().clone();
    if let Some(token) = token {
        headers.insert(endpoint.token_header.clone(), token);
    }
    // Orion answers 411 to a request without a length, also where there is
    // nothing to measure.
    if request.body().is_empty() && *request.method() != Method::DELETE {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let never_again = request.after_ambiguity() == AfterAmbiguity::Never;
    let client = if never_again { &endpoint.fresh } else { &endpoint.client };
    let mut sending = client.request(request.method().clone(), url).headers(headers);
    if !request.body().is_empty() {
        sending = sending.body(request.body().clone());
    }
    let mut answer = match sending.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_builder() => return Attempt::Impossible(chain(&error)),
        Err(error) if error.is_connect() => return Attempt::NotSent(chain(&error)),
        Err(error) if error.is_timeout() => {
            return Attempt::Lost(format!("no answer within {:?}", endpoint.timeout));
        }
        Err(error) => return Attempt::Lost(chain(&error)),
    };
    let status = answer.status();
    let headers = std::mem::take(answer.headers_mut());
    let mut body = BytesMut::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            // What was refused is in the body of a 207; every other status
            // says enough by itself.
            Err(error) if status == StatusCode::MULTI_STATUS => {
                return Attempt::Lost(chain(&error));
            }
            Ok(_) | Err(_) => break,
        }
    }
    Attempt::Answered { status, headers, body: body.freeze() }
}

/// The URL of a path, as it was given: percent-encoding may be added to it,
/// and nothing else may change.
fn url(base: &str, path: &str) -> Result<reqwest::Url, String> {
    let text = format!("{base}{path}");
    let url = reqwest::Url::parse(&text).map_err(|error| format!("its path: {error}"))?;
    let authority = text.find("://").map_or(0, |at| at + 3);
    let from = text[authority..].find('/').map_or(text.len(), |at| authority + at);
    let made = url
        .query()
        .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let same = percent_decode_str(&made).eq(percent_decode_str(&text[from..]));
    if same && url.fragment().is_none() {
        Ok(url)
    } else {
        Err("its path cannot be sent as it stands".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn a_path_reaches_orion_as_it_stands_or_not_at_all() {
        for (path, sent) in [
            ("/v2/entities/urn:a:1/attrs?type=T&options=a,b", None),
            ("/v2/entities/a%2Fb/attrs", None),
            ("/v2/entities//attrs", None),
            ("/v2/entities/é", Some("/v2/entities/%C3%A9")),
        ] {
            let expected = format!("http://h:1/base{}", sent.unwrap_or(path));
            assert_eq!(url("http://h:1/base", path).unwrap().as_str(), expected);
        }
        for path in ["/v2/../admin", "/v2/a#b", "/v2/a\\b", "/v2/%2e%2e/admin", "/v2/a\tb"] {
            assert!(url("http://h:1", path).is_err(), "{path}");
        }
    }
}
