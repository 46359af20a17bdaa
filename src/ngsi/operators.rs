//! Update operators in NGSIv2 attribute values, such as `{"$inc": 3}`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// What the operators of a body allow. Ordered: the worst one wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operators {
    /// None: a plain value.
    #[default]
    None,
    /// Only such as give the same when done twice.
    Idempotent,
    /// At least one that counts, or one that is not known.
    NotIdempotent,
}

/// Orion hands these to `MongoDB` under the same names. A second run of each
/// finds its work already done; `$inc`, `$mul` and `$push` do it again.
const IDEMPOTENT: &[&str] = &["$set", "$unset", "$min", "$max", "$addToSet", "$pull", "$pullAll"];

impl Operators {
    /// Looks for operators at every depth: a `$` key that turns out to be data
    /// only costs a repeat that would have been safe.
    pub(super) fn of(body: &[u8]) -> Self {
        // Nearly every body ends here, unparsed.
        let escaped = body.windows(6).any(|w| w == br"\u0024");
        if !escaped && !body.contains(&b'$') {
            return Self::None;
        }
        // What we cannot read (too deep for us, say) Orion might.
        serde_json::from_slice::<Scan>(body).map_or(Self::NotIdempotent, |scan| scan.0)
    }
}

struct Scan(Operators);

impl<'de> Deserialize<'de> for Scan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScanVisitor)
    }
}

struct ScanVisitor;

impl<'de> Visitor<'de> for ScanVisitor {
    type Value = Scan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }
    fn visit_str<E>(self, _: &str) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }
    fn visit_unit<E>(self) -> Result<Scan, E> {
        Ok(Scan(Operators::None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scan, A::Error> {
        let mut found = Operators::None;
        while let Some(Scan(more)) = seq.next_element()? {
            found = found.max(more);
        }
        Ok(Scan(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scan, A::Error> {
        let mut found = Operators::None;
        while let Some((key, Scan(more))) = map.next_entry::<String, Scan>()? {
            found = found.max(more);
            if IDEMPOTENT.contains(&key.as_str()) {
                found = found.max(Operators::Idempotent);
            } else if key.starts_with('$') {
                found = Operators::NotIdempotent;
            }
        }
        Ok(Scan(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_that_count_are_found_wherever_they_are() {
        for (body, expected) in [
            (r#"{"t":{"value":1,"type":"Number"}}"#, Operators::None),
            (r#"{"price":{"value":"5 $","type":"Text"}}"#, Operators::None),
            (r#"{"t":{"value":{"$inc":3},"type":"Number"}}"#, Operators::NotIdempotent),
            (r#"{"t":{"$mul":3}}"#, Operators::NotIdempotent),
            (r#"{"$push":3}"#, Operators::NotIdempotent),
            (r#"{"\u0024inc":3}"#, Operators::NotIdempotent),
            (r#"{"$newOne":3}"#, Operators::NotIdempotent),
            (r#"{"entities":[{"id":"1","t":{"value":{"$inc":1}}}]}"#, Operators::NotIdempotent),
            (r#"{"a":{"value":{"$max":3}},"b":{"value":{"$addToSet":1}}}"#, Operators::Idempotent),
            (r#"{"a":{"value":{"$set":{"x":1},"$unset":{"y":1}}}}"#, Operators::Idempotent),
            (r#"{"a":{"value":{"$max":3}},"b":{"value":{"$inc":1}}}"#, Operators::NotIdempotent),
            (r#"{"$inc""#, Operators::NotIdempotent),
        ] {
            assert_eq!(Operators::of(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn an_operator_too_deep_to_be_read_is_taken_for_the_worst() {
        let body = format!("{}{}", "[".repeat(500), r#"{"$set":1}"#);
        assert_eq!(Operators::of(body.as_bytes()), Operators::NotIdempotent);
    }
}
