//! `receive --atomic`: a set is there as a whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::host::{bound_by_permissions, skip};
use crate::support::mount::Mount;
use crate::support::process::{Ended, Machine};
use crate::support::setting::Setting;
use crate::support::tree::{self, set_mode};

/// Files of a set, unless it needs more.
const FILES: usize = 60;

impl Setting {
    /// Files in ten directories.
    fn set(&self, files: usize) -> PathBuf {
        let set = self.scratch.dir("from").join("set");
        for number in 0..files {
            let dir = set.join(format!("d{}", number % 10));
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(format!("f{number}")), number.to_string()).expect("a file");
        }
        set
    }

    fn send_atomic(&self, receiver: &Machine, source: &Path, args: &[&str], more: &[&str]) -> [Ended; 2] {
        let (receiving, listening) = receiver.listen_receive(&self.inbox, &[&["--atomic"], args].concat());
        let source = source.to_str().expect("a plain path");
        let first = ["--to", &listening.ticket, source, "--retry", "0", "--timeout", "5s"];
        let sent = self.sender.send([&first[..], more].concat());
        [sent, receiving.end()]
    }

    /// The number of files of the set under their final names.
    fn shown(&self) -> usize {
        fn files(dir: &Path) -> usize {
            let Ok(entries) = fs::read_dir(dir) else { return 0 };
            let paths = entries.map(|entry| entry.expect("an entry").path());
            let count = |path: PathBuf| if path.is_dir() { files(&path) } else { 1 };
            paths.filter(|path| !path.ends_with(".towline")).map(count).sum()
        }
        files(&self.inbox.join("set"))
    }

    /// Starts the program on the directory once more, for something else.
    fn start_again(&self) -> Ended {
        let other = self.scratch.path().join("other");
        fs::write(&other, "other").expect("a file");
        let to = format!("dir:{}", self.inbox.display());
        self.sender.send([other.as_os_str(), "--to".as_ref(), to.as_ref()])
    }
}

fn can_trace() -> bool {
    Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success())
}

#[test]
fn a_set_is_staged_and_then_shown() {
    let setting = Setting::new();
    let set = setting.set(FILES);
    let [sent, received] = setting.send_atomic(&setting.receiver, &set, &[], &[]).map(|side| side.expect(0));
    for side in [&sent, &received] {
        assert_eq!(side.file("set/d1/f1")["outcome"], "staged");
        let finished = side.event("finished");
        assert_eq!((&finished["files"], &finished["synced"]), (&FILES.into(), &true.into()), "{finished}");
    }
    tree::assert_same(&set, &setting.inbox.join("set"));
    assert!(!setting.inbox.join(".towline").exists());
}

/// The receiver is killed at this rename.
fn killed_between_the_names(files: usize, rename: usize) {
    if !can_trace() {
        return skip("strace is not installed, or may not trace");
    }
    let setting = Setting::new();
    let set = setting.set(files);
    let killed = Machine::new(setting.scratch.path().join("killed"))
        .injecting(&format!("inject=renameat2:signal=SIGKILL:when={rename}"));
    let [sent, received] = setting.send_atomic(&killed, &set, &[], &[]);
    sent.expect(9);
    assert_eq!(received.code, None, "it was not killed: {}", received.said());
    let shown = setting.shown();
    assert!((rename - 1..=rename).contains(&shown), "{shown} files after {rename} renames");
    let again = setting.start_again().expect(0);
    assert!(again.said().contains("completed an earlier transfer"), "{}", again.said());
    tree::assert_same(&set, &setting.inbox.join("set"));
    assert!(!setting.inbox.join(".towline").exists());
}

#[test]
fn killed_between_the_names_the_next_start_gives_the_rest() {
    killed_between_the_names(1000, 500);
}

#[test]
fn killed_between_the_names_at_the_first_one_the_next_start_gives_all() {
    killed_between_the_names(FILES, 1);
}

#[test]
fn killed_before_the_names_the_next_start_gives_none() {
    if !can_trace() {
        return skip("strace is not installed, or may not trace");
    }
    let setting = Setting::new();
    let set = setting.set(FILES);
    // The first sync of the log. Small files are synced with their whole file system.
    let home = setting.scratch.path().join("killed");
    Machine::new(home.clone()).start(["id", "--json"]).end().expect(0);
    let killed = Machine::new(home).injecting("inject=fsync:signal=SIGKILL:when=1");
    let [sent, received] = setting.send_atomic(&killed, &set, &[], &[]);
    sent.expect(9);
    assert_eq!(received.code, None, "it was not killed: {}", received.said());
    assert!(setting.inbox.join(".towline").exists());
    assert_eq!(setting.shown(), 0);
    let again = setting.start_again().expect(0);
    assert!(!again.said().contains("completed"), "{}", again.said());
    assert!(!setting.inbox.join("set").exists());
    assert!(!setting.inbox.join(".towline").exists());
}

