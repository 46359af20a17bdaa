//! What reached Orion, against what was accepted.

use std::collections::BTreeSet;

use serde_json::Value;

use super::writers::{Taken, Writes, Written};
use crate::common::orion::{Answered, Applied, OrionStandIn, Request, State};

/// Says in which life a write-back was sent.
pub const LIFE: &str = "x-life";

/// What a dead letter of the campaign must be: a write that must not be
/// repeated, whose answer was lost.
struct Ambiguous {
    entity: String,
    number: u64,
}

/// How many there were of what is worth telling.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub accepted: u64,
    pub applied: u64,
    pub repeated: u64,
    pub ambiguous: u64,
}

/// Every accepted write is at Orion, or a dead letter for a good reason; none
/// is out of order, invented, or repeated without need.
/// `excused` tells of a life whether answers of Orion could be lost in it.
pub fn check(
    orion: &OrionStandIn,
    written: &Written,
    dead_letters: &[Value],
    excused: &dyn Fn(u64) -> bool,
) -> Counts {
    let state = orion.state();
    let ambiguous: Vec<Ambiguous> = dead_letters.iter().map(ambiguous).collect();
    let mut counts = Counts { ambiguous: ambiguous.len() as u64, ..Counts::default() };
    let written = written.lock();
    let entities: BTreeSet<&String> = written.keys().collect();
    for applied in state.requests.iter().filter(|request| request.applied) {
        let [entity] = applied.targets.as_slice() else { panic!("{applied:?}") };
        let ours = entity.starts_with("urn:L") || entities.contains(entity);
        assert!(ours, "nobody wrote to {entity}");
    }
    for (entity, writes) in written.iter() {
        let of_this = ambiguous.iter().filter(|dead| dead.entity == *entity);
        let dead = of_this.map(|dead| dead.number).collect();
        check_entity(&state, entity, writes, &dead, excused, &mut counts);
    }
    for dead in ambiguous {
        let known = written.get(&dead.entity).and_then(|writes| writes.get(&dead.number));
        let known = known.is_some_and(|taken| *taken != Taken::Never);
        assert!(known, "{} {} is dead, and nobody wrote it", dead.entity, dead.number);
    }
    counts
}

fn check_entity(
    state: &State,
    entity: &str,
    writes: &Writes,
    dead: &BTreeSet<u64>,
    excused: &dyn Fn(u64) -> bool,
    counts: &mut Counts,
) {
    let history: Vec<Applied> = state.entities.history("", entity);
    let updates = history.iter().filter(|applied| applied.operation != "create");
    let numbers: Vec<(u64, bool, &Request)> = updates
        .map(|applied| {
            let (number, once) = number_of(&applied.sent);
            (number, once, &state.requests[applied.request])
        })
        .collect();
    for pair in numbers.windows(2) {
        let [(before, once, first), (after, _, second)] = pair else { continue };
        assert!(before <= after, "{entity}: {before} before {after}\n{first:?}\n{second:?}");
        if before < after {
            continue;
        }
        counts.repeated += 1;
        assert!(!once, "{entity}: {before} must not be repeated\n{first:?}\n{second:?}");
        // Its outcome was known, and the gateway lived on.
        let needless = first.header(LIFE) == second.header(LIFE)
            && matches!(first.answered, Answered::Status(..))
            && !first.header(LIFE).and_then(|life| life.parse().ok()).is_some_and(excused);
        assert!(!needless, "{entity}: {before} is repeated\n{first:?}\n{second:?}");
    }
    let applied: BTreeSet<u64> = numbers.iter().map(|(number, ..)| *number).collect();
    for (number, taken) in writes {
        let there = applied.contains(number) || dead.contains(number);
        match taken {
            Taken::Yes => assert!(there, "{entity}: {number} was accepted, and is lost"),
            Taken::Never => assert!(!there, "{entity}: {number} was never committed"),
            Taken::Unknown => {}
        }
        counts.accepted += u64::from(*taken == Taken::Yes);
    }
    for number in &applied {
        assert!(writes.contains_key(number), "{entity}: nobody wrote {number}");
    }
    counts.applied += applied.len() as u64;
    // The entity itself says it too: nothing is in the list twice.
    let now = state.entities.entity("", entity).unwrap();
    let list: Vec<u64> = serde_json::from_value(now["once"]["value"].clone()).unwrap();
    assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{entity}: {list:?}");
}

/// The number of a write, and whether it must not be repeated.
fn number_of(attributes: &Value) -> (u64, bool) {
    let number = attributes["number"]["value"].as_u64();
    let once = || attributes["once"]["value"]["$push"].as_u64();
    match number {
        Some(number) => (number, false),
        None => (once().unwrap_or_else(|| panic!("what is {attributes}?")), true),
    }
}

fn ambiguous(letter: &Value) -> Ambiguous {
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.starts_with("ambiguous"), "{letter}");
    let body = letter["request"]["body"].as_str().unwrap();
    let (number, once) = number_of(&serde_json::from_str(body).unwrap());
    assert!(once, "{letter}");
    Ambiguous { entity: letter["entities"][0]["id"].as_str().unwrap().to_owned(), number }
}
