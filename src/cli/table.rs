//! Tables and figures for people.

use std::time::{Duration, SystemTime};

/// Rows under a heading, columns as wide as they need; numbers to the right.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let columns = heading.len();
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let mut widths = vec![0; columns];
    let mut right = vec![true; columns];
    for at in 0..columns {
        for row in std::iter::once(&heading).chain(rows) {
            widths[at] = widths[at].max(cell(row, at).chars().count());
        }
        right[at] = !rows.is_empty() && rows.iter().all(|row| is_figure(&cell(row, at)));
    }
    let mut text = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for at in 0..columns {
            let (cell, width) = (cell(row, at), widths[at]);
            let gap = if at == 0 { "" } else { "  " };
            line += gap;
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if right[at] { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.extend([before, cell.as_str(), after]);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn is_figure(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit())
}

/// Bytes as a person says them: `1.5 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A number with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A time span to two units: `3h 5m`.
pub(super) fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// How long ago a time was.
pub(super) fn ago(time: SystemTime) -> String {
    span(time.elapsed().map_or(0, |elapsed| elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_to_the_right_and_words_to_the_left() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let table = table(&["name", "lag"], &[row("spark", "7"), row("a", "1 200")]);
        assert_eq!(table, "name     lag\nspark      7\na      1 200\n");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            (count(7), count(1200), count(1_234_567)),
            ("7".into(), "1 200".into(), "1 234 567".into())
        );
    }
}
