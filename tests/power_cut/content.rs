//! What is in one file: as programs see it, and as it would be found after a
//! power cut. Kept by the page, as the kernel writes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::oracle::seed::Seed;

const PAGE_LEN: usize = 4096;
pub const PAGE: u64 = PAGE_LEN as u64;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type Page = [u8; PAGE_LEN];

/// What a power cut does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All of it is gone.
    All,
    /// Each page, length and entry may have reached the disk, or not.
    Some,
    /// As `Some`, and of the last write only some sectors did.
    Torn,
}

#[derive(Clone, Default)]
struct State {
    len: u64,
    /// Allocated pages; what is not here reads as zeros.
    pages: BTreeMap<u64, Arc<Page>>,
}

#[derive(Default)]
pub struct Content {
    now: State,
    durable: State,
    /// Pages that differ, as far as the kernel knows.
    dirty: BTreeSet<u64>,
    len_is_dirty: bool,
}

impl Content {
    pub fn len(&self) -> u64 {
        self.now.len
    }

    pub fn pages(&self) -> u64 {
        self.now.pages.len() as u64
    }

    /// Pages that a write would take in addition.
    pub fn new_pages(&self, range: Range<u64>) -> u64 {
        pages_of(range).filter(|page| !self.now.pages.contains_key(page)).count() as u64
    }

    pub fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.now.len.min(offset + size as u64);
        let mut bytes = Vec::with_capacity(size);
        let mut at = offset;
        while at < end {
            let (page, from) = (at / PAGE, index(at % PAGE));
            let until = index(PAGE.min(end - page * PAGE));
            match self.now.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[from..until]),
                None => bytes.resize(bytes.len() + until - from, 0),
            }
            at = (page + 1) * PAGE;
        }
        bytes
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut data = data;
        let mut at = offset;
        while !data.is_empty() {
            let (page, from) = (at / PAGE, index(at % PAGE));
            let (now, rest) = data.split_at(data.len().min(PAGE_LEN - from));
            self.page_mut(page)[from..from + now.len()].copy_from_slice(now);
            (data, at) = (rest, at + now.len() as u64);
        }
        self.extend(at);
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.now.len {
            let beyond = self.now.pages.split_off(&len.div_ceil(PAGE));
            self.dirty.extend(beyond.into_keys());
            if !len.is_multiple_of(PAGE) && self.now.pages.contains_key(&(len / PAGE)) {
                self.page_mut(len / PAGE)[index(len % PAGE)..].fill(0);
            }
        }
        self.now.len = len;
        self.len_is_dirty = true;
    }

    /// `fallocate`: the pages are there from now on, full of zeros.
    pub fn allocate(&mut self, range: Range<u64>, keeps_len: bool) {
        for page in pages_of(range.clone()) {
            if !self.now.pages.contains_key(&page) {
                self.page_mut(page);
            }
        }
        if !keeps_len {
            self.extend(range.end);
        }
    }

    /// Zeros in that range; its whole pages are given back where `punches`.
    pub fn zero(&mut self, range: Range<u64>, punches: bool) {
        for page in pages_of(range.clone()) {
            let start = page * PAGE;
            let (from, until) = (range.start.max(start), range.end.min(start + PAGE));
            if punches && until - from == PAGE {
                self.now.pages.remove(&page);
                self.dirty.insert(page);
            } else if self.now.pages.contains_key(&page) {
                self.page_mut(page)[index(from - start)..index(until - start)].fill(0);
            }
        }
    }

    fn extend(&mut self, len: u64) {
        if len > self.now.len {
            self.now.len = len;
            self.len_is_dirty = true;
        }
    }

    fn page_mut(&mut self, page: u64) -> &mut Page {
        self.dirty.insert(page);
        let empty = || Arc::new([0; PAGE_LEN]);
        Arc::make_mut(self.now.pages.entry(page).or_insert_with(empty))
    }

    /// A sync that succeeds: what is dirty is durable. What a failed one
    /// marked clean is not dirty, and stays as it was on the disk.
    pub fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.write_back(page);
        }
        self.write_back_len();
    }

    /// A sync that fails: some pages may have reached the disk, and all count
    /// as clean from now on, as Linux does it.
    pub fn fail_sync(&mut self, chance: &mut Seed) {
        for page in std::mem::take(&mut self.dirty) {
            if chance.one_in(2) {
                self.write_back(page);
            }
        }
        self.len_is_dirty = false;
    }

    /// The kernel writes one page back, because it likes to.
    pub fn write_back_any(&mut self, chance: &mut Seed) {
        let at = chance.below(self.dirty.len().max(1) as u64);
        if let Some(page) = self.dirty.iter().nth(index(at)).copied() {
            self.dirty.remove(&page);
            self.write_back(page);
        }
        if chance.one_in(2) {
            self.write_back_len();
        }
    }

    fn write_back(&mut self, page: u64) {
        match self.now.pages.get(&page) {
            Some(bytes) => self.durable.pages.insert(page, Arc::clone(bytes)),
            None => self.durable.pages.remove(&page),
        };
    }

    fn write_back_len(&mut self) {
        if std::mem::take(&mut self.len_is_dirty) {
            self.durable.len = self.now.len;
        }
    }

    /// The power goes, and comes again. `last` is where the last write of all
    /// was, if that was in this file.
    pub fn cut(&mut self, cut: Cut, last: Option<Range<u64>>, chance: &mut Seed) {
        if cut != Cut::All {
            let torn: BTreeSet<u64> = match last {
                Some(last) if cut == Cut::Torn => pages_of(last).collect(),
                _ => BTreeSet::new(),
            };
            for page in std::mem::take(&mut self.dirty) {
                if torn.contains(&page) {
                    self.tear(page, chance);
                } else if chance.one_in(2) {
                    self.write_back(page);
                }
            }
            if chance.one_in(2) {
                self.write_back_len();
            }
        }
        self.dirty.clear();
        self.len_is_dirty = false;
        // Nothing beyond the end is ever seen again.
        let len = self.durable.len;
        self.durable.pages.split_off(&len.div_ceil(PAGE));
        if !len.is_multiple_of(PAGE)
            && let Some(page) = self.durable.pages.get_mut(&(len / PAGE))
        {
            Arc::make_mut(page)[index(len % PAGE)..].fill(0);
        }
        self.now = self.durable.clone();
    }

    /// Of that page some sectors reach the disk: the first ones, or any.
    fn tear(&mut self, page: u64, chance: &mut Seed) {
        let Some(new) = self.now.pages.get(&page).cloned() else { return };
        let old = self.durable.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
        let in_order = chance.one_in(2);
        let first = chance.below(PAGE / SECTOR as u64 + 1);
        for at in 0..PAGE_LEN / SECTOR {
            let reaches = if in_order { (at as u64) < first } else { chance.one_in(2) };
            if reaches {
                let sector = at * SECTOR..(at + 1) * SECTOR;
                Arc::make_mut(old)[sector.clone()].copy_from_slice(&new[sector]);
            }
        }
    }
}

fn pages_of(range: Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}
