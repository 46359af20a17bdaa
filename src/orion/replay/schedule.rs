//! Which unit may go: in order for each entity, in parallel over entities.

use std::collections::{BTreeMap, HashMap};

use crate::ngsi::{EntityKey, Targets};

/// A unit's place in the order in which units were read.
pub(super) type Ordinal = u64;

#[derive(Debug, Default)]
struct Node {
    /// How many units it still waits for.
    waits: usize,
    /// The units that wait for it.
    dependents: Vec<Ordinal>,
    keys: Vec<EntityKey>,
}

/// The unfinished units and who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    nodes: BTreeMap<Ordinal, Node>,
    /// The newest unit of each entity since the newest barrier.
    tails: HashMap<EntityKey, Ordinal>,
    /// The newest unfinished barrier.
    barrier: Option<Ordinal>,
}

impl Schedule {
    /// Takes a unit in, behind all before it; `after` is one that it has to
    /// wait for in any case. Answers whether it may go at once.
    pub(super) fn add(&mut self, unit: Ordinal, targets: &Targets, after: Option<Ordinal>) -> bool {
        let mut earlier: Vec<Ordinal> = Vec::new();
        let mut keys = Vec::new();
        match targets {
            Targets::Barrier => {
                earlier.extend(self.nodes.keys());
                // Whoever comes later waits for this one, and so for all of these.
                self.tails.clear();
                self.barrier = Some(unit);
            }
            Targets::Entities(entities) => {
                earlier.extend(self.barrier);
                for key in entities {
                    earlier.extend(self.tails.insert(key.clone(), unit));
                }
                keys.clone_from(entities);
            }
        }
        earlier.extend(after);
        earlier.sort_unstable();
        earlier.dedup();
        let mut waits = 0;
        for other in earlier {
            if let Some(node) = self.nodes.get_mut(&other) {
                node.dependents.push(unit);
                waits += 1;
            }
        }
        self.nodes.insert(unit, Node { waits, dependents: Vec::new(), keys });
        waits == 0
    }

    /// Takes a finished unit out; answers with those that may go now.
    pub(super) fn finish(&mut self, unit: Ordinal) -> Vec<Ordinal> {
        let Some(node) = self.nodes.remove(&unit) else { return Vec::new() };
        for key in &node.keys {
            if self.tails.get(key) == Some(&unit) {
                self.tails.remove(key);
            }
        }
        if self.barrier == Some(unit) {
            self.barrier = None;
        }
        let mut free = Vec::new();
        for dependent in node.dependents {
            if let Some(waiting) = self.nodes.get_mut(&dependent) {
                waiting.waits = waiting.waits.saturating_sub(1);
                if waiting.waits == 0 {
                    free.push(dependent);
                }
            }
        }
        free
    }

    /// The newest unit of an entity, where nothing came after it that it
    /// would have to be kept apart from.
    pub(super) fn newest_of(&self, key: &EntityKey) -> Option<Ordinal> {
        self.tails.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[&str]) -> Targets {
        let key = |id: &&str| EntityKey { tenant: "".into(), id: (*id).to_owned() };
        Targets::Entities(ids.iter().map(key).collect())
    }

    #[test]
    fn writes_of_one_entity_go_one_after_the_other_and_others_go_along() {
        let mut schedule = Schedule::default();
        assert!(schedule.add(0, &of(&["a"]), None));
        assert!(!schedule.add(1, &of(&["a"]), None));
        assert!(schedule.add(2, &of(&["b"]), None));
        assert!(!schedule.add(3, &of(&["a", "b"]), None));
        assert!(schedule.finish(2).is_empty());
        assert_eq!(schedule.finish(0), [1]);
        assert_eq!(schedule.finish(1), [3]);
        assert!(schedule.finish(3).is_empty());
        assert!(schedule.add(4, &of(&["a"]), None));
    }

    #[test]
    fn a_write_for_whom_cannot_be_told_waits_for_all_and_all_wait_for_it() {
        let mut schedule = Schedule::default();
        schedule.add(0, &of(&["a"]), None);
        schedule.add(1, &of(&["b"]), None);
        assert!(!schedule.add(2, &Targets::Barrier, None));
        assert!(!schedule.add(3, &of(&["a"]), None));
        assert!(!schedule.add(4, &Targets::Barrier, None));
        assert!(schedule.finish(1).is_empty());
        assert_eq!(schedule.finish(0), [2]);
        assert_eq!(schedule.finish(2), [3]);
        assert_eq!(schedule.finish(3), [4]);
        assert!(schedule.finish(4).is_empty());
        assert!(schedule.add(5, &of(&["c"]), None));
    }

    #[test]
    fn the_parts_of_a_row_go_in_their_order() {
        let mut schedule = Schedule::default();
        assert!(schedule.add(0, &of(&["a"]), None));
        assert!(!schedule.add(1, &of(&["b"]), Some(0)));
        assert_eq!(schedule.finish(0), [1]);
        // Finished before: nothing to wait for.
        assert!(schedule.add(2, &of(&["c"]), Some(0)));
    }
}
