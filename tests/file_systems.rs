//! File systems that cannot do something: content arrives and is verified wherever bytes and a rename work; what is
//! not kept is said.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::io::Errno;
use support::Scratch;
use support::host::has;
use support::process::{Ended, Machine};
use support::tree::set_mode;

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

    /// Sends `source` to `receiver`; both must end with `code`.
    #[track_caller]
    fn transfer(&self, receiver: &Machine, source: &Path, args: &[&str], code: i32) -> [Ended; 2] {
        let (receiving, listening) = receiver.listen_receive(&self.inbox, args);
        let source = source.to_str().expect("a plain path");
        let sent = self.sender.send(["--to", &listening.ticket, source]);
        [sent.expect(code), receiving.end().expect(code)]
    }
}

/// Sends one file to a receiver that has `faults`; both must end with 6.
#[track_caller]
fn send_to_one_with(faults: impl FnOnce(Machine) -> Machine) -> (Setting, [Ended; 2]) {
    let setting = Setting::new();
    let source = setting.scratch.path().join("file");
    fs::write(&source, b"bytes").expect("a file");
    let receiver = faults(setting.receiver());
    let ended = setting.transfer(&receiver, &source, &[], 6);
    (setting, ended)
}

#[test]
fn t5_a_sync_that_fails_for_good_is_exit_6() {
    for errno in [Errno::IO, Errno::NOSPC] {
        let (setting, ended) = send_to_one_with(|receiver| receiver.denying(libc::SYS_fsync, errno));
        for side in ended {
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
        assert!(side.said().contains("cannot sync"), "{}", side.said());
    }
}

/// A source directory `tree` that holds a directory `sub` with one file.
fn small_tree(setting: &Setting) -> PathBuf {
    let tree = setting.scratch.dir("tree");
    fs::create_dir(tree.join("sub")).expect("a directory");
    fs::write(tree.join("sub/file"), b"bytes").expect("a file");
    set_mode(&tree.join("sub"), 0o755);
    set_mode(&tree, 0o755);
    tree
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).mode() & 0o7777
}

/// `tree` in the inbox of `setting`, private and sticky, and `sub` in it, which cannot be written.
fn directories_that_are_there(setting: &Setting) -> [PathBuf; 2] {
    let dirs = ["tree", "tree/sub"].map(|name| setting.inbox.join(name));
    dirs.iter().for_each(|dir| fs::create_dir(dir).expect("a directory"));
    set_mode(&dirs[0], 0o1700);
    set_mode(&dirs[1], 0o2555);
    dirs
}

#[test]
fn fault_3_a_directory_that_was_there_keeps_its_attributes_unless_replaced() {
    for (exists, modes) in [
        ("refuse", [0o1700, 0o2555]),
        ("skip", [0o1700, 0o2555]),
        ("rename", [0o1700, 0o2555]),
        ("replace", [0o1755, 0o2755]),
    ] {
        let setting = Setting::new();
        let source = small_tree(&setting);
        let dirs = directories_that_are_there(&setting);
        setting.transfer(&setting.receiver(), &source, &["--exists", exists], 0);
        assert_eq!(dirs.each_ref().map(|dir| mode(dir)), modes, "{exists}");
        assert_eq!(fs::read(dirs[1].join("file")).expect("it came"), b"bytes");
    }
}

#[test]
fn fault_3_a_new_directory_keeps_what_it_got_from_a_setgid_parent() {
    let setting = Setting::new();
    let source = small_tree(&setting);
    set_mode(&setting.inbox, 0o2775);
    setting.transfer(&setting.receiver(), &source, &[], 0);
    assert_eq!(mode(&setting.inbox.join("tree")), 0o2755);
    assert_eq!(mode(&setting.inbox.join("tree/sub")), 0o2755);
}

#[test]
fn fault_3_a_failed_transfer_leaves_no_directory_more_open_than_it_was() {
    let setting = Setting::new();
    let source = small_tree(&setting);
    let dirs = directories_that_are_there(&setting);
    let receiver = setting.receiver().denying(libc::SYS_fsync, Errno::IO);
    setting.transfer(&receiver, &source, &[], 6);
    assert_eq!(dirs.each_ref().map(|dir| mode(dir)), [0o1700, 0o2555]);
}
