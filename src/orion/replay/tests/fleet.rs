//! A fleet of gateways and one Orion that comes back: they must not come to
//! it all at once. The clock is paused, the waits are the replay's own.

use super::*;
use crate::orion::replay::target::Target;

const GATEWAYS: u32 = 200;
const SLOT: Duration = Duration::from_millis(100);

/// Targets that all lost their Orion at the same moment, each with a unit to
/// be sent.
fn fleet(config: &Config) -> Vec<Target> {
    let endpoint = Arc::new(Endpoint::all(config).unwrap().remove(0));
    let mut fleet: Vec<Target> =
        (0..GATEWAYS).map(|_| Target::new(Arc::clone(&endpoint), None, None)).collect();
    for target in &mut fleet {
        target.failed("connection refused", true, config);
        target.put_back(0, Instant::now());
    }
    fleet
}

/// Lets everyone try, in vain, until `until`.
async fn fail_until(fleet: &mut [Target], config: &Config, until: Instant) {
    while let Some(next) = fleet.iter_mut().filter_map(Target::wakes_at).min()
        && next < until
    {
        tokio::time::sleep_until(next).await;
        for target in &mut *fleet {
            if let Some(unit) = target.take(Instant::now(), 1, |_| 0) {
                target.ended(unit);
                target.failed("connection refused", true, config);
                target.put_back(unit, Instant::now());
            }
        }
    }
    tokio::time::sleep_until(until).await;
}

/// When each comes next, counted by slots from now on.
fn arrivals(fleet: &mut [Target]) -> Vec<u32> {
    let now = Instant::now();
    let mut slots = Vec::new();
    for target in fleet {
        let wait = target.wakes_at().unwrap().saturating_duration_since(now);
        let slot = usize::try_from(wait.as_millis() / SLOT.as_millis()).unwrap();
        slots.resize(slots.len().max(slot + 1), 0);
        slots[slot] += 1;
    }
    assert_eq!(slots.iter().sum::<u32>(), GATEWAYS);
    slots
}

/// The fullest slot may hold so many where arrivals are even over `spread`:
/// beyond six deviations of a random count it is no chance any more.
fn assert_even(slots: &[u32], spread: Duration) {
    let mean = f64::from(GATEWAYS) * SLOT.as_secs_f64() / spread.as_secs_f64();
    let bound = mean + 6.0 * mean.sqrt() + 3.0;
    let peak = slots.iter().max().copied().unwrap_or_default();
    assert!(f64::from(peak) < bound, "{peak} at once, at most {bound:.1}: {slots:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_comes_back_to_an_orion_without_stampeding() {
    let config = at("http://127.0.0.1:9".to_owned());
    let config = Config {
        backoff_min: Duration::from_millis(500),
        backoff_max: Duration::from_mins(1),
        ..config
    };
    // Long enough that many waits are at their upper bound, and not.
    for outage in [Duration::from_secs(20), Duration::from_mins(10)] {
        let mut fleet = fleet(&config);
        fail_until(&mut fleet, &config, Instant::now() + outage).await;
        // Waits are random up to a minute at last; shorter ones come first.
        assert_even(&arrivals(&mut fleet), Duration::from_secs(12));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_that_all_of_a_fleet_see_brings_them_soon_but_not_at_once() {
    let config = at("http://127.0.0.1:9".to_owned());
    let config = Config { backoff_max: Duration::from_mins(1), ..config };
    let mut fleet = fleet(&config);
    fail_until(&mut fleet, &config, Instant::now() + Duration::from_mins(10)).await;
    // A thousand signs are no more than one.
    for _ in 0..1000 {
        fleet.iter_mut().for_each(Target::sign_of_life);
    }
    let slots = arrivals(&mut fleet);
    assert!(slots.len() <= 24, "{slots:?}");
    assert_even(&slots, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_was_asked_for_a_pause_together_does_not_come_back_together() {
    let config = at("http://127.0.0.1:9".to_owned());
    let mut fleet = fleet(&config);
    for target in &mut fleet {
        target.answered(0);
        // One answer for each request that was in flight.
        for _ in 0..8 {
            target.hold(Duration::from_secs(4));
        }
    }
    let slots = arrivals(&mut fleet);
    assert!(slots[..39].iter().all(|count| *count == 0), "{slots:?}");
    assert_even(&slots, Duration::from_secs(2));
}
