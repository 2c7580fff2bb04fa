//! A test says what it cannot do on this machine, and fails where every test must run.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::host::has;

/// Stands for a test whose program is missing; the tests below run it.
#[test]
#[ignore = "run by the tests below"]
fn needs_what_nobody_has() {
    has("towline-test-no-such-program");
}

fn run_it(all: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "--nocapture", "skips::needs_what_nobody_has"]);
    match all {
        Some(value) => command.env("TOWLINE_TEST_ALL", value),
        None => command.env_remove("TOWLINE_TEST_ALL"),
    };
    command.output().expect("it starts")
}

#[test]
fn what_is_missing_is_said() {
    for all in [None, Some("0")] {
        let output = run_it(all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("skipped: towline-test-no-such-program is not installed"), "{said}");
    }
}

#[test]
fn what_is_missing_fails_where_every_test_must_run() {
    let output = run_it(Some("1"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("towline-test-no-such-program is not installed"), "{said}");
}

/// One that only prints would pass in silence where every test must run.
#[test]
fn no_test_skips_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for dir in ["src", "tests"] {
        look(&root.join(dir), &mut found);
    }
    assert!(found.is_empty(), "use `support::host::skip`: {found:#?}");
}

fn look(dir: &Path, found: &mut Vec<String>) {
    // In two parts, so that this file does not find itself. It stands for `eprintln!` too.
    let by_itself = concat!("println!(\"", "skipped");
    for entry in fs::read_dir(dir).expect("a directory of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("support/host.rs") {
            let text = fs::read_to_string(&path).expect("source is text");
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(by_itself));
            found.extend(lines.map(|(n, line)| format!("{}:{}: {line}", path.display(), n + 1)));
        }
    }
}
