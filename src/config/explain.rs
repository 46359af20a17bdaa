//! From a fault in the tree to the problem as it is told.

use std::collections::BTreeSet;
use std::ops::Range;

use super::environment::variable_for;
use super::fault::{Fault, FaultKind, nearest, quoted};
use super::problem::{Origin, Problem};
use super::source::Source;
use super::tree::{Content, Dropped, NodeId, Place, ROOT, Step, Tree, dotted};

/// The settings together with the text they were written in.
pub(super) struct Document {
    pub source: Source,
    pub tree: Tree,
}

impl Document {
    /// The node to drop for a fault.
    pub fn culprit(&self, fault: &Fault) -> (NodeId, Dropped) {
        let at = fault.at.unwrap_or(ROOT);
        let FaultKind::UnknownKey { key, .. } = &fault.kind else {
            return (at, Dropped::Refused);
        };
        // An enum that was buffered by serde tells only the table.
        let inside = self.tree.key_child(at, key);
        match inside.filter(|child| self.tree[*child].dropped == Dropped::No) {
            Some(child) => (child, Dropped::Unknown),
            None => (at, Dropped::Unknown),
        }
    }

    /// Whether the fault is only the echo of something already told: a key
    /// that is "missing" because its value was refused.
    pub fn follows_from_inside(&self, node: NodeId, kind: &FaultKind) -> bool {
        let refused = |child: &NodeId| self.tree[*child].dropped == Dropped::Refused;
        match kind {
            FaultKind::MissingKey(key) => {
                self.tree.key_child(node, key).as_ref().is_some_and(refused)
            }
            kind if kind.may_follow_from_inside() => self.tree.children(node).iter().any(refused),
            _ => false,
        }
    }

    pub fn origin(&self, node: NodeId) -> Origin {
        match &self.tree[node].place {
            Place::File { key, value } => self.source.origin(key.as_ref().unwrap_or(value)),
            Place::Environment(variable) => Origin::Environment { variable: variable.clone() },
        }
    }

    /// The problems to tell for a fault: one, or for an unknown section that
    /// only variables name, one for each of them.
    pub fn explain(&self, node: NodeId, kind: &FaultKind) -> Vec<Problem> {
        if let FaultKind::UnknownKey { known, .. } = kind {
            return self.unknown(node, known);
        }
        let (message, mut hint) = kind.explain(self.tree.holds_a_secret(node));
        if kind.wants_a_list() && matches!(self.tree[node].place, Place::Environment(_)) {
            let first = [self.tree.path(node).as_slice(), &[Step::Index(0)]].concat();
            hint = Some(format!("number the entries from 0: {}__…", variable_for(&first)));
        }
        vec![self.with_value(node, &message, hint)]
    }

    /// A problem that names the setting, and its value where it may be shown.
    pub fn with_value(&self, node: NodeId, message: &str, hint: Option<String>) -> Problem {
        let subject = self.subject(node);
        let subject = match self.tree.shown_value(node) {
            Some(value) => format!("{subject} = {value}"),
            None => subject,
        };
        let span = match &self.tree[node].place {
            Place::File { value, .. } => Some(value.clone()),
            Place::Environment(_) => None,
        };
        self.problem(node, format!("{subject}: {message}"), hint, span)
    }

    fn problem(
        &self,
        node: NodeId,
        message: String,
        hint: Option<String>,
        span: Option<Range<usize>>,
    ) -> Problem {
        // The line that is named is the line that is shown.
        let on_named_line = |span: &Range<usize>| {
            matches!(self.origin(node), Origin::File { line: Some(line), .. }
                if line == self.source.line(span.start))
        };
        let excerpt = span
            .filter(|span| node != ROOT && on_named_line(span))
            .filter(|span| !self.tree.secret_within(&self.source.line_span(span.start)))
            .and_then(|span| self.source.excerpt(&span));
        let setting = dotted(&self.tree.path(node));
        Problem { origin: self.origin(node), setting, message, hint, excerpt }
    }

