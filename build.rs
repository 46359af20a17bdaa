//! Tells the program which commit and which machine it is built for.
//!
//! The commit is that of `NGSI_FERRY_COMMIT`, else git's, with `-dirty` where
//! what the program is built from differs from it; `unknown` in a tree without
//! git. A build that is not optimized does not look, or each commit would build
//! everything anew.

use std::path::Path;
use std::process::Command;

/// What the program is built from.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];
const VARIABLE: &str = "NGSI_FERRY_COMMIT";
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let is_release = std::env::var("PROFILE").as_deref() == Ok("release");
    let commit = match std::env::var(VARIABLE) {
        Ok(commit) if !commit.is_empty() => short(&commit),
        _ if !is_release => "development".to_owned(),
        _ => commit().unwrap_or_else(|| "unknown".to_owned()),
    };
    // Not NGSI_FERRY_…: cargo sets them for what it runs, too, and those are
    // settings there.
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={commit}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=BUILT_FOR_TARGET={target}");
}

/// The commit that is checked out here. None in no repository, or in another
/// one that this tree was unpacked in.
fn commit() -> Option<String> {
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    // The first moves with each commit, the second at least with a checkout.
    for head in ["logs/HEAD", "HEAD"] {
        let file = git(&["rev-parse", "--git-path", head])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let commit = short(&git(&["rev-parse", "HEAD"])?);
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

fn short(commit: &str) -> String {
    commit.chars().take(DIGITS).collect()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
