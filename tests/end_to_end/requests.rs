//! What a sender asks of its receiver.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::process::Ended;
use crate::support::setting::Setting;
use crate::support::tree::{set_mode, set_mtime};

/// A second, long ago.
const THEN: i64 = 1_600_000_000;

impl Setting {
    /// A directory with one file, and the same at the receiver with other content of the same size.
    fn with_another(&self) -> PathBuf {
        let source = self.scratch.dir("tree");
        let there = self.inbox.join("tree");
        fs::create_dir(&there).expect("a directory");
        for (dir, content, time) in [(&source, "new", THEN), (&there, "old", THEN + 1)] {
            fs::write(dir.join("f"), content).expect("a file");
            set_mtime(&dir.join("f"), time, 0);
        }
        source
    }

    /// Sends with these flags to a receiver with those.
    fn ask(&self, source: &Path, sender: &[&str], receiver: &[&str]) -> [Ended; 2] {
        let (receiving, listening) = self.receiver.listen_receive(&self.inbox, receiver);
        let mut args = vec!["--to", &listening.ticket, source.to_str().expect("a plain path")];
        args.extend(sender);
        let sent = self.sender.send(args);
        [sent, receiving.end()]
    }
}

fn content(setting: &Setting) -> String {
    fs::read_to_string(setting.inbox.join("tree/f")).expect("the file")
}

/// Gives the file on both sides the same time.
fn at_the_same_time(setting: &Setting, source: &Path) {
    for dir in [source, &setting.inbox.join("tree")] {
        set_mtime(&dir.join("f"), THEN, 123_456_789);
    }
}

#[test]
fn a_request_within_what_the_receiver_allows_holds() {
    let setting = Setting::new();
    let source = setting.with_another();
    for (asked, allowed, code, then) in [
        ("refuse", "replace", 5, "old"),
        ("skip", "replace", 0, "old"),
        ("skip", "skip", 0, "old"),
        ("replace", "replace", 0, "new"),
    ] {
        for side in setting.ask(&source, &["--exists", asked], &["--exists", allowed]) {
            side.expect(code);
        }
        assert_eq!(content(&setting), then, "{asked} of {allowed}");
    }
}

/// [W-73]
#[test]
fn a_request_beyond_what_the_receiver_allows_changes_nothing() {
    let setting = Setting::new();
    let source = setting.with_another();
    fs::write(source.join("beside"), "new").expect("a file");
    for (asked, allowed) in [("skip", None), ("rename", Some("skip")), ("replace", Some("rename"))] {
        let allows = allowed.map(|allowed| ["--exists", allowed]);
        let receiver = allows.as_ref().map_or(&[][..], |allows| &allows[..]);
        for side in setting.ask(&source, &["--exists", asked], receiver) {
            let side = side.expect(5);
            let error = side.event("error");
            assert_eq!((&error["reason"], &error["side"]), (&"refused".into(), &"receiver".into()));
            let message = error["message"].as_str().expect("a text");
            assert!(message.contains(&format!("`towline receive --exists {asked}`")), "{message}");
            assert!(message.contains("towline peers set"), "{message}");
        }
        assert_eq!(content(&setting), "old");
        assert!(!setting.inbox.join("tree/beside").exists());
        assert!(!setting.inbox.join(".towline").exists());
    }
}

#[test]
fn a_request_to_a_directory_simply_holds() {
    let setting = Setting::new();
    let source = setting.with_another();
    let to = format!("dir:{}", setting.inbox());
    let source = source.to_str().expect("a plain path");
    setting.sender.send(["--to", &to, "--exists", "replace", source]).expect(0);
    assert_eq!(content(&setting), "new");
}

#[test]
fn a_file_of_the_same_size_and_time_is_compared_only_where_that_is_wanted() {
    let setting = Setting::new();
    let source = setting.with_another();
    at_the_same_time(&setting, &source);
    for side in setting.ask(&source, &[], &[]) {
        let side = side.expect(0);
        assert_eq!(
            (&side.file("tree/f")["outcome"], &side.file("tree/f")["blake3"].is_null()),
            (&"unchanged".into(), &true)
        );
        assert_eq!(side.event("finished")["unchanged"], 1);
    }
    assert_eq!(content(&setting), "old");
    let files = ["receipt", "sent", "received"].map(|name| setting.path(name));
    let [receipt, sent, received] = files.each_ref().map(|path| path.to_str().expect("a plain path"));
    let wishes: [(&[&str], &[&str]); 6] = [
        (&["--checksum"], &[]),
        (&[], &["-c"]),
        (&["--receipt", receipt], &[]),
        (&["--manifest", sent], &[]),
        (&[], &["--manifest", received]),
        (&[], &["--verify-disk"]),
    ];
    for (sender, receiver) in wishes {
        for side in setting.ask(&source, sender, receiver) {
            assert_eq!(side.expect(5).file("tree/f")["reason"], "target-exists", "{sender:?} {receiver:?}");
        }
    }
    assert_eq!(content(&setting), "old");
}

#[test]
fn a_move_compares_contents() {
    let setting = Setting::new();
    let source = setting.with_another();
    at_the_same_time(&setting, &source);
    let [sent, _] = setting.ask(&source, &["--remove-source"], &["--exists", "replace"]);
    assert_eq!(sent.expect(0).file("tree/f")["outcome"], "written");
    assert!(!source.join("f").exists());
    assert_eq!(content(&setting), "new");
}