/// No rename crosses file systems, so each has its staging, and one log is about all of them.
#[test]
fn a_set_on_two_file_systems_is_completed_or_leaves_nothing() {
    if !can_trace() {
        return skip("strace is not installed, or may not trace");
    }
    for (fault, is_shown) in
        [("renameat2:signal=SIGKILL:when=30", true), ("fsync:signal=SIGKILL:when=2", false)]
    {
        let setting = Setting::new();
        let set = setting.set(FILES);
        let inside = setting.inbox.join("set/d3");
        fs::create_dir_all(&inside).expect("a directory");
        let Some(mount) = Mount::tmpfs(&inside, 16) else {
            return skip("a small file system cannot be mounted (it needs root)");
        };
        let home = setting.scratch.path().join("killed");
        Machine::new(home.clone()).start(["id", "--json"]).end().expect(0);
        let killed = Machine::new(home).injecting(&format!("inject={fault}"));
        let [sent, received] = setting.send_atomic(&killed, &set, &[], &[]);
        sent.expect(9);
        assert_eq!(received.code, None, "it was not killed: {}", received.said());
        assert!(inside.join(".towline").exists(), "nothing was staged there");
        if is_shown {
            // Without the other file system, the set stays as it is.
            drop(mount);
            let shown = setting.shown();
            let stuck = setting.start_again().expect(6);
            assert!(stuck.said().contains("missing"), "{}", stuck.said());
            assert!(setting.inbox.join(".towline").exists() && setting.shown() >= shown);
            continue;
        }
        assert_eq!(setting.shown(), 0);
        setting.start_again().expect(0);
        assert_eq!(setting.shown(), 0);
        assert!(!inside.join(".towline").exists(), "staging is left there");
        assert!(!setting.inbox.join(".towline").exists());
        drop(mount);
    }
}

#[test]
fn a_set_on_two_file_systems_is_completed_after_a_kill() {
    if !can_trace() {
        return skip("strace is not installed, or may not trace");
    }
    let setting = Setting::new();
    let set = setting.set(FILES);
    let inside = setting.inbox.join("set/d3");
    fs::create_dir_all(&inside).expect("a directory");
    let Some(_mount) = Mount::tmpfs(&inside, 16) else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    let killed = Machine::new(setting.scratch.path().join("killed"))
        .injecting("inject=renameat2:signal=SIGKILL:when=3");
    let [sent, received] = setting.send_atomic(&killed, &set, &[], &[]);
    sent.expect(9);
    assert_eq!(received.code, None, "it was not killed: {}", received.said());
    setting.start_again().expect(0);
    assert_eq!(setting.shown(), FILES);
    assert!(!inside.join(".towline").exists() && !setting.inbox.join(".towline").exists());
}

#[test]
fn one_conflict_keeps_the_whole_set_away() {
    let setting = Setting::new();
    let set = setting.set(FILES);
    let taken = setting.inbox.join("set/d7/f57");
    fs::create_dir_all(taken.parent().expect("a directory")).expect("a directory");
    fs::write(&taken, "somebody's").expect("a file");
    for side in setting.send_atomic(&setting.receiver, &set, &[], &["--remove-source"]) {
        let side = side.expect(5);
        let error = side.event("error");
        assert_eq!((&error["reason"], &error["side"]), (&"target-exists".into(), &"receiver".into()));
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains("set/d7/f57") && message.contains("all or nothing"), "{message}");
    }
    assert_eq!(setting.shown(), 1);
    assert!(set.join("d1/f1").exists(), "a source was removed");
    for (policy, shown) in [("skip", FILES), ("rename", FILES + 1), ("replace", FILES + 1)] {
        for side in setting.send_atomic(&setting.receiver, &set, &["--exists", policy], &[]) {
            side.expect(0);
        }
        assert_eq!(setting.shown(), shown, "{policy}");
    }
    assert_eq!(fs::read_to_string(&taken).expect("a file"), "57");
}

/// Staged entries are not removed at the source before the set has its names [W-62].
#[test]
fn a_set_is_moved_as_a_whole() {
    let setting = Setting::new();
    let set = setting.set(FILES);
    if can_trace() {
        let killed = Machine::new(setting.scratch.path().join("killed"))
            .injecting("inject=renameat2:signal=SIGKILL:when=1");
        let [sent, _] = setting.send_atomic(&killed, &set, &[], &["--remove-source"]);
        sent.expect(9);
        assert!((0..FILES).all(|n| set.join(format!("d{}/f{n}", n % 10)).exists()), "a source was removed");
        fs::remove_dir_all(&setting.inbox).expect("the inbox");
    }
    let [sent, received] = setting.send_atomic(&setting.receiver, &set, &[], &["--remove-source"]);
    received.expect(0);
    let sent = sent.expect(0);
    assert_eq!(sent.file("set/d1/f1")["removed"], true);
    assert_eq!(setting.shown(), FILES);
    assert!(!set.exists());
}

#[test]
fn one_source_that_cannot_be_read_keeps_the_whole_set_away() {
    let setting = Setting::new();
    let set = setting.set(FILES);
    set_mode(&set.join("d7/f57"), 0);
    for side in bound_by_permissions(|| setting.send_atomic(&setting.receiver, &set, &[], &[])) {
        let side = side.expect(7);
        assert!(side.said().contains("all or nothing"), "{}", side.said());
    }
    assert_eq!(setting.shown(), 0);
}

#[test]
fn two_files_of_a_set_under_one_name_show_nothing() {
    let setting = Setting::new();
    let Some(_mount) = Mount::ntfs_in_one_case(&setting.path("image"), &setting.inbox) else {
        return skip("an NTFS cannot be mounted here (it needs root and ntfs-3g)");
    };
    let set = setting.scratch.dir("from").join("set");
    for name in ["file", "FILE"] {
        fs::create_dir_all(&set).expect("a directory");
        fs::write(set.join(name), name).expect("a file");
    }
    for side in setting.send_atomic(&setting.receiver, &set, &["--exists", "replace"], &[]) {
        let side = side.expect(5);
        assert!(side.said().contains("in another spelling"), "{}", side.said());
    }
    assert_eq!(setting.shown(), 0);
}
