//! The load and the cuts that other programs are measured with
//! (`examples/peer.rs`): they find what is lost, and nothing where nothing is.

use std::path::Path;
use std::process::Command;

/// What `peer` says: acknowledged, lost and twice.
fn cut(known: &str, cut: &str) -> [u64; 3] {
    let build = Path::new(env!("CARGO_BIN_EXE_ngsi-ferry")).parent().unwrap();
    let peer = build.join("examples/peer");
    let mut command = Command::new(&peer);
    command.args(["--known", known, "--cut", cut, "--rounds", "4"]);
    command.args(["--between", "600", "--patience", "2"]);
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", peer.display()));
    let said = String::from_utf8_lossy(&output.stdout);
    let figures = said.lines().nth(1).unwrap_or_default();
    let figures: Vec<u64> = figures.split_whitespace().flat_map(str::parse).collect();
    let [_, acknowledged, _, lost, twice] = figures[..] else {
        panic!("{said}{}", String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(output.status.success(), lost == 0, "{said}");
    [acknowledged, lost, twice]
}

#[test]
fn what_a_program_loses_that_answers_before_it_stores_is_counted() {
    let [acknowledged, lost, _] = cut("bad-peer", "kill");
    assert!(lost > 0, "none of {acknowledged}");
}

#[test]
fn the_gateway_loses_nothing_under_the_load_that_others_are_measured_with() {
    for kind in ["kill", "receiver"] {
        let [acknowledged, lost, twice] = cut("ngsi-ferry", kind);
        assert!(acknowledged > 0);
        assert_eq!((lost, twice), (0, 0), "{kind}");
    }
}
