//! Existing files: the same content is never a conflict, whoever wrote it and under whatever name.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::support::process::{Ended, Towline};
use crate::support::random::Random;
use crate::support::setting::Setting;
use crate::support::tree;

impl Setting {
    fn start(&self, source: &Path, policy: &[&str]) -> [Towline; 2] {
        let (receiver, listening) = self.receiver.listen_receive(&self.inbox, policy);
        let source = source.to_str().expect("a plain path");
        [self.sender.start_send(["--to", &listening.ticket, source]), receiver]
    }

    fn send_over(&self, source: &Path, policy: &[&str]) -> [Ended; 2] {
        self.start(source, policy).map(|side| side.end().expect(0))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.inbox).expect("the inbox");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// T14: the same tree at the same time, twice.
#[test]
fn t14_the_same_tree_sent_twice_at_once_is_no_conflict() {
    let setting = Setting::new();
    let source = setting.scratch.dir("tree");
    let mut random = Random::new(61);
    for dir in 0..20 {
        let dir = source.join(format!("d{dir}"));
        fs::create_dir(&dir).expect("a directory");
        for file in 0..100 {
            fs::write(dir.join(format!("f{file}")), random.bytes(700)).expect("a file");
        }
        symlink("f1", dir.join("link")).expect("a link");
        fs::write(dir.join("empty"), b"").expect("a file");
        fs::write(dir.join("large"), random.bytes(300_000)).expect("a file");
    }
    let sides: Vec<_> = [(); 2].into_iter().flat_map(|()| setting.start(&source, &[])).collect();
    for side in sides {
        let ended = side.end().expect(0);
        let summary = ended.event("finished");
        let count = |key: &str| summary[key].as_u64().expect("a number");
        assert_eq!(count("files") + count("links") + count("identical"), 20 * 103, "{summary}");
        assert_eq!(count("failed"), 0);
    }
    tree::assert_same(&source, &setting.inbox.join("tree"));
    assert_eq!(setting.names(), ["tree"]);
}

/// T15: under `rename` the same bytes are there already, if under another name.
#[test]
fn t15_renamed_once_is_enough() {
    let setting = Setting::new();
    for (size, name) in [(5, "f"), (0, "empty"), (300_000, "large")] {
        let source = setting.path(name);
        fs::write(&source, Random::new(62).bytes(size)).expect("a file");
        fs::write(setting.inbox.join(name), b"another file").expect("a file");
        let renamed = format!("{name}~1");
        for round in 0..4 {
            for side in setting.send_over(&source, &["--exists", "rename"]) {
                let file = side.file(name);
                assert_eq!(file["outcome"], if round == 0 { "written" } else { "identical" });
                assert_eq!(file["renamed"], *renamed);
            }
        }
        assert_eq!(fs::read(setting.inbox.join(&renamed)).expect("there"), fs::read(source).expect("there"));
    }
    assert_eq!(setting.names(), ["empty", "empty~1", "f", "f~1", "large", "large~1"]);
}

/// T15: another version gets another name, and each is found again.
#[test]
fn t15_each_version_keeps_its_name() {
    let setting = Setting::new();
    let source = setting.path("f");
    for round in 0..2 {
        for (version, name) in [("one", None), ("two", Some("f~1")), ("six", Some("f~2"))] {
            fs::write(&source, version).expect("a file");
            for side in setting.send_over(&source, &["--exists", "rename"]) {
                assert_eq!(side.file("f")["outcome"], if round == 0 { "written" } else { "identical" });
                assert_eq!(side.file("f")["renamed"].as_str(), name);
            }
        }
    }
    assert_eq!(setting.names(), ["f", "f~1", "f~2"]);
}

/// T16: under `replace` mode and time follow.
#[test]
fn t16_replace_updates_mode_and_time_of_the_same_content() {
    let setting = Setting::new();
    let source = setting.scratch.dir("d");
    for (name, bytes) in [("a", &b"content"[..]), ("empty", b""), ("same", b"as it was")] {
        fs::write(source.join(name), bytes).expect("a file");
    }
    symlink("a", source.join("link")).expect("a link");
    tree::set_mtime(&source.join("same"), 1_600_000_000, 5);
    setting.send_over(&source, &[]);
    let changed = ["a", "empty", "link"];
    for (number, name) in changed.iter().enumerate() {
        let path = source.join(name);
        if !path.is_symlink() {
            tree::set_mode(&path, 0o600);
        }
        tree::set_mtime(&path, 1_600_000_000 + i64::try_from(number).expect("few"), 5);
    }
    // Under the other rules what is there stays as it is.
    for policy in ["refuse", "rename"] {
        for side in setting.send_over(&source, &["--exists", policy]) {
            assert_eq!(side.event("finished")["identical"], 3);
            assert_eq!(side.event("finished")["unchanged"], 1);
            assert_eq!(side.event("finished")["updated"], 0);
        }
    }
    assert_ne!(fs::metadata(setting.inbox.join("d/a")).expect("there").mode() & 0o777, 0o600);
    for (outcome, updated) in [("updated", 3), ("identical", 0)] {
        for side in setting.send_over(&source, &["--exists", "replace", "--checksum"]) {
            for name in changed {
                assert_eq!(side.file(&format!("d/{name}"))["outcome"], outcome, "{name}");
            }
            assert_eq!(side.file("d/same")["outcome"], "identical");
            assert_eq!(side.event("finished")["updated"], updated);
            assert_eq!(side.event("finished")["identical"], 4 - updated);
            assert_eq!(side.event("finished")["bytes"], 0);
        }
        tree::assert_same(&source, &setting.inbox.join("d"));
    }
}
