//! The promises of the configuration, on one like the real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Loaded, Origin, Problem, Problems, read, to_toml};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    data_dir: PathBuf,
    intake: Intake,
    stream: Vec<Stream>,
    client: Vec<Client>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Intake {
    listen: SocketAddr,
    max_connections: u16,
    title_case: bool,
    #[serde(with = "crate::units::duration")]
    wait: Duration,
    allow: Vec<ipnet::IpNet>,
    tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    certificate: Option<PathBuf>,
    token: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stream {
    name: String,
    #[serde(with = "crate::units::size")]
    max_bytes: u64,
    #[serde(with = "crate::units::duration::option")]
    max_age: Option<Duration>,
    when_full: WhenFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WhenFull {
    DropOldest,
    Reject,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    #[serde(default)]
    streams: Vec<String>,
    #[serde(default)]
    auth: Auth,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Auth {
    #[default]
    None,
    Bearer {
        token_file: PathBuf,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/ngsi-ferry".into(),
            intake: Intake::default(),
            stream: vec![],
            client: vec![],
            labels: BTreeMap::new(),
        }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8061).into(),
            max_connections: 256,
            title_case: true,
            wait: Duration::from_secs(4),
            allow: vec![],
            tls: Tls::default(),
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            name: "default".into(),
            max_bytes: 1 << 30,
            max_age: None,
            when_full: WhenFull::DropOldest,
        }
    }
}

const PATH: &str = "/etc/ngsi-ferry.toml";

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Loaded<Config>, Problems> {
    let source = super::source::Source { path: PATH.into(), text: toml.to_owned() };
    super::document::read_source(source, variables(environment))
}

fn variables(environment: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    owned.into_iter()
}

/// The problems without their excerpts, one a line.
fn complaints(toml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let problems = load(toml, environment).expect_err("something is wrong with it");
    println!("{problems}\n");
    problems.into_iter().map(|problem| Problem { excerpt: None, ..problem }.to_string()).collect()
}

fn line(line: usize) -> Origin {
    Origin::File { path: PATH.into(), line: Some(line) }
}

#[test]
fn nothing_set_means_defaults() {
    assert_eq!(load("", &[]).unwrap().value, Config::default());
    assert_eq!(read::<Config>(None, variables(&[])).unwrap().value, Config::default());
}

#[test]
fn a_whole_configuration_is_read() {
    let toml = r#"
data_dir = "/data"
[intake]
listen = "0.0.0.0:8061"
wait = "4s"
allow = ["10.0.0.0/24"]
tls.certificate = "/etc/cert.pem"
[[stream]]
name = "press"
max_bytes = "2GiB"
max_age = "7days"
when_full = "reject"
[[stream]]
max_bytes = 5000
[[client]]
name = "spark"
auth = { kind = "bearer", token_file = "/etc/token" }
[labels]
plant = "north"
"#;
    let config = load(toml, &[]).unwrap().value;
    assert_eq!(config.intake.listen, ([0, 0, 0, 0], 8061).into());
    assert_eq!(config.intake.tls.certificate.as_deref(), Some(Path::new("/etc/cert.pem")));
    assert_eq!(config.stream[0].max_bytes, 2 << 30);
    assert_eq!(config.stream[0].max_age, Some(Duration::from_hours(168)));
    assert_eq!(config.stream[0].when_full, WhenFull::Reject);
    assert_eq!(config.stream[1], Stream { max_bytes: 5000, ..Stream::default() });
    assert_eq!(config.client[0].auth, Auth::Bearer { token_file: "/etc/token".into() });
    let dumped = to_toml(&config).unwrap();
    assert_eq!(load(&dumped, &[]).unwrap().value, config);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    assert_eq!(
        complaints("[intake]\nlistn = \"0.0.0.0:1\"\n[intak]\nlisten = 1\n", &[]),
        [
            "/etc/ngsi-ferry.toml:2: [intake] listn is not a setting; did you mean \"listen\"?",
            "/etc/ngsi-ferry.toml:3: [intak] is not a setting; did you mean \"intake\"?",
        ]
    );
}

