//! Which of the sources is sent: patterns, lists, sizes, file systems, and the contents of a directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::host::{has, skip};
use crate::support::mount::Mount;
use crate::support::process::Ended;
use crate::support::setting::Setting;

/// Files of `tree`; those in capitals match no pattern below.
const FILES: [&str; 14] = [
    "A.c",
    "a.o",
    "KEEP.o",
    "build/out",
    "lib/build/OUT",
    "lib/B.c",
    "lib/b.o",
    "lib/deep/C.c",
    "lib/deep/c.tmp",
    "docs/D.md",
    "docs/d.tmp",
    "docs/secret/key",
    "cache/x/y",
    "E with space",
];

impl Setting {
    /// `tree` with [`FILES`].
    fn tree_of_names(&self) -> PathBuf {
        let tree = self.scratch.dir("from").join("tree");
        for name in FILES {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, name).expect("a file");
        }
        tree
    }

    /// Sends `source` to the inbox, with a receiver in the same process.
    fn select(&self, source: &Path, args: &[&str]) -> Ended {
        let to = format!("dir:{}", self.inbox.display());
        let source = source.to_str().expect("a plain path");
        self.sender.send([&["--to", &to, source][..], args].concat())
    }
}

/// The files below `top`.
fn files(top: &Path) -> BTreeSet<String> {
    fn find(top: &Path, dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with(".git") {
                find(top, &path, found);
            } else if path.is_file() {
                let below = path.strip_prefix(top).expect("it is below");
                found.insert(below.to_str().expect("a plain name").to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    find(top, top, &mut found);
    found
}

/// The names with capitals.
fn capitals() -> BTreeSet<String> {
    let has_capital = |name: &&&str| name.chars().any(char::is_uppercase);
    FILES.iter().filter(has_capital).map(|name| (*name).to_owned()).collect()
}

#[test]
fn patterns_leave_out_what_they_match_and_the_summary_counts_it() {
    let setting = Setting::new();
    let tree = setting.tree_of_names();
    let list = setting.path("patterns");
    fs::write(&list, "# a comment\n*.o\n/build/\n\n*.tmp\n").expect("a file");
    let list = list.to_str().expect("a plain path");
    let args =
        ["--exclude-from", list, "--exclude", "secret", "--exclude", "cache/**", "--include", "KEEP.o"];
    let ended = setting.select(&tree, &args).expect(0);
    assert_eq!(files(&setting.inbox.join("tree")), capitals());
    // Two `.o`, two `.tmp`, `build`, `secret`, and `x` in `cache`.
    assert_eq!(ended.event("finished")["left_out"], 7, "{}", ended.said());
    assert!(setting.inbox.join("tree/cache").is_dir() && !setting.inbox.join("tree/build").exists());
    // Without a filter, nothing is said of it.
    let whole = setting.select(&tree, &[]).expect(0);
    assert!(whole.event("finished").get("left_out").is_none(), "{}", whole.said());
    assert_eq!(files(&setting.inbox.join("tree")).len(), FILES.len());
}

#[test]
fn files_with_patterns_are_honoured_as_git_does() {
    if !has("git") {
        return;
    }
    let setting = Setting::new();
    let tree = setting.tree_of_names();
    fs::write(tree.join(".gitignore"), "*.o\n/build/\n!KEEP.o\ncache\n").expect("a file");
    fs::write(tree.join("lib/.gitignore"), "!b.o\n*.tmp\ndeep/C.*\n").expect("a file");
    fs::write(tree.join("docs/.gitignore"), "secret/\n/d.tmp\n").expect("a file");
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&tree).args(args).output().expect("git runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("plain names")
    };
    git(&["init", "--quiet"]);
    let wanted: BTreeSet<_> =
        git(&["ls-files", "--others", "--exclude-standard"]).lines().map(str::to_owned).collect();
    assert!(wanted.contains("lib/b.o") && !wanted.contains("lib/deep/C.c"), "{wanted:?}");
    setting.select(&tree, &["--ignore-files", "--exclude", ".git"]).expect(0);
    assert_eq!(files(&setting.inbox.join("tree")), wanted);
    // A file of towline's own is stronger, and the flags are stronger than both.
    fs::write(tree.join("lib/.towlineignore"), "b.o\n!C.c\n").expect("a file");
    fs::remove_dir_all(setting.inbox.join("tree")).expect("it is there");
    setting.select(&tree, &["--ignore-files", "--exclude", ".git", "--exclude", "D.md"]).expect(0);
    let there = files(&setting.inbox.join("tree"));
    assert!(!there.contains("lib/b.o") && there.contains("lib/deep/C.c") && !there.contains("docs/D.md"));
}

#[test]
fn rsync_leaves_out_the_same() {
    if !has("rsync") {
        return;
    }
    let setting = Setting::new();
    let tree = setting.tree_of_names();
    for patterns in [&["*.o", "*.tmp"][..], &["/build/", "secret"], &["/lib/deep", "D*"], &["**/build/OUT"]] {
        let args: Vec<_> = patterns.iter().flat_map(|pattern| ["--exclude", pattern]).collect();
        let theirs = setting.scratch.dir("theirs");
        let mut rsync = Command::new("rsync");
        // Their patterns start at the top of the transfer, so the directory itself is not part of it.
        let status = rsync.arg("-r").args(&args).arg(format!("{}/", tree.display())).arg(&theirs).status();
        assert!(status.is_ok_and(|status| status.success()));
        setting.select(&tree, &args).expect(0);
        assert_eq!(files(&setting.inbox.join("tree")), files(&theirs), "{patterns:?}");
        fs::remove_dir_all(&theirs).expect("it is there");
        fs::remove_dir_all(setting.inbox.join("tree")).expect("it is there");
    }
}

#[test]
fn a_list_names_what_is_sent() {
    let setting = Setting::new();
    let tree = setting.tree_of_names();
    let list = setting.path("list");
    fs::write(&list, "./lib/deep/\nA.c\n\nlib/B.c\nnone\n").expect("a file");
    let wanted: BTreeSet<_> = ["A.c", "lib/B.c", "lib/deep/C.c", "lib/deep/c.tmp"].map(str::to_owned).into();
    let ended = setting.select(&tree, &["--files-from", list.to_str().expect("a plain path")]).expect(7);
    assert!(ended.said().contains("tree/none: it is in the list of files"), "{}", ended.said());
    assert_eq!(files(&setting.inbox.join("tree")), wanted);
    assert!(!setting.inbox.join("tree/docs").exists());

    // From standard input, with NUL.
    fs::remove_dir_all(setting.inbox.join("tree")).expect("it is there");
    let to = format!("dir:{}", setting.inbox.display());
    let mut command = setting.sender.command(["send", "--quiet", "-0", "--files-from", "-", "--to", &to]);
    let mut sender = command.arg(&tree).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = sender.stdin.take().expect("a pipe");
    input.write_all(b"E with space\0docs/secret\0").expect("it reads");
    drop(input);
    assert!(sender.wait().is_ok_and(|status| status.success()));
    let wanted: BTreeSet<_> = ["E with space", "docs/secret/key"].map(str::to_owned).into();
    assert_eq!(files(&setting.inbox.join("tree")), wanted);
}

#[test]
fn the_contents_of_a_directory_go_without_it() {
    let setting = Setting::new();
    let tree = setting.tree_of_names();
    fs::create_dir(tree.join("empty")).expect("a directory");
    let all: BTreeSet<_> = FILES.map(str::to_owned).into();
    for (source, args) in [(tree.join(""), &[][..]), (tree.clone(), &["--contents"])] {
        setting.select(&source, args).expect(0);
        assert_eq!(files(&setting.inbox), all);
        assert!(setting.inbox.join("empty").is_dir() && !setting.inbox.join("tree").exists());
        fs::remove_dir_all(&setting.inbox).expect("it is there");
    }
    // Patterns and lists are relative to it, and a message has its name.
    let list = setting.path("list");
    fs::write(&list, "lib\nnone\n").expect("a file");
    let args = ["--exclude", "/lib/build", "--files-from", list.to_str().expect("a plain path")];
    let ended = setting.select(&tree.join(""), &args).expect(7);
    assert!(ended.said().contains("tree/none: it is in the list"), "{}", ended.said());
    let wanted = ["lib/B.c", "lib/b.o", "lib/deep/C.c", "lib/deep/c.tmp"];
    assert_eq!(files(&setting.inbox), wanted.map(str::to_owned).into());
    // A move leaves the directory, which was not sent.
    setting.select(&tree.join(""), &["--remove-source"]).expect(10);
    assert!(tree.is_dir() && !tree.join("docs").exists());
}

#[test]
fn sizes_and_file_systems_limit_what_is_sent() {
    let setting = Setting::new();
    let tree = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(tree.join("other")).expect("a directory");
    for (name, size) in [("small", 10), ("middle", 5000), ("large", 2 << 20)] {
        File::create(tree.join(name)).and_then(|file| file.set_len(size)).expect("a file");
    }
    let ended = setting.select(&tree, &["--min-size", "11", "--max-size", "1M"]).expect(0);
    assert_eq!(files(&setting.inbox.join("tree")), ["middle"].map(str::to_owned).into());
    assert_eq!(ended.event("finished")["left_out"], 2);
    let Some(_mount) = Mount::tmpfs(&tree.join("other"), 1) else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    fs::write(tree.join("other/file"), "x").expect("a file");
    setting.select(&tree, &["--one-file-system"]).expect(0);
    assert!(setting.inbox.join("tree/other").is_dir() && !setting.inbox.join("tree/other/file").exists());
    setting.select(&tree, &[]).expect(0);
    assert!(setting.inbox.join("tree/other/file").exists());
}
