//! How long to wait after a failure.

use std::time::Duration;

/// Full jitter: a random time up to `min` doubled with each failure, so that
/// many gateways do not come back at the same moment.
pub(crate) fn wait(failures: u32, min: Duration, max: Duration) -> Duration {
    let doubled = min.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
    within(doubled.min(max))
}

/// A random time up to that.
pub(crate) fn within(bound: Duration) -> Duration {
    bound.mul_f64(random())
}

/// In 0..1.
fn random() -> f64 {
    let mut bytes = [0u8; 4];
    // No kernel since 3.17 refuses; half the time is still a time.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        return 0.5;
    }
    f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_grows_with_the_failures_but_never_beyond_the_maximum() {
        let (min, max) = (Duration::from_millis(500), Duration::from_mins(1));
        for failures in [0, 1, 5, 31, 32, u32::MAX] {
            let bound = if failures < 2 { min * (1 << failures) } else { max };
            for _ in 0..100 {
                assert!(wait(failures, min, max) <= bound);
            }
        }
        assert!((0..100).any(|_| wait(9, min, max) > Duration::from_secs(10)));
    }
}
