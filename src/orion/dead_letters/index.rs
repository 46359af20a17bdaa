//! Which dead letters are open, small enough to be held in memory.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use super::letter::{DeadLetter, Item, Place};
use crate::ngsi::EntityKey;
use crate::record::Sequence;

#[derive(Debug)]
struct Open {
    place: u64,
    entities: Box<[u64]>,
    superseded: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    open: BTreeMap<Sequence, Open>,
    /// Ids by the hash of an entity; only of those not superseded.
    by_entity: HashMap<u64, Vec<Sequence>>,
    by_place: HashMap<u64, Sequence>,
}

/// 64 bits, the same for the life of the process: two that collide by chance
/// cost one `--force`.
fn hashed(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn entity(tenant: &str, id: &str) -> u64 {
    hashed((tenant, id))
}

impl Index {
    pub(super) fn apply(&mut self, seq: Sequence, item: &Item) {
        match item {
            Item::Dead(letter) => self.add(seq, letter),
            Item::Resolved { id, .. } => self.remove(*id),
            Item::Superseded { id } => {
                if let Some(open) = self.open.get_mut(id) {
                    open.superseded = true;
                    let entities = std::mem::take(&mut open.entities);
                    self.forget_entities(&entities, *id);
                }
            }
        }
    }

    pub(super) fn add(&mut self, id: Sequence, letter: &DeadLetter) {
        let entities: Box<[u64]> =
            letter.entities.iter().map(|e| entity(&e.tenant, &e.id)).collect();
        for entity in &entities {
            self.by_entity.entry(*entity).or_default().push(id);
        }
        let place = hashed(&letter.write_back);
        self.by_place.insert(place, id);
        self.open.insert(id, Open { place, entities, superseded: false });
    }

    pub(super) fn remove(&mut self, id: Sequence) {
        if let Some(open) = self.open.remove(&id) {
            self.by_place.remove(&open.place);
            self.forget_entities(&open.entities, id);
        }
    }

    fn forget_entities(&mut self, entities: &[u64], id: Sequence) {
        for entity in entities {
            if let Some(ids) = self.by_entity.get_mut(entity) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_entity.remove(entity);
                }
            }
        }
    }

    pub(super) fn forget_below(&mut self, earliest: Sequence) {
        while let Some(id) = self.lowest().filter(|id| *id < earliest) {
            self.remove(id);
        }
    }

    pub(super) fn of_place(&self, place: &Place) -> Option<Sequence> {
        self.by_place.get(&hashed(place)).copied()
    }

    /// Open ones of these entities, not superseded yet, each once.
    pub(super) fn of_entities(&self, keys: &[EntityKey]) -> Vec<Sequence> {
        if self.by_entity.is_empty() {
            return Vec::new();
        }
        let of = |key: &EntityKey| self.by_entity.get(&entity(&key.tenant, &key.id));
        let mut ids: Vec<Sequence> = keys.iter().filter_map(of).flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(super) fn superseded(&self, id: Sequence) -> Option<bool> {
        self.open.get(&id).map(|open| open.superseded)
    }

    pub(super) fn ids(&self, from: Sequence, limit: usize) -> Vec<Sequence> {
        self.open.range(from..).take(limit).map(|(id, _)| *id).collect()
    }

    pub(super) fn lowest(&self) -> Option<Sequence> {
        self.open.keys().next().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}
