//! Units as they come from the feed.

use super::config::Coalesce;
use super::engine::Engine;
use super::feed::Fed;
use super::metrics::Kind;
use super::schedule::Ordinal;
use super::unit::{Content, State, Unit, Why};
use crate::ngsi::{self, AfterAmbiguity, Targets};

/// So many write-backs are merged into one at most: their ids stay in memory.
const MERGED: usize = 1024;

impl Engine {
    pub(super) fn take_in(&mut self, fed: Fed) {
        match fed {
            Fed::Begin { seq, needs } => self.positions.begin(seq, needs),
            Fed::End { next, staged } => self.positions.end(next, staged),
            Fed::Unit(unit) => self.add(*unit),
        }
    }

    fn add(&mut self, unit: Unit) {
        let Some(unit) = self.merged(unit) else {
            self.next += 1;
            return;
        };
        let ordinal = self.next;
        self.next += 1;
        let free = match &unit.content {
            Content::Write { targets, .. } => {
                let part_before = unit.ids.first().is_some_and(|id| id.3 > 0);
                let after = part_before.then(|| ordinal.wrapping_sub(1));
                self.schedule.add(ordinal, targets, after)
            }
            Content::Unfit { .. } => {
                self.schedule.add(ordinal, &Targets::Entities(Vec::new()), None)
            }
        };
        self.units.insert(ordinal, unit);
        if free {
            self.free(ordinal);
        }
    }

    /// A unit's turn has come.
    pub(super) fn free(&mut self, ordinal: Ordinal) {
        let Some(unit) = self.units.get(&ordinal) else { return };
        match &unit.content {
            Content::Unfit { reason, .. } => {
                let why = Why::new(reason.clone());
                self.bury(ordinal, Kind::unreadable, why, None);
            }
            Content::Write { request, .. }
                if unit.ambiguous && request.after_ambiguity() == AfterAmbiguity::Never =>
            {
                let why = "ambiguous: the gateway ended while this was sent, and sending it again might count it twice";
                self.bury(ordinal, Kind::ambiguous, Why::new(why), None);
            }
            Content::Write { .. } => {
                let target = unit.target;
                self.targets[target].ready.insert(ordinal);
            }
        }
    }

    /// With `coalesce = "latest"`, while the target is down: merges a unit into
    /// the newest one of its entity. Gives it back where that cannot be.
    fn merged(&mut self, mut unit: Unit) -> Option<Unit> {
        if self.config.coalesce != Coalesce::Latest || self.targets[unit.target].is_up() {
            return Some(unit);
        }
        let Content::Write { request: newer, targets: Targets::Entities(keys), .. } = &unit.content
        else {
            return Some(unit);
        };
        let [key] = keys.as_slice() else { return Some(unit) };
        let ordinal = self.schedule.newest_of(key);
        let older = ordinal.and_then(|ordinal| self.units.get_mut(&ordinal));
        let Some(older) = older else { return Some(unit) };
        if older.state != State::Waiting || older.target != unit.target || older.ids.len() >= MERGED
        {
            return Some(unit);
        }
        let Content::Write { request, .. } = &mut older.content else { return Some(unit) };
        let Some(body) = ngsi::coalesce(request, newer) else { return Some(unit) };
        if body.len() > request.body().len() {
            // What it has grown by needs its room.
            older.room.extend(unit.room.pop());
        }
        *request = newer.with_body(body);
        older.ids.extend(&unit.ids);
        let name = self.targets[unit.target].name().to_owned();
        self.metrics.outcome(&name, Kind::coalesced, 1);
        None
    }
}
