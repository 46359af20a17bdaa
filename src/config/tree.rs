//! The settings as a tree that remembers where each was written.
//!
//! The file and the environment are merged here, before anything is typed, so
//! that a refused value can be dropped and the rest be looked at again.

use std::ops::Range;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::source::names_a_secret;

pub(super) type NodeId = usize;
pub(super) const ROOT: NodeId = 0;

/// Where a node was written.
#[derive(Clone)]
pub(super) enum Place {
    File { key: Option<Range<usize>>, value: Range<usize> },
    Environment(String),
}

pub(super) enum Content {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Table(Vec<NodeId>),
    Array(Vec<NodeId>),
}

/// Why a node is no longer read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    No,
    /// The configuration has no such setting: leaving it out changes nothing.
    Unknown,
    /// Its value was refused: what surrounds it may miss it.
    Refused,
}

/// One step from a table or an array to what it holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

pub(super) struct Node {
    pub parent: NodeId,
    pub step: Step,
    pub place: Place,
    pub content: Content,
    /// How else the text of a variable can be read, tried when the first
    /// reading is refused.
    pub second_reading: Option<String>,
    pub dropped: Dropped,
}

pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl std::ops::Index<NodeId> for Tree {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}

impl std::ops::IndexMut<NodeId> for Tree {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }
}

impl Tree {
    pub fn new(document: &DeTable<'_>) -> Self {
        let root = Node {
            parent: ROOT,
            step: Step::Key(String::new()),
            place: Place::File { key: None, value: 0..0 },
            content: Content::Table(Vec::new()),
            second_reading: None,
            dropped: Dropped::No,
        };
        let mut tree = Self { nodes: vec![root] };
        tree.graft_table(ROOT, document, None);
        tree
    }

    /// Puts a TOML value at a node; all of it comes from `variable` where one is given.
    pub fn graft(&mut self, at: NodeId, value: &DeValue<'_>, variable: Option<&str>) {
        let content = match value {
            DeValue::String(text) => Content::Text(text.to_string()),
            DeValue::Boolean(boolean) => Content::Boolean(*boolean),
            DeValue::Datetime(date) => Content::Text(date.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Content::Integer(integer),
                    // Too large for any setting: refused as a number that is not whole.
                    Err(_) => Content::Float(f64::INFINITY),
                }
            }
            DeValue::Float(float) => Content::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Array(items) => {
                self[at].content = Content::Array(Vec::new());
                for (index, item) in items.iter().enumerate() {
                    let place = place(None, item.span(), variable);
                    let child = self.add(at, Step::Index(index), place);
                    self.graft(child, item.get_ref(), variable);
                }
                return;
            }
            DeValue::Table(table) => {
                self.graft_table(at, table, variable);
                return;
            }
        };
        self[at].content = content;
    }

    fn graft_table(&mut self, at: NodeId, table: &DeTable<'_>, variable: Option<&str>) {
        self[at].content = Content::Table(Vec::new());
        for (key, value) in table {
            let place = place(Some(key.span()), value.span(), variable);
            let child = self.add(at, Step::Key(key.get_ref().to_string()), place);
            self.graft(child, value.get_ref(), variable);
        }
    }

    /// Adds an empty table as the last child of a table or an array.
    pub fn add(&mut self, parent: NodeId, step: Step, place: Place) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(Node {
            parent,
            step,
            place,
            content: Content::Table(Vec::new()),
            second_reading: None,
            dropped: Dropped::No,
        });
        if let Content::Table(children) | Content::Array(children) = &mut self[parent].content {
            children.push(id);
        }
        id
    }

    pub fn children(&self, id: NodeId) -> &[NodeId] {
        match &self[id].content {
            Content::Table(children) | Content::Array(children) => children,
            _ => &[],
        }
    }

    pub fn live_children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.children(id).iter().copied().filter(|child| self[*child].dropped == Dropped::No)
    }

    pub fn child(&self, id: NodeId, step: &Step) -> Option<NodeId> {
        self.children(id).iter().copied().find(|child| self[*child].step == *step)
    }

    pub fn key_child(&self, id: NodeId, key: &str) -> Option<NodeId> {
        self.children(id)
            .iter()
            .copied()
            .find(|child| matches!(&self[*child].step, Step::Key(name) if name == key))
    }

    pub fn find(&self, path: &[Step]) -> Option<NodeId> {
        path.iter().try_fold(ROOT, |at, step| self.child(at, step))
    }

    /// The steps from the root to a node.
    pub fn path(&self, mut id: NodeId) -> Vec<Step> {
        let mut path = Vec::new();
        while id != ROOT {
            path.push(self[id].step.clone());
            id = self[id].parent;
        }
        path.reverse();
        path
    }

    /// The node and everything below it.
    pub fn subtree(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(at) = found.get(next) {
            found.extend_from_slice(self.children(*at));
            next += 1;
        }
        found
    }

    /// Drops what was written in parts of the file that could not be parsed:
    /// what the parser made of it is a guess.
    pub fn drop_within(&mut self, broken: &[Range<usize>]) {
        for node in &mut self.nodes {
            if let Place::File { key: Some(key), .. } = &node.place
                && broken.iter().any(|part| part.contains(&key.start))
            {
                node.dropped = Dropped::Refused;
            }
        }
    }

    /// Whether a key on the way to the node, or below it, names a secret.
    pub fn holds_a_secret(&self, id: NodeId) -> bool {
        let secret = |step: &Step| matches!(step, Step::Key(key) if names_a_secret(key));
        self.path(id).iter().any(secret)
            || self.subtree(id).into_iter().any(|below| secret(&self[below].step))
    }

    /// Whether any value that must not be printed lies in that part of the file.
    pub fn secret_within(&self, part: &Range<usize>) -> bool {
        (0..self.nodes.len()).any(|id| match &self[id].place {
            Place::File { value, .. } => {
                value.start < part.end
                    && part.start < value.end
                    && !matches!(self[id].content, Content::Table(_) | Content::Array(_))
                    && self.holds_a_secret(id)
            }
            Place::Environment(_) => false,
        })
    }

    /// A single value as its writer knows it, shortened; none for tables and arrays.
    pub fn shown_value(&self, id: NodeId) -> Option<String> {
        const MAX_SHOWN: usize = 60;
        let shown = match &self[id].content {
            Content::Table(_) | Content::Array(_) => return None,
            _ if self.holds_a_secret(id) => return Some("(not shown)".to_owned()),
            Content::Text(text) => {
                let short: String = text.chars().take(MAX_SHOWN).collect();
                let ellipsis = if short.len() < text.len() { "…" } else { "" };
                Json::String(short + ellipsis).to_string()
            }
            Content::Integer(integer) => integer.to_string(),
            Content::Float(float) => float.to_string(),
            Content::Boolean(boolean) => boolean.to_string(),
        };
        Some(shown)
    }
}

fn place(key: Option<Range<usize>>, value: Range<usize>, variable: Option<&str>) -> Place {
    match variable {
        Some(variable) => Place::Environment(variable.to_owned()),
        None => Place::File { key, value },
    }
}

/// `stream[1].max_bytes`.
pub(super) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => {
                text.extend(["[", &index.to_string(), "]"]);
            }
        }
    }
    text
}

/// Reads what [`dotted`] writes.
pub(super) fn parse_dotted(text: &str) -> Vec<Step> {
    let mut path = Vec::new();
    for part in text.split('.') {
        let (key, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !key.is_empty() {
            path.push(Step::Key(key.to_owned()));
        }
        let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
        path.extend(indices.map(Step::Index));
    }
    path
}
