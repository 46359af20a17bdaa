//! The files and folders of the volatile file system, twice: as programs see
//! them, and as they would be found after a power cut.
//!
//! An entry is durable after a sync of its folder, and by nothing else. A
//! rename is atomic, and durable with either of its folders.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::time::SystemTime;

use rustix::io::Errno;

use super::content::{Content, Cut, PAGE};
use super::journal::{Change, Journal};
use super::oracle::seed::Seed;

pub const ROOT: u64 = 1;

pub type Entries = BTreeMap<OsString, u64>;

pub enum Kind {
    File(Content),
    Folder { now: Entries, durable: Entries },
}

pub struct Node {
    pub kind: Kind,
    pub permissions: u16,
    pub modified: SystemTime,
    /// Where it is, or was last.
    parent: u64,
    name: OsString,
    is_linked: bool,
    /// Syncs that failed.
    errors: u64,
    /// By handle: how many of them it was told of.
    opened: BTreeMap<u64, u64>,
}

pub struct Image {
    nodes: BTreeMap<u64, Node>,
    /// Numbers, of handles too, are never given out twice, whatever a cut
    /// took back.
    next: u64,
    journal: Journal,
    last_write: Option<(u64, Range<u64>)>,
    /// Pages there are in all.
    pub capacity: u64,
    chance: Seed,
    /// Writes back now and then without being asked, as a kernel does.
    pub is_restless: bool,
}

impl Image {
    pub fn new(capacity: u64, seed: u64) -> Self {
        let (kind, name) = (folder(), OsString::new());
        let (mut nodes, chance) = (BTreeMap::new(), Seed::new(seed));
        nodes.insert(ROOT, Node::new(kind, 0o755, ROOT, name));
        let (journal, last_write) = (Journal::default(), None);
        let (next, capacity, is_restless) = (ROOT + 1, capacity / PAGE, false);
        Self { nodes, next, journal, last_write, capacity, chance, is_restless }
    }

