//! Reads a whole configuration, and tells everything that is wrong with it.
//!
//! The settings become a tree; the tree is read with serde; what serde refuses
//! is noted and dropped from the tree, and the rest is read again, until all
//! of it has been looked at.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::environment::overlay;
use super::explain::Document;
use super::fault::Fault;
use super::problem::{Origin, Problem, Problems};
use super::reader::Reader;
use super::source::Source;
use super::syntax::Syntax;
use super::tree::{Content, NodeId, ROOT, Tree, parse_dotted};

/// Nobody reads more at once; it also bounds the work on a file that is no
/// configuration at all.
const MAX_PROBLEMS: usize = 100;

/// A configuration that could be read, and where its settings came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Where its settings were written.
    pub sources: Sources,
}

/// Answers where a setting was written, for checks made after reading.
pub struct Sources(Document);

impl Sources {
    /// Where `intake.listen` or `stream[1].name` was set; [`Origin::Default`]
    /// where it was not.
    #[must_use]
    pub fn origin(&self, setting: &str) -> Origin {
        let node = self.0.tree.find(&parse_dotted(setting));
        node.filter(|node| *node != ROOT).map_or(Origin::Default, |node| self.0.origin(node))
    }

    /// A problem with a setting that only a later check can see, such as a port
    /// in use, told like the problems of reading. `message` stands after the
    /// setting and its value: `"there is no such file"`.
    #[must_use]
    pub fn problem(&self, setting: &str, message: &str, hint: Option<&str>) -> Problem {
        let hint = hint.map(str::to_owned);
        match self.0.tree.find(&parse_dotted(setting)).filter(|node| *node != ROOT) {
            Some(node) => self.0.with_value(node, message, hint),
            None => Problem {
                origin: Origin::Default,
                setting: setting.to_owned(),
                message: format!("{setting}: {message}"),
                hint,
                excerpt: None,
            },
        }
    }
}

impl fmt::Debug for Sources {
    // The values could be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("path", &self.0.source.path).finish_non_exhaustive()
    }
}

/// Reads the file, if there is one, and lays the `NGSI_FERRY_…` variables of
/// `environment` over it. What neither sets keeps its default.
///
/// # Errors
/// Everything that is wrong, at once. A file that cannot be read, or where the
/// TOML is so broken that the rest would be guesswork, is told alone.
pub fn read<T: DeserializeOwned + Default>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<T>, Problems> {
    whole(read_leniently(file, environment))
}

/// As [`read`], but what is wrong keeps its default, so that a check can look
/// at the rest as well. No configuration comes where nothing can be read.
pub fn read_leniently<T: DeserializeOwned + Default>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> (Option<Loaded<T>>, Problems) {
    match file.map(Source::read).transpose() {
        Ok(source) => read_source_leniently(source.unwrap_or_default(), environment),
        Err(problem) => (None, Problems::from(*problem)),
    }
}

fn whole<T>((loaded, problems): (Option<Loaded<T>>, Problems)) -> Result<Loaded<T>, Problems> {
    loaded.filter(|_| problems.is_empty()).ok_or(problems)
}

/// The configuration in force as TOML, defaults included.
///
/// # Errors
/// Where the type holds what TOML cannot express.
pub fn to_toml<T: Serialize>(configuration: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(configuration)
}

#[cfg(test)]
pub(super) fn read_source<T: DeserializeOwned>(
    source: Source,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<T>, Problems> {
    whole(read_source_leniently(source, environment))
}

fn read_source_leniently<T: DeserializeOwned>(
    source: Source,
    environment: impl Iterator<Item = (String, String)>,
) -> (Option<Loaded<T>>, Problems) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let syntax = Syntax::judge(&source, &errors);
    let mut problems = syntax.problems;
    if syntax.rest_is_guesswork {
        return (None, Problems::new(problems));
    }
    let mut tree = Tree::new(table.get_ref());
    tree.drop_within(&syntax.broken_lines);
    problems.extend(overlay(&mut tree, environment));
    let mut settlement = Settlement {
        document: Document { source, tree },
        problems,
        first_readings: HashMap::new(),
    };
    loop {
        let tree = &settlement.document.tree;
        match T::deserialize(Reader { tree, node: ROOT }) {
            Ok(value) => {
                let loaded = Loaded { value, sources: Sources(settlement.document) };
                return (Some(loaded), Problems::new(settlement.problems));
            }
            Err(fault) => {
                let more = settlement.settle(&fault);
                if !more || settlement.problems.len() >= MAX_PROBLEMS {
                    break;
                }
            }
        }
    }
    (None, Problems::new(settlement.problems))
}

struct Settlement {
    document: Document,
    problems: Vec<Problem>,
    /// What was wrong with the first reading of a variable while the second is
    /// tried: it is the one its writer meant.
    first_readings: HashMap<NodeId, Vec<Problem>>,
}

impl Settlement {
    /// Notes the fault and drops what caused it. False when nothing is left to
    /// drop; every other call drops a node or spends a second reading, so the
    /// reading comes to an end.
    fn settle(&mut self, fault: &Fault) -> bool {
        let (node, dropped) = self.document.culprit(fault);
        let explained = self.document.explain(node, &fault.kind);
        let tree = &mut self.document.tree;
        if let Some(text) = tree[node].second_reading.take() {
            tree[node].content = Content::Text(text);
            self.first_readings.insert(node, explained);
            return true;
        }
        // An empty list of problems must never stand for a refusal.
        if !self.document.follows_from_inside(node, &fault.kind) || self.problems.is_empty() {
            self.problems.extend(self.first_readings.remove(&node).unwrap_or(explained));
        }
        self.document.tree[node].dropped = dropped;
        node != ROOT
    }
}
