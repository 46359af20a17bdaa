//! `NGSI_FERRY_INTAKE__LISTEN=0.0.0.0:8061` sets `intake.listen`.

use toml::de::DeValue;

use super::problem::{Origin, Problem};
use super::tree::{Content, NodeId, Place, ROOT, Step, Tree, dotted};

/// What the name of every variable of ours begins with.
pub const PREFIX: &str = "NGSI_FERRY_";
/// Sets the log filter; it is no setting of the configuration.
pub const LOG_VARIABLE: &str = "NGSI_FERRY_LOG";
/// Names the configuration file; it is no setting of the configuration.
pub const CONFIG_VARIABLE: &str = "NGSI_FERRY_CONFIG";

const MAX_LEVELS: usize = 16;

/// The variables of this process, for [`read`](super::read). Unlike
/// [`std::env::vars`] it survives one that is not Unicode.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    })
}

/// Lays the variables over the tree; what cannot be laid comes back as problems.
pub(super) fn overlay(
    tree: &mut Tree,
    environment: impl Iterator<Item = (String, String)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut settings: Vec<(Vec<Segment>, String, String)> = Vec::new();
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if variable == LOG_VARIABLE || variable == CONFIG_VARIABLE || set_by_kubernetes(name) {
            continue;
        }
        match segments(name) {
            Ok(segments) => settings.push((segments, variable, value)),
            Err(message) => problems.push(problem(&variable, message, None)),
        }
    }
    // A whole section before its parts, and element 2 before element 10.
    settings.sort();
    for (segments, variable, value) in settings {
        match descend(tree, &segments, &variable) {
            Ok(node) => set(tree, node, &variable, value.trim()),
            Err(problem) => problems.push(*problem),
        }
    }
    problems
}

/// The variable that sets a path.
pub(super) fn variable_for(path: &[Step]) -> String {
    let names: Vec<String> = path
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.to_uppercase(),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    format!("{PREFIX}{}", names.join("__"))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Index(usize),
    Name(String),
}

fn segments(name: &str) -> Result<Vec<Segment>, &'static str> {
    let segments: Vec<Segment> = name
        .split("__")
        .map(|part| match part.parse() {
            Ok(index) => Segment::Index(index),
            Err(_) => Segment::Name(part.to_lowercase()),
        })
        .collect();
    if name.chars().any(char::is_lowercase) {
        Err("is not a setting: variables are written in capitals")
    } else if segments.len() > MAX_LEVELS || name.split("__").any(str::is_empty) {
        Err("is not a setting: write SECTION__NAME after the prefix")
    } else {
        Ok(segments)
    }
}

/// Kubernetes gives every pod such variables for a service named `ngsi-ferry`.
fn set_by_kubernetes(name: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|letter: char| letter.is_ascii_digit());
    name == "PORT"
        || name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || name.strip_prefix("PORT_").is_some_and(numbered)
}

/// The node that the segments lead to, made where it is not there yet.
fn descend(tree: &mut Tree, segments: &[Segment], variable: &str) -> Result<NodeId, Box<Problem>> {
    let mut at = ROOT;
    for segment in segments {
        if !matches!(tree[at].content, Content::Table(_) | Content::Array(_)) {
            tree[at].content = Content::Table(Vec::new());
            tree[at].second_reading = None;
            tree[at].place = Place::Environment(variable.to_owned());
        }
        // What a variable itself just made is a list if it is numbered.
        let fresh = tree.children(at).is_empty()
            && at != ROOT
            && matches!(tree[at].place, Place::Environment(_));
        if fresh && matches!(segment, Segment::Index(_)) {
            tree[at].content = Content::Array(Vec::new());
        }
        let is_list = matches!(tree[at].content, Content::Array(_));
        let step = match segment {
            Segment::Index(index) if is_list => {
                let entries = tree.children(at).len();
                if *index > entries {
                    let path = tree.path(at);
                    let next = [path.as_slice(), &[Step::Index(entries)]].concat();
                    return Err(Box::new(problem(
                        variable,
                        &format!(
                            "sets entry {index} of {}, which has {entries} before it",
                            dotted(&path)
                        ),
                        Some(format!("the next one is {}", variable_for(&next))),
                    )));
                }
                Step::Index(*index)
            }
            Segment::Name(_) if is_list => {
                let path = tree.path(at);
                let first = [path.as_slice(), &[Step::Index(0)]].concat();
                return Err(Box::new(problem(
                    variable,
                    &format!("does not say which entry of {} it means", dotted(&path)),
                    Some(format!("number them from 0: {}__…", variable_for(&first))),
                )));
            }
            Segment::Index(index) => Step::Key(index.to_string()),
            Segment::Name(name) => Step::Key(name.clone()),
        };
        at = match tree.child(at, &step) {
            Some(child) => child,
            None => tree.add(at, step, Place::Environment(variable.to_owned())),
        };
    }
    Ok(at)
}

fn set(tree: &mut Tree, node: NodeId, variable: &str, value: &str) {
    tree[node].place = Place::Environment(variable.to_owned());
    match DeValue::parse(value) {
        Ok(parsed) => {
            tree.graft(node, parsed.get_ref(), Some(variable));
            let already_text = matches!(parsed.get_ref(), DeValue::String(_));
            tree[node].second_reading = (!already_text).then(|| value.to_owned());
        }
        Err(_) => tree[node].content = Content::Text(value.to_owned()),
    }
}

fn problem(variable: &str, message: &str, hint: Option<String>) -> Problem {
    Problem {
        origin: Origin::Environment { variable: variable.to_owned() },
        setting: String::new(),
        message: format!("{variable} {message}"),
        hint,
        excerpt: None,
    }
}
