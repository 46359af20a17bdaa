//! The query of a request.

use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Parameters of a query, each known and given once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query that may hold only `known` parameters.
    ///
    /// # Errors
    /// What is wrong with it, for whoever sent it.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let mut given: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let text = percent_decode_str(text).decode_utf8();
                text.map(std::borrow::Cow::into_owned)
                    .map_err(|_| "the query is not UTF-8".to_owned())
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                return Err(format!(
                    "{name} is not a parameter here; there are {}",
                    known.join(", ")
                ));
            }
            if given.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name} is given twice"));
            }
            given.push((name, value));
        }
        Ok(Self(given))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |value: &str| {
            value.parse().map_err(|_| format!("{name}={value} is not a whole number of 0 or more"))
        };
        self.text(name).map(parse).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(format!("{name}={other} is neither true nor false")),
        }
    }

    /// A duration with its unit, or a number of seconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        let parse = |value: &str| {
            if let Ok(seconds) = value.parse() {
                return Ok(Duration::from_secs(seconds));
            }
            humantime::parse_duration(value)
                .map_err(|_| format!("{name}={value} is not a duration; write for example 30s"))
        };
        self.text(name).map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_or_not_of_its_kind_is_named() {
        let error = |query| {
            let query = Query::parse(Some(query), &["from", "wait", "rewind"]);
            query.and_then(|q| q.number("from").and(q.duration("wait").map(drop))).unwrap_err()
        };
        assert_eq!(error("form=1"), "form is not a parameter here; there are from, wait, rewind");
        assert_eq!(error("from=1&from=2"), "from is given twice");
        assert_eq!(error("from=-1"), "from=-1 is not a whole number of 0 or more");
        assert_eq!(error("wait=soon"), "wait=soon is not a duration; write for example 30s");
    }

    #[test]
    fn what_is_given_is_read() {
        let query =
            Query::parse(Some("from=7&wait=1m30s&rewind"), &["from", "wait", "rewind"]).unwrap();
        assert_eq!(query.number("from"), Ok(Some(7)));
        assert_eq!(query.duration("wait"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(query.flag("rewind"), Ok(true));
        assert_eq!(query.text("epoch"), None);
    }
}
