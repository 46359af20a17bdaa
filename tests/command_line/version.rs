//! `--version`, and what the build script makes of the tree it finds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ngsi_ferry::build;

use super::support::ok;
use crate::common::gateway::{Gateway, Setup};

#[tokio::test]
async fn version_commit_and_machine_are_told_wherever_somebody_asks() {
    let all = format!("{} ({}, {})", env!("CARGO_PKG_VERSION"), build::COMMIT, build::TARGET);
    assert_eq!(ok(&Setup::new(), &["--version"]).await.out, format!("ngsi-ferry {all}\n"));
    let gateway = Gateway::start().await;
    let status = gateway.status().await;
    assert_eq!(
        (&status["version"], &status["commit"], &status["target"]),
        (&build::VERSION.into(), &build::COMMIT.into(), &build::TARGET.into())
    );
    let log = gateway.log();
    assert!(log.contains(&format!("ready version=\"{all}\"")), "{log}");
}

/// The build script, and a tree to run it in.
struct Tree {
    folder: tempfile::TempDir,
    script: PathBuf,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-o"]).arg(&script).arg(source);
        assert!(rustc.status().unwrap().success());
        let tree = Self { folder, script };
        std::fs::create_dir_all(tree.root().join("src")).unwrap();
        tree.write("src/lib.rs", "//! one\n");
        tree.write("README.md", "one\n");
        tree
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root().join(name), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]);
        let Output { stdout, status, .. } =
            git.args(arguments).current_dir(self.root()).output().unwrap();
        assert!(status.success(), "git {arguments:?}");
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", "one"]);
        self.git(&["rev-parse", "HEAD"])[..12].to_owned()
    }

    /// What the script tells cargo.
    fn says(&self, profile: &str, given: Option<&str>) -> String {
        let mut script = Command::new(&self.script);
        script.env_remove("NGSI_FERRY_COMMIT").env("PROFILE", profile);
        script.envs(given.map(|given| ("NGSI_FERRY_COMMIT", given)));
        script.env("TARGET", "a-machine").env("CARGO_MANIFEST_DIR", self.root());
        let said = script.current_dir(self.root()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    }

    fn commit_in(&self, profile: &str, given: Option<&str>) -> String {
        let said = self.says(profile, given);
        let line =
            said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=BUILT_FROM_COMMIT="));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    }
}

#[test]
fn a_release_names_the_commit_and_whether_its_sources_differ_from_it() {
    let tree = Tree::new();
    assert_eq!(tree.commit_in("release", None), "unknown", "a tarball");
    tree.git(&["init", "-q"]);
    let first = tree.commit();
    assert_eq!(tree.commit_in("release", None), first);
    tree.write("README.md", "two\n");
    assert_eq!(tree.commit_in("release", None), first, "nothing is built from that");
    tree.write("src/lib.rs", "//! two\n");
    assert_eq!(tree.commit_in("release", None), format!("{first}-dirty"));
    let second = tree.commit();
    assert_ne!(first, second);
    assert_eq!(tree.commit_in("release", None), second);
    assert_eq!(tree.commit_in("release", Some("0123456789abcdef")), "0123456789ab");
    assert_eq!(tree.commit_in("release", Some("")), second);
}

#[test]
fn a_tree_in_somebody_elses_repository_has_no_commit() {
    let tree = Tree::new();
    let mut git = Command::new("git");
    let made = git.args(["init", "-q"]).current_dir(tree.folder.path()).status().unwrap();
    assert!(made.success());
    assert_eq!(tree.commit_in("release", None), "unknown");
}

#[test]
fn a_commit_makes_a_release_anew_and_nothing_else() {
    let tree = Tree::new();
    tree.git(&["init", "-q"]);
    tree.commit();
    let watched = tree.says("release", None);
    assert!(watched.contains("cargo::rerun-if-changed=.git/logs/HEAD"), "{watched}");
    let watched = tree.says("debug", None);
    assert!(!watched.contains("rerun-if-changed"), "{watched}");
    assert!(watched.contains("BUILT_FROM_COMMIT=development"), "{watched}");
}
