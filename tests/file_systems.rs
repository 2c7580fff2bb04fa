//! File systems that cannot do something: content arrives and is verified wherever bytes and a rename work; what is
//! not kept is said.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::io::Errno;
use support::Scratch;
use support::host::has;
use support::process::{Ended, Machine};

/// A tree to send and an inbox; the receiver is the machine with the faults.
struct Setting {
    scratch: Scratch,
    sender: Machine,
    inbox: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let sender = Machine::new(scratch.path().join("sender"));
        let inbox = scratch.dir("inbox");
        Self { scratch, sender, inbox }
    }

    /// The machine that receives, with an identity made before anything fails.
    fn receiver(&self) -> Machine {
        let receiver = Machine::new(self.scratch.path().join("receiver"));
        receiver.start(["id", "--json"]).end().expect(0);
        receiver
    }

    /// Sends `source` to `receiver` and waits for both.
    fn transfer(&self, receiver: &Machine, source: &Path, args: &[&str]) -> [Ended; 2] {
        let (receiving, listening) = receiver.listen_receive(&self.inbox, args);
        let source = source.to_str().expect("a plain path");
        let sent = self.sender.send(["--to", &listening.ticket, source]);
        [sent, receiving.end()]
    }
}

/// Sends one file to a receiver that has `faults`.
fn send_to_one_with(faults: impl FnOnce(Machine) -> Machine) -> (Setting, [Ended; 2]) {
    let setting = Setting::new();
    let source = setting.scratch.path().join("file");
    fs::write(&source, b"bytes").expect("a file");
    let receiver = faults(setting.receiver());
    let ended = setting.transfer(&receiver, &source, &[]);
    (setting, ended)
}

#[test]
fn t5_a_sync_that_fails_for_good_is_exit_6() {
    for errno in [Errno::IO, Errno::NOSPC] {
        let (setting, ended) = send_to_one_with(|receiver| receiver.denying(libc::SYS_fsync, errno));
        for side in ended {
            let side = side.expect(6);
            assert!(side.said().contains("cannot sync"), "{}", side.said());
        }
        assert!(!setting.inbox.join("file").exists());
    }
}

/// The data is synced by the first call, the directory by the second one.
#[test]
fn t5_a_later_sync_that_fails_for_good_is_exit_6() {
    if !has("strace") {
        return;
    }
    let (_setting, ended) = send_to_one_with(|receiver| receiver.injecting("inject=fsync:error=EIO:when=2+"));
    for side in ended {
        let side = side.expect(6);
        assert!(side.said().contains("cannot sync"), "{}", side.said());
    }
}
