//! `send --delete`: what is not in the source goes at the receiver, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Seed;
use crate::support::host::{bound_by_permissions, cases, has};
use crate::support::process::Ended;
use crate::support::random::Random;
use crate::support::setting::Setting;
use crate::support::tree::set_mode;

impl Setting {
    /// A source `tree`, and what is at the receiver under that name and beside it.
    fn trees(&self, source: &[&str], there: &[&str]) -> PathBuf {
        let tree = self.scratch.dir("from").join("tree");
        fs::create_dir_all(&tree).expect("a directory");
        fs::create_dir_all(self.inbox.join("tree")).expect("a directory");
        fill(&tree, source);
        fill(&self.inbox, there);
        tree
    }

    fn delete(&self, source: &Path, flags: &[&str], code: i32) -> Ended {
        let to = format!("dir:{}", self.inbox());
        let mut args = vec!["--delete", "--exists", "replace", "--to", &to, plain(source)];
        args.extend(flags);
        self.sender.send(args).expect(code)
    }

    /// What is in the inbox.
    fn left(&self) -> Vec<String> {
        names(&self.inbox).into_iter().collect()
    }
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Makes files, and directories where a name ends with a slash.
fn fill(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        match name.ends_with('/') {
            true => fs::create_dir_all(&path).expect("a directory"),
            false => fs::write(&path, name).expect("a file"),
        }
    }
}

