//! `send --remove-source` removes only what is durable at the receiver and still the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::host::{bound_by_permissions, skip};
use crate::support::link::{LinkOptions, UdpLink};
use crate::support::mount::Mount;
use crate::support::process::{Ended, Machine};
use crate::support::setting::Setting;
use crate::support::ticket::redirect;
use crate::support::tree::{random_file, set_mode};
use nix::libc;
use rustix::io::Errno;

const MOVE: &str = "--remove-source";
/// A link so slow that a large file is still in flight when a test changes what has arrived before it, on a busy machine
/// too.
const SLOW_BYTES_PER_S: u64 = 256 << 10;

impl Setting {
    /// A directory `tree` with files of all sizes, links, hard links and empty directories.
    fn mixed_tree(&self) -> PathBuf {
        let tree = self.scratch.dir("from").join("tree");
        fs::create_dir_all(tree.join("deep/er")).expect("directories");
        fs::create_dir(tree.join("empty")).expect("a directory");
        fs::write(tree.join("small"), "small").expect("a file");
        fs::write(tree.join("deep/none"), "").expect("a file");
        random_file(&tree.join("deep/er/large"), (2 << 20) + 5, 81);
        fs::hard_link(tree.join("small"), tree.join("deep/again")).expect("a hard link");
        fs::write(self.path("outside"), "outside").expect("a file");
        symlink(self.path("outside"), tree.join("link")).expect("a link");
        tree
    }

