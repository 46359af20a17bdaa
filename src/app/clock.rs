//! The system's clock, seen from a clock that never jumps: a box without a
//! battery learns the time minutes or days after its start.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::certificates::Watch;
use crate::{tls, uplink};

const EVERY: Duration = Duration::from_secs(1);
/// A time server that corrects by less does not matter to any certificate.
const JUMP: Duration = Duration::from_secs(10);
/// What was under way at the jump may fail by the old time, and would then
/// wait; so it is told again.
const ONCE_MORE: Duration = Duration::from_secs(10);

/// Tells `was_set` whenever the clock jumps, until `stop`.
pub(super) async fn watch(was_set: impl Fn() + Send, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = (SystemTime::now(), Instant::now());
    let mut once_more: Option<Instant> = None;
    warn_of_unset(known.0);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (wall, monotonic) = (SystemTime::now(), Instant::now());
        let expected = known.0 + monotonic.duration_since(known.1);
        if distance(wall, expected) >= JUMP {
            let time = |at| humantime::format_rfc3339_seconds(at).to_string();
            info!(from = time(expected), to = time(wall), "the clock was set");
            warn_of_unset(wall);
            was_set();
            once_more = Some(monotonic + ONCE_MORE);
        } else if once_more.is_some_and(|at| at <= monotonic) {
            was_set();
            once_more = None;
        }
        known = (wall, monotonic);
    }
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

fn warn_of_unset(now: SystemTime) {
    if let Some(unset) = tls::unset_clock(now) {
        warn!("{unset}; records are kept, and marked as received by an unset clock");
    }
}

/// What to do when the clock jumped: who could not verify a certificate, or
/// was refused for his own, tries again.
pub(super) fn was_set(
    certificates: &Arc<Watch>,
    signs_of_life: Arc<Notify>,
    uplink: Option<uplink::Handle>,
) -> impl Fn() + Send + 'static {
    let certificates = Arc::clone(certificates);
    move || {
        signs_of_life.notify_one();
        if let Some(uplink) = &uplink {
            uplink.try_now();
        }
        certificates.wake();
    }
}