#[test]
fn an_unknown_key_far_from_all_lists_the_known_ones() {
    assert_eq!(
        complaints("verbose = true\n[[stream]]\ncolour = 1\n", &[]),
        [
            "/etc/ngsi-ferry.toml:1: verbose is not a setting; the top level can hold \
             \"data_dir\", \"intake\", \"stream\", \"client\", \"labels\"",
            "/etc/ngsi-ferry.toml:3: [[stream]] colour is not a setting; [[stream]] can hold \
             \"name\", \"max_bytes\", \"max_age\", \"when_full\"",
        ]
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let toml = r#"data_dir = 5
[intake]
listen = "8061"
listn = 1
max_connections = 70000
title_case = "yes"
wait = 30
allow = ["10.0.0.0/24", "everyone", 7]
[[stream]]
name = "press"
max_bytes = "2 Gigs"
max_age = "30 parsecs"
[[stream]]
max_bytes = -1
when_full = "drop-oldst"
color = "red"
[[client]]
streams = "press"
"#;
    assert_eq!(
        complaints(toml, &[("NGSI_FERRY_INTAKE__WAIT", "soon"), ("NGSI_FERRY_INTAKE__WIAT", "1")]),
        [
            "/etc/ngsi-ferry.toml:1: data_dir = 5: expected a path in quotes, found a number",
            "/etc/ngsi-ferry.toml:3: [intake] listen = \"8061\": not an address with a port; \
             write for example \"0.0.0.0:8061\"",
            "/etc/ngsi-ferry.toml:4: [intake] listn is not a setting; did you mean \"listen\"?",
            "/etc/ngsi-ferry.toml:5: [intake] max_connections = 70000: expected a whole number \
             from 0 to 65535",
            "/etc/ngsi-ferry.toml:6: [intake] title_case = \"yes\": expected true or false, \
             found a text",
            "/etc/ngsi-ferry.toml:8: [intake] allow[1] = \"everyone\": not an IP address or \
             network; write for example \"10.0.0.7\", or \"10.0.0.0/24\" for a network",
            "/etc/ngsi-ferry.toml:8: [intake] allow[2] = 7: expected an IP network such as \
             \"10.0.0.0/24\", found a number",
            "/etc/ngsi-ferry.toml:11: [[stream]] max_bytes = \"2 Gigs\": not a size; write for \
             example \"2GiB\", \"512MiB\" or a number of bytes",
            "/etc/ngsi-ferry.toml:12: [[stream]] max_age = \"30 parsecs\": not a duration; \
             write a number with its unit, for example \"30s\", \"5min\" or \"2h\"",
            "/etc/ngsi-ferry.toml:14: [[stream]] max_bytes = -1: a size cannot be negative; \
             write for example \"2GiB\"",
            "/etc/ngsi-ferry.toml:15: [[stream]] when_full = \"drop-oldst\": not one of the \
             choices; did you mean \"drop-oldest\"? It can be \"drop-oldest\", \"reject\"",
            "/etc/ngsi-ferry.toml:16: [[stream]] color is not a setting; [[stream]] can hold \
             \"name\", \"max_bytes\", \"max_age\", \"when_full\"",
            "/etc/ngsi-ferry.toml:17: [[client]]: name is missing; add it",
            "/etc/ngsi-ferry.toml:18: [[client]] streams = \"press\": expected an array, \
             found a text",
            "environment: NGSI_FERRY_INTAKE__WAIT = \"soon\": not a duration; write a number \
             with its unit, for example \"30s\", \"5min\" or \"2h\"",
            "environment: NGSI_FERRY_INTAKE__WIAT is not a setting; did you mean \
             NGSI_FERRY_INTAKE__WAIT?",
        ]
    );
}

#[test]
fn the_offending_line_is_shown_with_a_caret() {
    let problems = load("[intake]\nwait = \"30 parsecs\"\n", &[]).unwrap_err();
    let excerpt = problems.iter().next().unwrap().excerpt.clone().unwrap();
    assert_eq!(excerpt, "  2 | wait = \"30 parsecs\"\n    |        ^^^^^^^^^^^^");
}

#[test]
fn a_refused_value_is_not_also_told_as_missing() {
    assert_eq!(
        complaints("[[client]]\nname = 5\n", &[]),
        ["/etc/ngsi-ferry.toml:2: [[client]] name = 5: expected a text in quotes, found a number"]
    );
}

#[test]
fn one_table_and_a_list_of_tables_are_told_apart() {
    let told = complaints("[stream]\nname = \"a\"\n[[intake]]\nlisten = \"[::]:1\"\n", &[]);
    assert_eq!(told.len(), 2);
    assert!(told[0].contains(":1: [stream]: ") && told[0].contains("double brackets"), "{told:?}");
    assert!(told[1].contains(":3: [[intake]]: ") && told[1].contains("single"), "{told:?}");
}

#[test]
fn a_key_set_twice_does_not_hide_the_rest() {
    let toml = "[intake]\nwait = \"1s\"\nwait = \"2s\"\nlistn = 1\n[[stream]]\nnme = 1\n";
    let told = complaints(toml, &[]);
    assert_eq!(told.len(), 3);
    assert!(told[0].starts_with("/etc/ngsi-ferry.toml:3: wait is set a second time"), "{told:?}");
}

#[test]
fn a_forgotten_quote_does_not_hide_the_rest() {
    let toml = "[intake]\nlisten = 0.0.0.0:8061\nlistn = 1\nwait = 4s\n[labels]\na = \"x\n";
    let told = complaints(toml, &[]);
    let lines: Vec<_> = told.iter().map(|told| told.split(": ").next().unwrap()).collect();
    let expected = ["2", "3", "4", "6"].map(|line| format!("{PATH}:{line}"));
    assert_eq!(lines, expected);
}

#[test]
fn a_lost_bracket_is_told_alone() {
    for toml in
        ["[intake\nlistn = 1\n", "a = [1,\nlistn = 1\nb = 2\n", "listen\nx = 1", "= 5\ny = 1"]
    {
        let told = complaints(toml, &[]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("not valid TOML"), "{told:?}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let loaded = load(
        "[intake]\nlisten = \"1.1.1.1:1\"\nwait = \"1s\"\n[[stream]]\nname = \"a\"\nmax_bytes = 1\n",
        &[
            ("NGSI_FERRY_INTAKE__LISTEN", "0.0.0.0:8061"),
            ("NGSI_FERRY_STREAM__0__MAX_BYTES", "2GiB"),
            ("NGSI_FERRY_STREAM__1__NAME", "b"),
            ("NGSI_FERRY_DATA_DIR", "/mnt"),
            ("NGSI_FERRY_INTAKE__ALLOW", r#"["10.0.0.0/8"]"#),
            ("NGSI_FERRY_INTAKE__TITLE_CASE", "false"),
            ("NGSI_FERRY_LOG", "debug"),
            ("NGSI_FERRY_CONFIG", "/x"),
            ("NGSI_FERRY_PORT_8061_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let config = &loaded.value;
    assert_eq!(config.intake.listen, ([0, 0, 0, 0], 8061).into());
    assert_eq!(config.intake.wait, Duration::from_secs(1));
    assert!(!config.intake.title_case);
    assert_eq!(config.intake.allow.len(), 1);
    assert_eq!((config.stream[0].name.as_str(), config.stream[0].max_bytes), ("a", 2 << 30));
    assert_eq!(config.stream[1].name, "b");
    assert_eq!(config.data_dir, Path::new("/mnt"));
}

#[test]
fn a_text_setting_takes_what_looks_like_a_number() {
    for value in ["5", "true", "1.5", "1979-05-27", "[1]", "{", "a=b", "\"5", "0x10"] {
        let loaded =
            load("", &[("NGSI_FERRY_STREAM__0__NAME", value), ("NGSI_FERRY_LABELS__PLANT", value)])
                .unwrap();
        assert_eq!(loaded.value.stream[0].name, value);
        assert_eq!(loaded.value.labels["plant"], value);
    }
}

#[test]
fn more_than_ten_entries_come_in_their_order() {
    let names: Vec<_> = (0..12)
        .map(|index| (format!("NGSI_FERRY_STREAM__{index}__NAME"), format!("s{index}")))
        .collect();
    let borrowed: Vec<_> = names.iter().map(|(a, b)| (a.as_str(), b.as_str())).rev().collect();
    let config = load("", &borrowed).unwrap().value;
    assert_eq!(config.stream.len(), 12);
    assert_eq!(config.stream[10].name, "s10");
}

#[test]
fn a_variable_that_names_no_setting_is_a_problem() {
    assert_eq!(
        complaints(
            "",
            &[
                ("NGSI_FERRY_INTAK__LISTEN", "x"),
                ("NGSI_FERRY_INTAKE_LISTEN", "x"),
                ("NGSI_FERRY_INTAKE__TLS__CERTIFICAT", "x"),
                ("NGSI_FERRY_STREAM__3__NAME", "x"),
                ("NGSI_FERRY_CLIENT__NAME", "x"),
                ("NGSI_FERRY_Data_Dir", "x"),
                ("NGSI_FERRY_INTAKE__", "x"),
                ("NGSI_FERRY_WHATEVER", "x"),
            ]
        ),
        [
            "environment: NGSI_FERRY_CLIENT__NAME, client: expected an array, found a table; \
             number the entries from 0: NGSI_FERRY_CLIENT__0__…",
            "environment: NGSI_FERRY_Data_Dir is not a setting: variables are written in capitals",
            "environment: NGSI_FERRY_INTAKE_LISTEN is not a setting; did you mean \
             NGSI_FERRY_INTAKE__LISTEN?",
            "environment: NGSI_FERRY_INTAKE__ is not a setting: write SECTION__NAME after the prefix",
            "environment: NGSI_FERRY_INTAKE__TLS__CERTIFICAT is not a setting; did you mean \
             NGSI_FERRY_INTAKE__TLS__CERTIFICATE?",
            "environment: NGSI_FERRY_INTAK__LISTEN is not a setting; did you mean \
             NGSI_FERRY_INTAKE__LISTEN?",
            "environment: NGSI_FERRY_STREAM__3__NAME sets entry 3 of stream, which has 0 before \
             it; the next one is NGSI_FERRY_STREAM__0",
            "environment: NGSI_FERRY_WHATEVER is not a setting; known are NGSI_FERRY_DATA_DIR, \
             NGSI_FERRY_INTAKE, NGSI_FERRY_STREAM, NGSI_FERRY_CLIENT, NGSI_FERRY_LABELS",
        ]
    );
}

#[test]
fn the_origin_of_a_setting_can_be_asked_later() {
    let loaded = load(
        "[intake]\ntls.certificate = \"/nowhere\"\n[[stream]]\nname = \"a\"\n[[stream]]\n\nname = \"b\"\n",
        &[("NGSI_FERRY_INTAKE__LISTEN", "0.0.0.0:1"), ("NGSI_FERRY_INTAKE__ALLOW", "[\"::/0\"]")],
    )
    .unwrap();
    let sources = loaded.sources;
    let variable = |name: &str| Origin::Environment { variable: name.into() };
    assert_eq!(sources.origin("intake.listen"), variable("NGSI_FERRY_INTAKE__LISTEN"));
    assert_eq!(sources.origin("intake.allow[0]"), variable("NGSI_FERRY_INTAKE__ALLOW"));
    assert_eq!(sources.origin("intake.tls.certificate"), line(2));
    assert_eq!(sources.origin("stream[0]"), line(3));
    assert_eq!(sources.origin("stream[1]"), line(5));
    assert_eq!(sources.origin("stream[1].name"), line(7));
    for unset in ["stream[1].max_bytes", "stream[2]", "intake.wait", "nonsense", "", "[", "..[x]"] {
        assert_eq!(sources.origin(unset), Origin::Default, "{unset}");
    }
    let problem =
        sources.problem("intake.tls.certificate", "there is no such file", Some("run pki"));
    assert_eq!(
        problem.to_string(),
        "/etc/ngsi-ferry.toml:2: [intake.tls] certificate = \"/nowhere\": there is no such file; \
         run pki\n  2 | tls.certificate = \"/nowhere\"\n    |                   ^^^^^^^^^^"
    );
    assert_eq!(
        sources.problem("intake.listen", "the port is in use", None).to_string(),
        "environment: NGSI_FERRY_INTAKE__LISTEN = \"0.0.0.0:1\": the port is in use"
    );
    assert_eq!(
        sources.problem("intake.wait", "too short", None).to_string(),
        "not set, so the default holds: intake.wait: too short"
    );
}

#[test]
fn a_secret_is_never_repeated() {
    let secret = "hunter2";
    let files = [
        "[intake.tls]\ntoken = \"hunter2\"\n",
        "[intake]\ntls = { token = \"hunter2\", listn = 5 }\n",
        "[intake.tls]\ntoken = hunter2\n",
        "[intake.tls]\ntoken = [\n  hunter2==\n]\n",
        "[intake.tls]\ntoken = \"\"\"\nhunter2\n",
        "[intake.tls]\ntoken = \"\"\"\nhunter2\"\"\"\n",
        "[intake]\ntls = { token = \"\"\"\nhunter2\"\"\", listn = 5 }\n",
        "[[client]]\nname = \"x\"\nauth = { kind = \"nobody\", token_file = \"hunter2\" }\n",
        "[[client]]\npassword = \"hunter2\"\n",
        "client = { secret = \"hunter2\" }\n",
        "[[stream]]\nmax_bytes = { password = [\"hunter2\"] }\n",
        "token = \"hunter2\"\ntoken = \"hunter2\"\n",
    ];
    for file in files {
        let problems = load(file, &[]).expect_err(file);
        println!("{problems}\n");
        let json = serde_json::to_string(&problems).unwrap();
        assert!(!json.contains(secret) && !problems.to_string().contains(secret), "{json}");
    }
    let problems = load("", &[("NGSI_FERRY_INTAKE__TLS__TOKEN", secret)]).unwrap_err();
    assert!(!problems.to_string().contains(secret), "{problems}");
    assert!(problems.to_string().contains("(not shown)"), "{problems}");
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &Path| {
        read::<Config>(Some(path), variables(&[])).expect_err("unreadable").to_string()
    };
    let missing = told(&folder.path().join("absent.toml"));
    assert!(missing.contains("absent.toml: ") && missing.contains("no such file"), "{missing}");
    assert!(told(folder.path()).contains("folder"));
    assert!(told(Path::new("/dev/zero")).contains("larger than 4 MiB"));
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"a = 1\nb = \"\xff\"\n").unwrap();
    assert!(told(&binary).contains("binary.toml:2: not UTF-8"));
    let good = folder.path().join("good.toml");
    std::fs::write(&good, "\u{feff}[intake]\r\nwait = \"9s\"\r\n").unwrap();
    let loaded = read::<Config>(Some(&good), variables(&[])).unwrap();
    assert_eq!(loaded.value.intake.wait, Duration::from_secs(9));
    assert_eq!(loaded.sources.origin("intake.wait"), Origin::File { path: good, line: Some(2) });
}

#[test]
fn problems_can_be_given_as_json() {
    let problems = load("[intake]\nlistn = 1\n", &[]).unwrap_err();
    assert_eq!(
        serde_json::to_value(&problems).unwrap(),
        serde_json::json!([{
            "origin": {"from": "file", "path": PATH, "line": 2},
            "setting": "intake.listn",
            "message": "[intake] listn is not a setting",
            "hint": "did you mean \"listen\"?",
            "excerpt": "  2 | listn = 1\n    | ^^^^^",
        }])
    );
}

#[test]
fn a_file_that_is_no_configuration_ends_soon() {
    let many = (0..20_000).fold(String::new(), |text, number| text + &format!("key{number} = 1\n"));
    assert_eq!(load(&many, &[]).unwrap_err().len(), 100);
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(load(&deep, &[]).is_err());
    let long = format!("NGSI_FERRY_{}", "A__".repeat(50_000));
    assert_eq!(load("", &[(&long, "1")]).unwrap_err().len(), 1);
}

/// Text that is often nearly a configuration.
fn nearly_toml() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[intake]\n",
        "[[stream]]\n",
        "[[client]]\n",
        "[stream]\n",
        "[intake.tls]\n",
        "listen",
        "name",
        "token",
        "max_bytes",
        "wait",
        "auth",
        "kind",
        " = ",
        "=",
        "\n",
        "\"",
        "\"\"\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        ".",
        "5",
        "-1",
        "9999999999999999999999",
        "1e999",
        "nan",
        "true",
        "\"2GiB\"",
        "\"30s\"",
        "1979-05-27",
        "#",
        "é",
        "\u{1f980}",
        "\t",
        "\r\n",
        "\u{0}",
        "allow",
        "bearer",
        "labels",
        "data_dir",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_or_loops(text in prop_oneof![nearly_toml(), ".{0,200}"]) {
        if let Err(problems) = load(&text, &[]) {
            prop_assert!(!problems.is_empty());
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_variables_never_panic_or_loop(
        names in prop::collection::vec(
            prop::sample::select(vec![
                "INTAKE", "INTAKE__LISTEN", "STREAM", "STREAM__0", "STREAM__0__NAME", "STREAM__0__NAME__X",
                "STREAM__1__MAX_BYTES", "CLIENT__0__AUTH__KIND", "LABELS__A", "LABELS__0", "0", "_", "__",
            ]), 0..6),
        value in prop_oneof![nearly_toml(), ".{0,40}"],
        text in nearly_toml(),
    ) {
        let names: Vec<_> = names.iter().map(|name| format!("NGSI_FERRY_{name}")).collect();
        let environment: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        if let Err(problems) = load(&text, &environment) {
            prop_assert!(!problems.is_empty());
        }
    }
}
