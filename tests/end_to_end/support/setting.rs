//! Two machines, and a directory for what arrives.

use std::fs;
use std::path::{Path, PathBuf};

use super::Scratch;
use super::process::Machine;

/// A sender and a receiver. Files of tests add what they need in an `impl` of their own.
pub(crate) struct Setting {
    /// Holds everything, and goes with the test.
    pub(crate) scratch: Scratch,
    /// The machine that sends.
    pub(crate) sender: Machine,
    /// The machine that receives.
    pub(crate) receiver: Machine,
    /// The directory that it receives into.
    pub(crate) inbox: PathBuf,
}

impl Setting {
    /// Machines without an identity, and an empty inbox.
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let [sender, receiver] = ["sender", "receiver"].map(|name| Machine::new(scratch.path().join(name)));
        let inbox = scratch.dir("inbox");
        Self { scratch, sender, receiver, inbox }
    }

    /// A path beside the inbox.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The machine that receives, with an identity made before anything can fail.
    pub(crate) fn ready_receiver(&self) -> Machine {
        let machine = Machine::new(self.path("receiver"));
        machine.start(["id", "--json"]).end().expect(0);
        machine
    }

    /// A file to send, called `file`.
    pub(crate) fn source(&self) -> String {
        let path = self.path("file");
        fs::write(&path, b"bytes").expect("a file");
        path.to_str().expect("a plain path").to_owned()
    }

    /// The file came. Takes it away again.
    #[track_caller]
    pub(crate) fn assert_arrived(&self) {
        let file = self.inbox.join("file");
        assert_eq!(fs::read(&file).expect("it came"), b"bytes");
        fs::remove_file(file).expect("it can go");
    }

    /// The inbox, as an argument.
    pub(crate) fn inbox(&self) -> &str {
        self.inbox.to_str().expect("a plain path")
    }
}

/// Panics if staging holds anything but what an interrupted file can be resumed from.
#[track_caller]
pub(crate) fn assert_only_partials(inbox: &Path) {
    for entry in fs::read_dir(inbox.join(".towline")).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let is_partial = path.extension().is_some_and(|end| end == "part" || end == "journal");
        assert!(is_partial && path.is_file(), "left behind: {}", path.display());
    }
}