/// All names below `dir`; those of directories end with a slash.
fn names(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a type").is_dir() {
            found.extend(names(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
            found.insert(format!("{name}/"));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn what_is_not_in_the_source_goes_and_nothing_else() {
    let setting = Setting::new();
    let there = [
        "beside",
        "other/x",
        "tree/a",
        "tree/old",
        "tree/d/old",
        "tree/gone/x/y",
        "tree/gone/z",
        "tree/empty/",
    ];
    let source = setting.trees(&["a", "d/b"], &there);
    symlink(setting.path("outside"), setting.inbox.join("tree/link")).expect("a link");
    fill(&setting.path("outside"), &["kept"]);
    let ended = setting.delete(&source, &[], 0);
    assert_eq!(ended.event("finished")["deleted"], 8);
    let left = ["beside", "other/", "other/x", "tree/", "tree/a", "tree/d/", "tree/d/b"];
    assert_eq!(setting.left(), left);
    assert!(setting.path("outside/kept").exists());
    // The directories have the time of the source all the same.
    for dir in ["", "d"] {
        let time = |top: &Path| fs::metadata(top.join(dir)).and_then(|meta| meta.modified()).expect("a time");
        assert_eq!(time(&source), time(&setting.inbox.join("tree")), "{dir:?}");
    }
    assert_eq!(setting.delete(&source, &[], 0).event("finished")["deleted"], 0);
}

/// [W-77]
#[test]
fn what_a_filter_leaves_out_stays() {
    let setting = Setting::new();
    let there = [
        "tree/x.o",
        "tree/old.o",
        "tree/build/a",
        "tree/d/deep/y.o",
        "tree/d/deep/y",
        "tree/gone/z.o",
        "tree/old",
    ];
    let source = setting.trees(&["a", "x.o", "big", "ignored", ".gitignore"], &there);
    fs::write(source.join(".gitignore"), "ignored\n").expect("a file");
    fs::write(source.join("big"), [0; 100]).expect("a file");
    fill(&setting.inbox, &["tree/big", "tree/ignored"]);
    let flags = ["--exclude", "*.o", "--exclude", "/build/", "--max-size", "50", "--ignore-files"];
    setting.delete(&source, &flags, 0);
    let left = [
        "tree/",
        "tree/.gitignore",
        "tree/a",
        "tree/big",
        "tree/build/",
        "tree/build/a",
        "tree/d/",
        "tree/d/deep/",
        "tree/d/deep/y.o",
        "tree/gone/",
        "tree/gone/z.o",
        "tree/ignored",
        "tree/old.o",
        "tree/x.o",
    ];
    assert_eq!(setting.left(), left);
}

/// [W-78]
/// A second name stands in for a file system that takes both spellings for one: there, it may be the file just delivered.
#[test]
fn what_may_be_another_spelling_stays() {
    let setting = Setting::new();
    let source = setting.trees(&["README"], &["tree/old", "tree/dir/more", "tree/gone"]);
    fs::hard_link(setting.inbox.join("tree/old"), setting.inbox.join("tree/OLD")).expect("a hard link");
    setting.delete(&source, &[], 0);
    assert_eq!(setting.left(), ["tree/", "tree/OLD", "tree/README", "tree/old"]);
}

#[test]
fn a_source_that_cannot_be_read_deletes_nothing() {
    bound_by_permissions(|| {
        let setting = Setting::new();
        let source = setting.trees(&["a", "closed/b"], &["tree/old", "tree/closed/b"]);
        set_mode(&source.join("closed"), 0o000);
        let ended = setting.delete(&source, &[], 7);
        set_mode(&source.join("closed"), 0o755);
        assert_eq!(ended.event("finished")["deleted"], 0);
        assert!(
            setting.left().contains(&"tree/old".to_owned())
                && setting.left().contains(&"tree/closed/b".to_owned())
        );
    });
}

#[test]
fn more_than_may_be_deleted_is_nothing_at_all() {
    let setting = Setting::new();
    let extras: Vec<_> = (0..11).map(|number| format!("tree/old{number}")).collect();
    let extras: Vec<_> = extras.iter().map(String::as_str).collect();
    let source = setting.trees(&["a"], &extras);
    let ended = setting.delete(&source, &["--max-delete", "10"], 10);
    assert_eq!(
        (&ended.event("finished")["deleted"], &ended.event("finished")["gravest"]),
        (&0.into(), &"extras-remain".into())
    );
    assert_eq!(setting.left().len(), 13);
    let dry = setting.delete(&source, &["--max-delete", "10", "--dry-run"], 10);
    assert!(dry.events("change").all(|change| change["change"] != "delete"));
    setting.delete(&source, &["--max-delete", "11"], 0);
    assert_eq!(setting.left(), ["tree/", "tree/a"]);
}

/// [W-76]
#[test]
fn a_receiver_deletes_only_if_it_has_allowed_that() {
    let setting = Setting::new();
    let source = setting.trees(&["a"], &["tree/old"]);
    for (flags, code) in [(&[][..], 5), (&["--allow-delete"][..], 0)] {
        let (receiver, listening) = setting.receiver.listen_receive(&setting.inbox, flags);
        let sent = setting.sender.send(["--delete", "--to", &listening.ticket, plain(&source)]).expect(code);
        receiver.end().expect(code);
        assert_eq!(setting.inbox.join("tree/old").exists(), code > 0);
        assert_eq!(setting.inbox.join("tree/a").exists(), code == 0);
        if code > 0 {
            let message = sent.event("error")["message"].as_str().expect("a text").to_owned();
            assert!(message.contains("--allow-delete") && message.contains("--may send,delete"), "{message}");
        }
    }
}

#[test]
fn what_would_be_deleted_is_moved_to_a_directory_of_its_own() {
    let setting = Setting::new();
    let source = setting.trees(&["a"], &["tree/old", "tree/gone/x"]);
    let flags = ["--backup-dir", "tree/backup/today"];
    setting.delete(&source, &flags, 0);
    let left = [
        "tree/",
        "tree/a",
        "tree/backup/",
        "tree/backup/today/",
        "tree/backup/today/tree/",
        "tree/backup/today/tree/gone/",
        "tree/backup/today/tree/gone/x",
        "tree/backup/today/tree/old",
    ];
    assert_eq!(setting.left(), left);
}

/// A tree of a few directories and files.
fn draw(random: &mut Random, dir: &Path, depth: usize) {
    fs::create_dir_all(dir).expect("a directory");
    for name in ["a", "b", "c.o", "d", "e"] {
        let path = dir.join(name);
        match random.next() % 6 {
            0 | 1 if depth > 0 => draw(random, &path, depth - 1),
            2 => symlink("nowhere", path).expect("a link"),
            3 | 4 => fs::write(path, [b'x'; 3]).expect("a file"),
            _ => {}
        }
    }
}

/// What rsync would delete, if it is here.
fn deleted_by_rsync(source: &Path, inbox: &Path) -> Option<BTreeSet<String>> {
    if !has("rsync") {
        return None;
    }
    let mut rsync = Command::new("rsync");
    rsync.args(["-rlptn", "--delete", "--itemize-changes", "--exclude", "*.o"]).arg(source).arg(inbox);
    let output = rsync.output().expect("rsync");
    let text = String::from_utf8(output.stdout).expect("text");
    Some(
        text.lines()
            .filter_map(|line| line.strip_prefix("*deleting"))
            .map(|path| path.trim().to_owned())
            .collect(),
    )
}

#[test]
fn a_dry_run_lists_what_is_then_deleted() {
    let seed = Seed::new(91);
    for case in 0..cases(4) {
        let setting = Setting::new();
        let mut random = Random::new(seed.value + case as u64);
        let source = setting.scratch.dir("from").join("tree");
        draw(&mut random, &source, 2);
        draw(&mut random, &setting.inbox.join("tree"), 2);
        let before = names(&setting.inbox);
        let flags = ["--exclude", "*.o"];
        let dry = setting.sender.send([
            "--delete",
            "--exists",
            "replace",
            "--dry-run",
            "--exclude",
            "*.o",
            "--to",
            &format!("dir:{}", setting.inbox()),
            plain(&source),
        ]);
        let listed: BTreeSet<_> = dry
            .events("change")
            .filter(|change| change["change"] == "delete")
            .map(|change| {
                let slash = if change["is_dir"] == true { "/" } else { "" };
                format!("{}{slash}", change["path"].as_str().expect("a path"))
            })
            .collect();
        assert_eq!(names(&setting.inbox), before);
        let by_rsync = deleted_by_rsync(&source, &setting.inbox);
        let to = format!("dir:{}", setting.inbox());
        let mut args = vec!["--delete", "--exists", "replace", "--to", &to, plain(&source)];
        args.extend(flags);
        setting.sender.send(args);
        let after = names(&setting.inbox);
        let gone: BTreeSet<_> = before.difference(&after).cloned().collect();
        // Of these, something else has the name now: the entry was replaced.
        let is_there =
            |name: &&String| fs::symlink_metadata(setting.inbox.join(name.trim_end_matches('/'))).is_err();
        let gone: BTreeSet<_> = gone.iter().filter(is_there).cloned().collect();
        assert_eq!(listed, gone, "case {case}");
        if let Some(by_rsync) = by_rsync {
            // rsync replaces directories by files, which towline refuses to do.
            let ours: BTreeSet<_> = listed.iter().cloned().collect();
            assert!(ours.is_subset(&by_rsync), "case {case}: {ours:?} and {by_rsync:?}");
        }
    }
}
