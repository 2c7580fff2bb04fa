//! What the end-to-end tests share: a UDP link with faults, the program as a child process, trees of every kind
//! of entry, and seeds.

#![allow(clippy::print_stderr, reason = "tests say what they skip and what a process said")]

use std::io;
use std::path::{Path, PathBuf};

pub(crate) mod cgroup;
pub(crate) mod faults;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod middle;
pub(crate) mod mount;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod setting;
pub(crate) mod sshd;
pub(crate) mod stranger;
pub(crate) mod terminal;
pub(crate) mod ticket;
pub(crate) mod tree;

/// The seed of a test: `TOWLINE_SEED`, or `default`. Printed when the test fails, so that it can be run again.
pub(crate) struct Seed {
    /// The value.
    pub(crate) value: u64,
}

impl Seed {
    /// Takes `TOWLINE_SEED` (decimal) over `default`.
    pub(crate) fn new(default: u64) -> Self {
        let value = match std::env::var("TOWLINE_SEED") {
            Ok(text) => text.parse().expect("TOWLINE_SEED is a decimal number"),
            Err(_) => default,
        };
        Self { value }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this test ran with TOWLINE_SEED={}", self.value);
        }
    }
}

/// A directory of one test. It goes with the test, even when it holds directories that cannot be written.
pub(crate) struct Scratch {
    dir: Option<tempfile::TempDir>,
}

impl Scratch {
    /// A new, empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("towline-test-").tempdir().expect("a temporary directory");
        Self { dir: Some(dir) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().expect("held until it is dropped").path()
    }

    /// A new, empty directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).expect("a directory in the scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            // Best effort: what is left lies under the system's directory for temporary files.
            let _ = make_writable(dir.path());
            let _ = dir.close();
        }
    }
}

/// Gives the owner all rights on every directory below `dir`, without following links.
fn make_writable(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
