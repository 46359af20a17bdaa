//! What is not TOML at all, and how much of the rest can still be trusted.

use std::ops::Range;

use super::problem::Problem;
use super::source::{Source, names_a_secret};

pub(super) struct Syntax {
    pub problems: Vec<Problem>,
    /// Lines whose own value is broken, and nothing beyond it.
    pub broken_lines: Vec<Range<usize>>,
    /// Something like an open bracket was lost: where the sections begin and
    /// end is unknown, and whatever else were told would mislead.
    pub rest_is_guesswork: bool,
}

impl Syntax {
    pub fn judge(source: &Source, errors: &[toml::de::Error]) -> Self {
        let mut syntax =
            Self { problems: Vec::new(), broken_lines: Vec::new(), rest_is_guesswork: false };
        // In broken text nobody knows whose value a line belongs to.
        let may_show = !names_a_secret(&source.text);
        for error in errors {
            let end = source.text.len();
            let span = error.span().unwrap_or(end..end);
            let line = source.line_span(span.start);
            if syntax.broken_lines.contains(&line) {
                continue;
            }
            let (message, hint) = if error.message().starts_with("duplicate key") {
                let key = source.text.get(span.clone()).unwrap_or("this key");
                (format!("{} is set a second time", one_line(key)), "keep one of the two")
            } else {
                let before = source.text.get(line.start..span.start.max(line.start));
                syntax.rest_is_guesswork |= !before.is_some_and(ends_inside_a_value);
                syntax.broken_lines.push(line.clone());
                (format!("not valid TOML: {}", one_line(error.message())), HINT)
            };
            syntax.problems.push(Problem {
                origin: source.origin(&span),
                setting: String::new(),
                message,
                hint: Some(hint.to_owned()),
                excerpt: source.excerpt(&span).filter(|_| may_show),
            });
        }
        if syntax.rest_is_guesswork {
            // What follows the first break is mostly its echo.
            syntax.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
            syntax.problems.truncate(1);
        }
        syntax
    }
}

const HINT: &str = "write it as: name = \"text\", or name = 5, or [section]";

fn ends_inside_a_value(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| !key.contains(['"', '\'', '[', '{', '#', ']']))
}

fn one_line(text: &str) -> String {
    const MAX_SHOWN: usize = 120;
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_SHOWN)
        .collect()
}
