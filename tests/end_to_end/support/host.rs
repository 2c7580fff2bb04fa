//! What a test needs of the machine it runs on. Compiled into the library's own tests too, so that one rule holds
//! everywhere.

// Each of them uses a part.
#![allow(dead_code)]

use std::thread;

use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};

/// Set to 1, every test must run: what the machine lacks is a failure.
const ALL_VARIABLE: &str = "TOWLINE_TEST_ALL";
/// With these, permissions of files mean nothing.
const OVERRIDES: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// Says that the test, or a part of it, cannot run here, and why. Panics where every test must run.
#[track_caller]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn skip(why: &str) {
    assert!(!must_run_all(), "{ALL_VARIABLE} is set and this machine lacks something: {why}");
    eprintln!("skipped: {why}");
}

/// How many of a test's `cases` run: all with `TOWLINE_TEST_LONG=1`, else the first. For cases that take long.
pub(crate) fn cases(cases: usize) -> usize {
    if std::env::var_os("TOWLINE_TEST_LONG").is_some() { cases } else { 1 }
}

/// Whether every test must run.
pub(crate) fn must_run_all() -> bool {
    std::env::var_os(ALL_VARIABLE).is_some_and(|value| value == "1")
}

/// Whether `program` is installed; says that the test is skipped when it is not.
#[track_caller]
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !is_installed {
        skip(&format!("{program} is not installed"));
    }
    is_installed
}

/// Runs `test` on a thread that permissions of files bind, as do the programs that it starts, also where the user is
/// root.
pub(crate) fn bound_by_permissions<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    let bound = || {
        let mut sets = capabilities(None).expect("a thread knows its capabilities");
        if sets.effective.intersects(OVERRIDES) {
            sets.effective.remove(OVERRIDES);
            set_capabilities(None, sets).expect("a thread can give up capabilities");
            // A program that root starts gets all of this set.
            remove_capability_from_bounding_set(CapabilitySet::DAC_OVERRIDE).expect("root can");
            remove_capability_from_bounding_set(CapabilitySet::DAC_READ_SEARCH).expect("root can");
        }
        test()
    };
    thread::scope(|scope| scope.spawn(bound).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
