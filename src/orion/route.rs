//! Which stream a notification belongs to: the one its path names, else the
//! first route that fits, else `default`.

use serde::{Deserialize, Serialize};

use crate::ngsi::{Glimpse, glimpse};
use crate::store::DEFAULT_STREAM;

/// `[[route]]`: notifications that name no stream go to `stream` where every
/// condition that is given holds. The first route that fits counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Where to.
    pub stream: String,
    /// `Fiware-Service` (or `NGSILD-Tenant`), whatever its case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `Fiware-ServicePath`; with `/#` at its end, all below it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_path: Option<String>,
    /// Type of an entity in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<String>,
}

impl Route {
    fn fits(&self, seen: &Glimpse<'_>) -> bool {
        let tenant = self.tenant.as_ref().is_none_or(|wanted| {
            seen.tenant.is_some_and(|tenant| tenant.eq_ignore_ascii_case(wanted))
        });
        let service_path = self
            .service_path
            .as_ref()
            .is_none_or(|wanted| seen.service_path.is_some_and(|path| is_within(path, wanted)));
        let entity_type = self
            .entity_type
            .as_ref()
            .is_none_or(|wanted| seen.entity_types.iter().any(|seen| seen.as_ref() == wanted));
        tenant && service_path && entity_type
    }
}

/// Orion's `/#` means the path and all below it.
fn is_within(path: &str, wanted: &str) -> bool {
    match wanted.strip_suffix("/#") {
        None => path == wanted,
        Some(above) => {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// The stream for a request to `path`.
pub(super) fn stream_of<'a>(
    path: &'a str,
    routes: &'a [Route],
    headers: &http::HeaderMap,
    body: &[u8],
) -> &'a str {
    if let Some(named) = named_stream(path) {
        return named;
    }
    if routes.is_empty() {
        return DEFAULT_STREAM;
    }
    let seen = glimpse(headers, body);
    routes.iter().find(|route| route.fits(&seen)).map_or(DEFAULT_STREAM, |route| &route.stream)
}

/// The stream that a path of the form `/notify/{stream}` names.
fn named_stream(path: &str) -> Option<&str> {
    let path = path.split('?').next()?;
    let rest = path.strip_prefix("/notify/")?;
    let name = rest.split('/').next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn press() -> Route {
        Route {
            stream: "press".to_owned(),
            tenant: Some("plant1".to_owned()),
            service_path: Some("/line/#".to_owned()),
            entity_type: Some("Press".to_owned()),
        }
    }

    fn headers(tenant: &'static str, service_path: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("fiware-service", HeaderValue::from_static(tenant));
        headers.insert("fiware-servicepath", HeaderValue::from_static(service_path));
        headers
    }

    const BODY: &[u8] = br#"{"subscriptionId":"x","data":[{"id":"p1","type":"Press"}]}"#;

    #[test]
    fn the_path_names_the_stream_before_any_route() {
        let routes = [press()];
        let headers = headers("plant1", "/line");
        assert_eq!(stream_of("/notify/oven?x=1", &routes, &headers, BODY), "oven");
        assert_eq!(stream_of("/notify", &routes, &headers, BODY), "press");
        assert_eq!(stream_of("/", &routes, &headers, BODY), "press");
    }

    #[test]
    fn every_condition_of_a_route_must_hold() {
        let routes = [press()];
        let to = |headers: &HeaderMap, body| stream_of("/", &routes, headers, body).to_owned();
        assert_eq!(to(&headers("Plant1", "/line/a"), BODY), "press");
        assert_eq!(to(&headers("plant2", "/line/a"), BODY), "default");
        assert_eq!(to(&headers("plant1", "/liner"), BODY), "default");
        assert_eq!(to(&headers("plant1", "/line"), b"not json"), "default");
    }
}