    /// Moves `source` to a waiting receiver.
    fn move_to(&self, receiver: &Machine, source: &Path, args: &[&str], code: i32) -> Ended {
        let (receiving, listening) = receiver.listen_receive(&self.inbox, args);
        let sent = self.sender.send([MOVE, "--to", &listening.ticket, plain(source)]).expect(code);
        receiving.end();
        sent
    }
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The `count` of the warning about sources that remain for this cause.
#[track_caller]
fn remaining(ended: &Ended, cause: &str) -> u64 {
    let about = |e: &&serde_json::Value| {
        e["reason"] == "source-remains" && e["message"].as_str().is_some_and(|m| m.contains(cause))
    };
    let found = ended.events("warning").find(about);
    found.and_then(|e| e["count"].as_u64()).unwrap_or_else(|| panic!("no {cause}: {}", ended.said()))
}

#[track_caller]
fn assert_moved(setting: &Setting, tree: &Path, sent: &Ended) {
    assert!(!tree.exists() && tree.parent().is_some_and(Path::exists), "{}", sent.said());
    assert_eq!(fs::read_to_string(setting.path("outside")).expect("never through a link"), "outside");
    // Five files, a link, and four directories with the named one.
    assert_eq!(sent.event("finished")["removed"], 9, "{}", sent.said());
    for name in ["small", "deep/none", "deep/again", "deep/er/large", "link"] {
        assert_eq!(sent.file(&format!("tree/{name}"))["removed"], true, "{name}");
    }
    let inbox = setting.inbox.join("tree");
    assert_eq!(fs::read(inbox.join("deep/er/large")).expect("it arrived").len(), (2 << 20) + 5);
    assert!(inbox.join("empty").is_dir() && inbox.join("link").is_symlink());
    assert_eq!(fs::read(inbox.join("deep/again")).expect("it arrived"), b"small");
}

#[test]
fn a_tree_is_moved_whoever_dials_and_into_a_directory() {
    let setting = Setting::new();
    let tree = setting.mixed_tree();
    let sent = setting.move_to(&setting.receiver, &tree, &[], 0);
    assert_moved(&setting, &tree, &sent);

    let setting = Setting::new();
    let tree = setting.mixed_tree();
    let (sending, listening) = setting.sender.listen_send(&tree, &[MOVE]);
    setting.receiver.receive(["--from", &listening.ticket, "--into", setting.inbox()]).expect(0);
    assert_moved(&setting, &tree, &sending.end().expect(0));

    let setting = Setting::new();
    let tree = setting.mixed_tree();
    let to = format!("dir:{}", setting.inbox());
    let sent = setting.sender.send([MOVE, "--to", &to, plain(&tree)]).expect(0);
    assert_moved(&setting, &tree, &sent);
}

#[test]
fn nothing_is_removed_when_the_receiver_does_not_sync() {
    let lacking = |machine: Machine| {
        machine.denying(libc::SYS_fsync, Errno::INVAL).denying(libc::SYS_fdatasync, Errno::INVAL)
    };
    for lacks_sync in [false, true] {
        let setting = Setting::new();
        let tree = setting.mixed_tree();
        let machine = Machine::new(setting.path("other"));
        // Its identity is synced as well.
        assert!(machine.command(["id"]).status().is_ok_and(|status| status.success()));
        let (machine, args): (_, &[&str]) = match lacks_sync {
            true => (lacking(machine).denying(libc::SYS_syncfs, Errno::NOSYS), &[]),
            false => (machine, &["--no-fsync"]),
        };
        let sent = setting.move_to(&machine, &tree, args, 10);
        assert_eq!(remaining(&sent, "does not sync"), 5);
        assert_eq!(sent.event("finished")["removed"], 0);
        assert_eq!(sent.file("tree/small")["removed"], false);
        for name in ["small", "deep/none", "deep/again", "deep/er/large", "link", "empty"] {
            assert!(tree.join(name).symlink_metadata().is_ok(), "{name} is gone");
        }
    }
}

#[test]
fn what_the_receiver_had_or_skipped_stays() {
    let setting = Setting::new();
    let tree = setting.mixed_tree();
    // Into the directory that holds it: both sides see the very same files.
    let holder = format!("dir:{}", plain(tree.parent().expect("a parent")));
    let sent = setting.sender.send([MOVE, "--to", &holder, plain(&tree.join("small"))]).expect(0);
    assert_eq!(sent.event("finished")["removed"], 1);
    let small = tree.parent().expect("a parent").join("small");
    let sent = setting.sender.send([MOVE, "--to", &holder, plain(&small)]).expect(10);
    assert_eq!((remaining(&sent, "had it already"), fs::read(&small).expect("the only copy").len()), (1, 5));

    fs::create_dir_all(setting.inbox.join("tree/deep")).expect("directories");
    fs::write(setting.inbox.join("tree/deep/none"), "another").expect("a file");
    // A file has the name of an empty directory.
    fs::write(setting.inbox.join("tree/empty"), "").expect("a file");
    let sent = setting.move_to(&setting.receiver, &tree, &["--exists", "skip"], 10);
    assert_eq!(remaining(&sent, "kept another file"), 1);
    assert!(tree.join("deep/none").exists() && tree.join("empty").is_dir());
    assert!(!tree.join("deep/er").exists() && !tree.join("link").is_symlink());
}

#[test]
fn a_source_that_changes_after_it_has_arrived_stays() {
    let setting = Setting::new();
    let tree = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(tree.join("filled")).expect("a directory");
    for name in ["grown", "replaced", "rewritten", "link", "moved"] {
        fs::write(tree.join(name), name).expect("a file");
    }
    fs::write(tree.join("filled/file"), "file").expect("a file");
    random_file(&tree.join("large"), 8 << 20, 82);
    let (mut receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let slow = LinkOptions { rate_bytes_per_s: Some(SLOW_BYTES_PER_S), ..Default::default() };
    let link = UdpLink::start(listening.address, &slow);
    let ticket = redirect(&listening.ticket, listening.address, link.addr);
    let sender = setting.sender.start_send([MOVE, "--to", &ticket, plain(&tree)]);
    let mut done = 0;
    while done < 6 {
        receiver.wait_until("a small file under its name", |event| event["event"] == "file");
        done += 1;
    }
    let old = fs::metadata(tree.join("replaced")).expect("there").modified().expect("a time");
    fs::write(tree.join("grown"), "grown more").expect("a file");
    fs::rename(tree.join("moved"), setting.path("moved")).expect("a move");
    symlink(setting.path("moved"), tree.join("moved")).expect("a link");
    // The same size and time.
    fs::write(tree.join("new"), "REPLACED").expect("a file");
    fs::File::options().write(true).open(tree.join("new")).and_then(|f| f.set_modified(old)).expect("a time");
    fs::rename(tree.join("new"), tree.join("replaced")).expect("a move");
    fs::write(tree.join("rewritten"), "REWRITTEN").expect("a file");
    fs::remove_file(tree.join("link")).expect("a file");
    fs::write(tree.join("filled/later"), "later").expect("a file");
    link.set_rate(None);
    let sent = sender.end().expect(10);
    receiver.end().expect(0);
    assert_eq!(remaining(&sent, "grown"), 1);
    assert_eq!(remaining(&sent, "something else has its name"), 2);
    assert_eq!(remaining(&sent, "changed after it was sent"), 1);
    assert_eq!(remaining(&sent, "gone already"), 1);
    let content = |name: &str| fs::read_to_string(tree.join(name)).unwrap_or_default();
    assert_eq!(["grown", "replaced", "rewritten"].map(content), ["grown more", "REPLACED", "REWRITTEN"]);
    assert!(tree.join("moved").is_symlink());
    assert_eq!(fs::read_to_string(setting.path("moved")).expect("never through a link"), "moved");
    assert!(!tree.join("large").exists() && !tree.join("filled/file").exists());
    assert_eq!(content("filled/later"), "later");
}

#[test]
fn what_cannot_be_removed_is_counted_and_the_content_is_there() {
    let setting = Setting::new();
    let tree = setting.mixed_tree();
    set_mode(&tree.join("deep"), 0o555);
    let sent = bound_by_permissions(|| setting.move_to(&setting.receiver, &tree, &[], 10));
    set_mode(&tree.join("deep"), 0o755);
    // Two files and the directory `er`.
    assert_eq!(remaining(&sent, "Permission denied"), 3, "{}", sent.said());
    assert_eq!(sent.file("tree/deep/none")["removed"], false);
    assert!(!tree.join("small").exists() && !tree.join("deep/er/large").exists());
    assert!(tree.join("deep/er").is_dir() && setting.inbox.join("tree/deep/again").exists());
}

#[test]
fn a_source_named_by_a_link_stays() {
    let setting = Setting::new();
    let tree = setting.mixed_tree();
    let link = setting.path("named");
    symlink(&tree, &link).expect("a link");
    let sent = setting.move_to(&setting.receiver, &link, &[], 10);
    assert_eq!(remaining(&sent, "named by a symbolic link"), 9);
    assert!(tree.join("small").exists() && link.is_symlink());
}

#[test]
fn a_mount_point_stays() {
    let setting = Setting::new();
    let tree = setting.mixed_tree();
    let Some(_mount) = Mount::tmpfs(&tree.join("empty"), 1) else {
        return skip("a tmpfs cannot be mounted here (it needs root)");
    };
    fs::write(tree.join("empty/file"), "on another volume").expect("a file");
    let sent = setting.move_to(&setting.receiver, &tree, &[], 10);
    assert_eq!(remaining(&sent, "busy"), 1, "{}", sent.said());
    assert!(tree.join("empty").is_dir() && !tree.join("empty/file").exists());
    assert!(!tree.join("small").exists());
}

#[test]
fn a_move_onto_names_that_are_one_loses_none() {
    let setting = Setting::new();
    let Some(_mount) = Mount::ntfs_in_one_case(&setting.path("image"), &setting.inbox) else {
        return skip("an NTFS cannot be mounted here (it needs root and ntfs-3g)");
    };
    let tree = setting.scratch.dir("from").join("tree");
    let names = ["file", "FILE", "sub/x", "Sub/x"];
    for name in names {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, name).expect("a file");
    }
    let sent = setting.move_to(&setting.receiver, &tree, &["--exists", "replace"], 5);
    assert_eq!(sent.event("finished")["failed"], 2, "{}", sent.said());
    for name in names {
        let there = [&tree, &setting.inbox.join("tree")].map(|top| fs::read_to_string(top.join(name)).ok());
        assert!(there.contains(&Some(name.to_owned())), "{name} is lost: {}", sent.said());
    }
}

#[test]
fn an_interrupted_move_removes_nothing() {
    let setting = Setting::new();
    let tree = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("small"), "small").expect("a file");
    random_file(&tree.join("large"), 8 << 20, 83);
    let (mut receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let slow = LinkOptions { rate_bytes_per_s: Some(SLOW_BYTES_PER_S), ..Default::default() };
    let link = UdpLink::start(listening.address, &slow);
    let ticket = redirect(&listening.ticket, listening.address, link.addr);
    let sender = setting.sender.start_send([MOVE, "--to", &ticket, plain(&tree)]);
    receiver.wait_for("file");
    receiver.signal(rustix::process::Signal::INT);
    let sent = sender.end().expect(9);
    assert_eq!(sent.file("tree/small")["removed"], false);
    assert!(tree.join("small").exists() && tree.join("large").exists());
}
