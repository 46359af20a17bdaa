//! The time by which certificates are judged.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// 2025-01-01T00:00:00Z in seconds since 1970. Certificates of ours begin then.
pub(crate) const BEGINNING: u64 = 1_735_689_600;

/// An earlier clock is one that nobody has set yet: the program did not exist
/// before. The moment of its build's source where the build names it
/// (`SOURCE_DATE_EPOCH`, as reproducible builds do), else [`BEGINNING`].
pub(crate) const FLOOR: u64 = floor(option_env!("SOURCE_DATE_EPOCH"));

const fn floor(source_date: Option<&str>) -> u64 {
    let Some(text) = source_date else { return BEGINNING };
    match u64::from_str_radix(text, 10) {
        Ok(seconds) if seconds > BEGINNING => seconds,
        _ => BEGINNING,
    }
}

/// The moment to judge certificates by: what the system's clock says, but
/// never before [`FLOOR`]. A board without a battery starts in 1970, and must
/// take its clients' certificates before the time server has answered.
#[derive(Debug)]
pub(super) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_secs(seconds(SystemTime::now()).max(FLOOR));
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// Whether a clock says a time that cannot be: then nothing has expired, as
/// far as anybody knows.
#[must_use]
pub fn is_unset(now: SystemTime) -> bool {
    seconds(now) < FLOOR
}

/// What to tell a person of a clock that is not set; none where it is.
#[must_use]
pub fn unset_clock(now: SystemTime) -> Option<String> {
    is_unset(now).then(|| {
        let says = humantime::format_rfc3339_seconds(now);
        format!("the clock says {says}: certificates cannot be verified until it is set")
    })
}

pub(crate) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_floor_counts_as_unset_and_says_what_it_says() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_unset(at(0)) && is_unset(at(FLOOR - 1)) && !is_unset(at(FLOOR)));
        assert!(unset_clock(at(40)).unwrap().starts_with("the clock says 1970-01-01T00:00:40Z"));
        assert_eq!(unset_clock(at(FLOOR)), None);
    }

    #[test]
    fn the_floor_is_the_sources_date_but_never_before_our_certificates_begin() {
        assert_eq!(floor(None), BEGINNING);
        assert_eq!(floor(Some("1795000000")), 1_795_000_000);
        for odd in ["0", "", "yesterday", "-1"] {
            assert_eq!(floor(Some(odd)), BEGINNING, "{odd}");
        }
    }
}