    fn unknown(&self, node: NodeId, known: &[&'static str]) -> Vec<Problem> {
        let path = self.tree.path(node);
        let Some((Step::Key(name), above)) = path.split_last() else { return Vec::new() };
        let near = nearest(name, known);
        let mut problems = Vec::new();
        if let Place::File { key, .. } = &self.tree[node].place {
            let hint = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if known.is_empty() => "leave it out".to_owned(),
                None => {
                    format!("{} can hold {}", section(above, "the top level"), quoted(known))
                }
            };
            let message = format!("{} is not a setting", self.subject(node));
            problems.push(self.problem(node, message, Some(hint), key.clone()));
        }
        let variables: BTreeSet<(String, NodeId)> = self
            .tree
            .subtree(node)
            .into_iter()
            .filter_map(|below| match &self.tree[below].place {
                Place::Environment(variable) if self.is_whole_variable(below, variable) => {
                    Some((variable.clone(), below))
                }
                _ => None,
            })
            .collect();
        if variables.is_empty() && problems.is_empty() {
            let message = format!("{} is not a setting", self.subject(node));
            let hint = near.map(|near| format!("did you mean \"{near}\"?"));
            problems.push(self.problem(node, message, hint, None));
        }
        for (variable, below) in variables {
            let meant = |name: &str, rest: &[Step]| {
                let path = [above, &[Step::Key(name.to_owned())], rest].concat();
                format!("did you mean {}?", variable_for(&path))
            };
            // One underscore where two are needed is the likely slip.
            let joined = known.iter().find_map(|section| {
                let rest = name.strip_prefix(section)?.strip_prefix('_')?;
                Some(meant(section, &[Step::Key(rest.to_owned())]))
            });
            let below_path = self.tree.path(below);
            let hint = near
                .map(|near| meant(near, below_path.get(path.len()..).unwrap_or_default()))
                .or(joined)
                .unwrap_or_else(|| {
                    let names: Vec<String> = known
                        .iter()
                        .map(|name| {
                            variable_for(&[above, &[Step::Key((*name).to_owned())]].concat())
                        })
                        .collect();
                    format!("known are {}", names.join(", "))
                });
            problems.push(Problem {
                origin: Origin::Environment { variable: variable.clone() },
                setting: dotted(&below_path),
                message: format!("{variable} is not a setting"),
                hint: Some(hint),
                excerpt: None,
            });
        }
        problems
    }

    /// Whether the node is all that the variable sets, not a part of its value
    /// or a section made on the way to it.
    fn is_whole_variable(&self, node: NodeId, variable: &str) -> bool {
        variable_for(&self.tree.path(node)) == *variable
    }

    /// The setting as its writer sees it: `[intake] listen`, `[[stream]]`, or
    /// the name of the variable.
    fn subject(&self, node: NodeId) -> String {
        let path = self.tree.path(node);
        if let Place::Environment(variable) = &self.tree[node].place {
            return if self.is_whole_variable(node, variable) {
                variable.clone()
            } else {
                format!("{variable}, {}", dotted(&path))
            };
        }
        let is_section = match &self.tree[node].content {
            Content::Table(_) => true,
            Content::Array(_) => {
                let mut children = self.tree.children(node).iter();
                children.any(|child| matches!(self.tree[*child].content, Content::Table(_)))
            }
            _ => false,
        };
        if is_section {
            let listed = matches!(self.tree[node].content, Content::Array(_));
            let path = if listed { [&path, [Step::Index(0)].as_slice()].concat() } else { path };
            return section(&path, "the configuration");
        }
        let key = path.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap_or(0);
        let (above, setting) = path.split_at(key);
        if above.is_empty() {
            dotted(setting)
        } else {
            format!("{} {}", section(above, ""), dotted(setting))
        }
    }
}

/// `[intake]`, or `[[stream]]` for an entry of a list.
fn section(path: &[Step], root: &str) -> String {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    match path.last() {
        None => root.to_owned(),
        Some(Step::Index(_)) => format!("[[{}]]", keys.join(".")),
        Some(Step::Key(_)) => format!("[{}]", keys.join(".")),
    }
}
