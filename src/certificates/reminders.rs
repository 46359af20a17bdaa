//! What is said of certificates in the log: when it becomes true, and once a
//! day while it stays so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::report::Concern;

const AGAIN: Duration = Duration::from_hours(24);

/// What was said last, and when, by the monotonic clock.
#[derive(Default)]
pub(super) struct Reminders(HashMap<String, (Concern, Instant)>);

impl Reminders {
    /// Says what is due of all there is to say now: what a certificate is, and
    /// its problem.
    pub(super) fn say(&mut self, all: Vec<(String, Concern, String)>, now: Instant) {
        let mut said = HashMap::new();
        for (certificate, concern, problem) in all {
            let before = self.0.get(&certificate).copied();
            let is_due = before.is_none_or(|(said, at)| said != concern || now >= at + AGAIN);
            if is_due {
                match concern {
                    Concern::Ending | Concern::Unusable => {
                        warn!(certificate, problem, "a certificate needs care");
                    }
                    Concern::Expired => {
                        error!(certificate, problem, "a certificate needs care at once");
                    }
                }
            }
            let at = before.filter(|_| !is_due).map_or(now, |(_, at)| at);
            said.insert(certificate, (concern, at));
        }
        self.0 = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reminders hold after saying it: when it was said.
    fn said_at(reminders: &mut Reminders, concern: Concern, now: Instant) -> Instant {
        reminders.say(vec![("a".to_owned(), concern, String::new())], now);
        reminders.0["a"].1
    }

    #[test]
    fn a_problem_is_said_at_once_then_daily_and_anew_when_it_grows() {
        let mut reminders = Reminders::default();
        let begun = Instant::now();
        let hours = |hours| begun + Duration::from_hours(hours);
        assert_eq!(said_at(&mut reminders, Concern::Ending, begun), begun);
        assert_eq!(said_at(&mut reminders, Concern::Ending, hours(23)), begun);
        assert_eq!(said_at(&mut reminders, Concern::Ending, hours(24)), hours(24));
        assert_eq!(said_at(&mut reminders, Concern::Expired, hours(25)), hours(25));
        reminders.say(Vec::new(), hours(26));
        assert!(reminders.0.is_empty(), "what was repaired may break again");
    }
}