    pub fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::NOENT)
    }

    pub fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::NOENT)
    }

    pub fn entries(&self, number: u64) -> Result<&Entries, Errno> {
        match &self.node(number)?.kind {
            Kind::Folder { now, .. } => Ok(now),
            Kind::File(_) => Err(Errno::NOTDIR),
        }
    }

    pub fn content(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Folder { .. } => Err(Errno::ISDIR),
        }
    }

    pub fn find(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.entries(parent)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// The path below the root, for whoever wants to know where something is.
    pub fn path(&self, number: u64) -> String {
        let mut names = Vec::new();
        let mut at = number;
        while let Some(node) = self.nodes.get(&at).filter(|_| at != ROOT) {
            names.push(node.name.to_string_lossy());
            at = node.parent;
        }
        names.reverse();
        names.join("/")
    }

    pub fn free_pages(&self) -> u64 {
        let used = self.nodes.values().filter(|node| node.is_linked || !node.opened.is_empty());
        let used: u64 = used.map(Node::pages).sum();
        self.capacity.saturating_sub(used)
    }

    pub fn make(
        &mut self,
        parent: u64,
        name: &OsStr,
        kind: Kind,
        permissions: u16,
    ) -> Result<u64, Errno> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EXIST);
        }
        if self.free_pages() == 0 {
            return Err(Errno::NOSPC);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node::new(kind, permissions, parent, name.to_owned()));
        self.change(None, Some((parent, name.to_owned(), number)))?;
        Ok(number)
    }

    pub fn remove(&mut self, parent: u64, name: &OsStr, is_folder: bool) -> Result<(), Errno> {
        let number = self.find(parent, name)?;
        match &self.node(number)?.kind {
            Kind::Folder { .. } if !is_folder => return Err(Errno::ISDIR),
            Kind::File(_) if is_folder => return Err(Errno::NOTDIR),
            Kind::Folder { now, .. } if !now.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.change(Some((parent, name.to_owned())), None)
    }

    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        let number = self.find(from.0, from.1)?;
        if let Ok(replaced) = self.find(to.0, to.1)
            && matches!(&self.node(replaced)?.kind, Kind::Folder { now, .. } if !now.is_empty())
        {
            return Err(Errno::NOTEMPTY);
        }
        let from = (from.0, from.1.to_owned());
        self.change(Some(from), Some((to.0, to.1.to_owned(), number)))
    }

    fn change(
        &mut self,
        from: Option<(u64, OsString)>,
        to: Option<(u64, OsString, u64)>,
    ) -> Result<(), Errno> {
        if let Some((folder, name)) = &from
            && let Some(number) = self.now_mut(*folder)?.remove(name)
            && let Some(node) = self.nodes.get_mut(&number)
        {
            node.is_linked = false;
        }
        if let Some((folder, name, number)) = &to {
            let replaced = self.now_mut(*folder)?.insert(name.clone(), *number);
            if let Some(node) = replaced.and_then(|replaced| self.nodes.get_mut(&replaced)) {
                node.is_linked = false;
            }
            let node = self.node_mut(*number)?;
            (node.parent, node.name, node.is_linked) = (*folder, name.clone(), true);
        }
        self.journal.note(Change { from, to });
        if self.is_restless && self.chance.one_in(16) {
            self.commit_some();
        }
        Ok(())
    }

    fn now_mut(&mut self, number: u64) -> Result<&mut Entries, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::Folder { now, .. } => Ok(now),
            Kind::File(_) => Err(Errno::NOTDIR),
        }
    }

    pub fn write(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let range = offset..offset + data.len() as u64;
        if self.content(number)?.new_pages(range.clone()) > self.free_pages() {
            return Err(Errno::NOSPC);
        }
        self.content(number)?.write(offset, data);
        self.node_mut(number)?.modified = SystemTime::now();
        self.last_write = Some((number, range));
        if self.is_restless && self.chance.one_in(16) {
            let mut chance = self.chance.of(1);
            self.chance.next();
            self.content(number)?.write_back_any(&mut chance);
        }
        Ok(())
    }

    /// A handle to a file. It is not told of errors that others know already.
    pub fn open(&mut self, number: u64) -> Result<u64, Errno> {
        let handle = self.next;
        self.next += 1;
        let node = self.node_mut(number)?;
        node.opened.insert(handle, node.errors);
        Ok(handle)
    }

    pub fn close(&mut self, number: u64, handle: u64) {
        if let Ok(node) = self.node_mut(number) {
            node.opened.remove(&handle);
        }
    }

    /// A sync of a file or a folder; one that is to fail does so for every
    /// handle that is open now, once, as on Linux.
    pub fn sync(
        &mut self,
        number: u64,
        handle: Option<u64>,
        fails: Option<Errno>,
    ) -> Result<(), Errno> {
        let mut chance = self.chance.of(2);
        self.chance.next();
        let node = self.node_mut(number)?;
        node.errors += u64::from(fails.is_some());
        let errors = node.errors;
        let told = handle.and_then(|handle| node.opened.insert(handle, errors));
        let was_told = told.is_none_or(|told| told == errors);
        match &mut node.kind {
            Kind::File(content) if fails.is_none() => content.sync(),
            Kind::File(content) => content.fail_sync(&mut chance),
            Kind::Folder { .. } if fails.is_none() => {
                for change in self.journal.sync(number) {
                    self.apply(change);
                }
                self.collect();
            }
            Kind::Folder { .. } => self.journal.fail_sync(number),
        }
        if self.is_restless && self.chance.one_in(16) {
            self.commit_some();
        }
        match fails {
            Some(errno) => Err(errno),
            None if was_told => Ok(()),
            None => Err(Errno::IO),
        }
    }

    /// Makes a change durable.
    fn apply(&mut self, change: Change) {
        if let Some((folder, name)) = change.from
            && let Some(entries) = self.durable_mut(folder)
        {
            entries.remove(&name);
        }
        if let Some((folder, name, number)) = change.to
            && let Some(entries) = self.durable_mut(folder)
        {
            entries.insert(name, number);
        }
    }

    fn durable_mut(&mut self, number: u64) -> Option<&mut Entries> {
        match &mut self.nodes.get_mut(&number)?.kind {
            Kind::Folder { durable, .. } => Some(durable),
            Kind::File(_) => None,
        }
    }

    /// Changes of entries reach the disk in their order, as far as chance has it.
    fn commit_some(&mut self) {
        for change in self.journal.some(&mut self.chance) {
            self.apply(change);
        }
    }

    /// The power goes, and comes again: what is durable is what there is.
    pub fn cut(&mut self, cut: Cut, seed: u64) {
        self.chance = Seed::new(seed);
        if cut != Cut::All {
            self.commit_some();
        }
        self.journal = Journal::default();
        for node in self.nodes.values_mut() {
            (node.errors, node.is_linked) = (0, false);
            node.opened.clear();
        }
        let last = self.last_write.take();
        for (number, node) in &mut self.nodes {
            match &mut node.kind {
                Kind::Folder { now, durable } => now.clone_from(durable),
                Kind::File(content) => {
                    let last = last.as_ref().filter(|(of, _)| of == number);
                    content.cut(cut, last.map(|(_, range)| range.clone()), &mut self.chance);
                }
            }
        }
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            for (name, number) in self.entries(folder).cloned().unwrap_or_default() {
                let Some(node) = self.nodes.get_mut(&number) else { continue };
                (node.parent, node.name, node.is_linked) = (folder, name, true);
                if matches!(node.kind, Kind::Folder { .. }) {
                    folders.push(number);
                }
            }
        }
        self.collect();
    }

    /// Forgets what nobody can reach any more, now or after a cut.
    fn collect(&mut self) {
        let mut reached: BTreeSet<u64> = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Kind::Folder { now, durable } = &node.kind {
                reached.extend(now.values().chain(durable.values()));
            }
        }
        reached.extend(self.journal.numbers());
        self.nodes.retain(|number, node| !node.opened.is_empty() || reached.contains(number));
    }
}

impl Node {
    fn new(kind: Kind, permissions: u16, parent: u64, name: OsString) -> Self {
        let (modified, is_linked) = (SystemTime::now(), true);
        let (errors, opened) = (0, BTreeMap::new());
        Self { kind, permissions, modified, parent, name, is_linked, errors, opened }
    }

    /// Pages that it takes of the disk.
    pub fn pages(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.pages(),
            Kind::Folder { .. } => 1,
        }
    }
}

pub fn folder() -> Kind {
    Kind::Folder { now: Entries::new(), durable: Entries::new() }
}