#[test]
fn mode_follows_an_unchanged_file_that_may_be_replaced() {
    let setting = Setting::new();
    let source = setting.with_another();
    at_the_same_time(&setting, &source);
    set_mode(&source.join("f"), 0o600);
    for (outcome, count) in [("updated", 0), ("unchanged", 1)] {
        for side in setting.ask(&source, &[], &["--exists", "replace"]) {
            let side = side.expect(0);
            assert_eq!(side.file("tree/f")["outcome"], outcome);
            assert_eq!(side.event("finished")["unchanged"], count);
        }
    }
    assert_eq!(content(&setting), "old");
}

/// A tree at both sides of which everything differs in its own way.
fn differing(setting: &Setting) -> PathBuf {
    let source = setting.scratch.dir("tree");
    let there = setting.inbox.join("tree");
    for dir in [&source, &there] {
        fs::create_dir_all(dir.join("d")).expect("directories");
        fs::write(dir.join("same"), "same").expect("a file");
        set_mtime(&dir.join("same"), THEN, 0);
    }
    fs::write(source.join("other"), "new").expect("a file");
    fs::write(there.join("other"), "older").expect("a file");
    fs::write(source.join("mode"), "as it was").expect("a file");
    fs::write(there.join("mode"), "as it was").expect("a file");
    set_mode(&there.join("mode"), 0o600);
    fs::create_dir(source.join("d/new")).expect("a directory");
    fs::write(source.join("d/new/file"), "new").expect("a file");
    std::os::unix::fs::symlink("file", source.join("d/new/link")).expect("a link");
    for dir in [source.join("d"), source.clone()] {
        set_mtime(&dir, THEN, 0);
    }
    source
}

/// Names, sizes, modes and times of everything.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let meta = path.symlink_metadata().expect("there");
        found.push(format!("{path:?} {} {:?} {:?}", meta.len(), meta.permissions(), meta.modified()));
        if meta.is_dir() {
            found.extend(snapshot(&path));
        }
    }
    found.sort();
    found
}

/// The lines that a dry run with these flags writes to standard output.
fn listed(setting: &Setting, to: &str, source: &Path, flags: &[&str], code: i32) -> Vec<String> {
    let mut args = vec!["send", "--dry-run", "--to", to, source.to_str().expect("a plain path")];
    args.extend(flags);
    let output = setting.sender.command(args).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains("dry run, nothing was changed"), "{told}");
    let mut lines: Vec<_> =
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_dry_run_lists_what_would_happen_and_touches_nothing() {
    let setting = Setting::new();
    let source = differing(&setting);
    let new = ["create\ttree/d/new/", "create\ttree/d/new/file", "create\ttree/d/new/link"];
    let before = (snapshot(&source), snapshot(&setting.inbox));
    for (rule, code, more) in [
        ("refuse", 5, &["refuse\ttree/other"][..]),
        ("skip", 0, &["skip\ttree/mode", "skip\ttree/other", "skip\ttree/same"]),
        ("rename", 0, &["rename\ttree/other\ttree/other~1"]),
        ("replace", 0, &["replace\ttree/other", "update\ttree/", "update\ttree/d/", "update\ttree/mode"]),
    ] {
        let mut expected: Vec<_> = new.iter().chain(more).map(ToString::to_string).collect();
        expected.sort();
        let to = format!("dir:{}", setting.inbox());
        let flags = ["--exists", rule];
        assert_eq!(listed(&setting, &to, &source, &flags, code), expected, "{rule} to a directory");
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, &flags);
        assert_eq!(listed(&setting, &listening.ticket, &source, &[], code), expected, "{rule}");
        let received = receiver.end().expect(code);
        assert_eq!(received.event("finished")["dry_run"], true);
        assert_eq!(before, (snapshot(&source), snapshot(&setting.inbox)), "{rule}");
    }
}

#[test]
fn a_dry_run_makes_no_directory_and_leaves_nothing_behind() {
    let setting = Setting::new();
    let source = setting.with_another();
    let missing = setting.path("missing/deep");
    let to = format!("dir:{}", missing.to_str().expect("a plain path"));
    let files = ["manifest", "receipt"].map(|name| setting.path(name));
    let [manifest, receipt] = files.each_ref().map(|path| path.to_str().expect("a plain path"));
    let flags = ["--manifest", manifest, "--receipt", receipt, "--remove-source"];
    assert_eq!(listed(&setting, &to, &source, &flags, 0), ["create\ttree/", "create\ttree/f"]);
    assert!(!setting.path("missing").exists() && source.join("f").exists());
    assert!(!files[0].exists() && !files[1].exists());
    let args = ["--dry-run", "--to", &to, source.to_str().expect("a plain path")];
    let ended = setting.sender.send(args).expect(0);
    let changes: Vec<_> = ended.events("change").map(|e| (e["change"].clone(), e["path"].clone())).collect();
    assert_eq!(changes, [("create".into(), "tree".into()), ("create".into(), "tree/f".into())]);
    assert_eq!(
        (&ended.event("finished")["dry_run"], &ended.event("finished")["files"]),
        (&true.into(), &1.into())
    );
}
