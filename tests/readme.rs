//! What README.md and the example configuration promise of the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ngsi_ferry::config::{self, Config, Settings};
use toml::Value;

/// Every table of the configuration, with its heading.
const TABLES: [(&str, &str); 14] = [
    ("", ""),
    ("intake", "[intake]"),
    ("route", "[[route]]"),
    ("store", "[store]"),
    ("stream", "[[stream]]"),
    ("relay", "[relay]"),
    ("spark", "[spark]"),
    ("client", "[[client]]"),
    ("pass_through", "[pass_through]"),
    ("line_socket", "[[line_socket]]"),
    ("orion", "[orion]"),
    ("orion.target", "[[orion.target]]"),
    ("uplink", "[uplink]"),
    ("admin", "[admin]"),
];

/// Every key there is, as the refusal of an unknown one lists them.
fn keys() -> Vec<String> {
    let mut keys = Vec::new();
    for (table, heading) in TABLES {
        let text = format!("{heading}\nno_such_key = 1");
        let refusal = toml::from_str::<Config>(&text).unwrap_err();
        let (_, expected) = refusal.message().split_once("expected").expect("a list of keys");
        for key in expected.split('`').skip(1).step_by(2) {
            let key = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            if !TABLES.iter().any(|(table, _)| *table == key) {
                keys.push(key);
            }
        }
    }
    keys.sort_unstable();
    keys
}

/// The default of a key, as TOML; none where it is not set without being set.
fn default_of(key: &str) -> Option<String> {
    let defaults = config::to_toml(&Config::default()).unwrap();
    let defaults: Value = toml::from_str(&defaults).unwrap();
    let found = key.split('.').try_fold(&defaults, |table, name| table.get(name));
    found.map(Value::to_string)
}

fn in_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load(file: &Path) -> Config {
    let loaded = Settings::load(Some(file), std::iter::empty());
    loaded.unwrap_or_else(|problems| panic!("{problems}")).config
}

/// The rows of README's tables of keys: the default as written, by the key.
fn documented() -> BTreeMap<String, String> {
    let readme = std::fs::read_to_string(in_repository("README.md")).unwrap();
    let section = readme.split("\n## Configuration\n").nth(1).expect("a section on configuration");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.trim_end_matches('`').to_owned();
        Some((key, cells.next()?.trim().trim_matches('`').to_owned()))
    });
    rows.collect()
}

#[test]
fn the_readme_names_every_key_of_the_configuration_and_no_other() {
    let documented: Vec<String> = documented().into_keys().collect();
    assert_eq!(documented, keys());
}

#[test]
fn the_readme_gives_every_default_as_it_is() {
    for (key, written) in documented() {
        let default = default_of(&key);
        // A key without a default has words there.
        assert!(
            default.as_ref().map_or(!written.is_empty(), |default| *default == written),
            "{key}: the default is {default:?}, the README says {written}"
        );
    }
}

#[test]
fn the_example_configuration_is_accepted() {
    let config = load(&in_repository("ngsi-ferry.example.toml"));
    assert_eq!(config.stream[0].name, "press");
}

#[test]
fn what_the_example_configuration_shows_in_comments_is_accepted_too() {
    let text = std::fs::read_to_string(in_repository("ngsi-ferry.example.toml")).unwrap();
    // A comment with one key and its value, or with a table's heading.
    let is_example = |rest: &str| {
        let assigns = rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        rest.starts_with("[[") || assigns
    };
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_example(rest)).unwrap_or(line))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shown.toml");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let config = load(&file);
    assert_eq!(config.orion.target[0].tenant, "plant2");
    assert_eq!(config.pass_through.listen.unwrap().port(), 8062);
}
