//! The trees of the end-to-end tests hold what they should, and the comparison sees every difference.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::Scratch;
use crate::support::host::{has, skip};
use crate::support::tree::{assert_same, create, create_text, differences, set_mode, set_mtime};

/// A copy by the system's own tool.
fn copy(source: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--sparse=always").args([source, to]).status();
    assert!(status.expect("cp starts").success());
}

#[test]
fn the_same_seed_makes_the_same_contents_and_a_copy_is_the_same() {
    let scratch = Scratch::new();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    create(&one, 5);
    copy(&one, &two);
    assert_same(&one, &two);

    let (third, other) = (scratch.path().join("third"), scratch.path().join("other"));
    create(&third, 5);
    create(&other, 6);
    let name = "sizes/262145";
    let read = |root: &Path| fs::read(root.join(name)).expect("a file of the tree");
    assert_eq!(read(&one), read(&third));
    assert_ne!(read(&one), read(&other));
}

#[test]
fn every_difference_is_seen() {
    let scratch = Scratch::new();
    let source = scratch.path().join("source");
    create_text(&source, 7);
    type Change = fn(&Path);
    let changes: [(&str, Change); 10] = [
        ("missing", |r| fs::remove_file(r.join("sizes/1")).expect("removed")),
        ("not in the source", |r| fs::write(r.join("extra"), b"").expect("written")),
        ("sizes/262144", |r| {
            let path = r.join("sizes/262144");
            let before = fs::metadata(&path).expect("there");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.write_all_at(b"?!", 262_142).expect("written");
            set_mtime(&path, before.mtime(), before.mtime_nsec());
        }),
        ("modes/640", |r| set_mode(&r.join("modes/640"), 0o644)),
        ("times/ns:", |r| set_mtime(&r.join("times/ns"), 1_600_000_000, 123_456_788)),
        ("times/ns.d:", |r| set_mtime(&r.join("times/ns.d"), 1_600_000_000, 0)),
        ("times/ns.link", |r| set_mtime(&r.join("times/ns.link"), 1_600_000_001, 123_456_789)),
        ("links/up", |r| {
            fs::remove_file(r.join("links/up")).expect("removed");
            symlink("elsewhere", r.join("links/up")).expect("linked");
        }),
        ("empty/inner", |r| {
            fs::remove_dir(r.join("empty/inner")).expect("removed");
            fs::write(r.join("empty/inner"), b"").expect("written");
        }),
        ("read-only:", |r| set_mode(&r.join("read-only"), 0o755)),
    ];
    for (n, (word, change)) in changes.into_iter().enumerate() {
        let other = scratch.path().join(n.to_string());
        copy(&source, &other);
        change(&other);
        let seen = differences(&source, &other);
        assert!(seen.contains(word), "{word}: {seen}");
    }
}

#[test]
fn a_filled_hole_is_seen() {
    let scratch = Scratch::new();
    let (source, other) = (scratch.path().join("source"), scratch.path().join("other"));
    create_text(&source, 8);
    let meta = fs::metadata(source.join("hole")).expect("there");
    if meta.blocks() * 512 + 1_000_000 > meta.len() {
        return skip("the temporary directory keeps no holes");
    }
    copy(&source, &other);
    let len = usize::try_from(meta.len()).expect("some MiB");
    fs::write(other.join("hole"), vec![0; len]).expect("written");
    set_mtime(&other.join("hole"), meta.mtime(), meta.mtime_nsec());
    assert!(differences(&source, &other).contains("hole: 0 bytes allocated became"));
}

#[test]
fn the_text_tree_has_names_that_b3sum_reads_back() {
    let scratch = Scratch::new();
    let root = scratch.path().join("tree");
    create_text(&root, 9);
    if !has("b3sum") {
        return;
    }
    let names = fs::read_dir(root.join("names")).expect("there").map(|e| e.expect("an entry"));
    let files: Vec<_> =
        names.filter(|e| e.file_type().expect("a type").is_file()).map(|e| e.file_name()).collect();
    let run = |args: &[&str], files: &[std::ffi::OsString]| {
        Command::new("b3sum")
            .args(args)
            .arg("--")
            .args(files)
            .current_dir(root.join("names"))
            .output()
            .expect("b3sum")
    };
    let sums = run(&[], &files);
    fs::write(scratch.path().join("sums"), &sums.stdout).expect("written");
    let check = run(&["--check"], &[scratch.path().join("sums").into_os_string()]);
    assert!(check.status.success(), "{}", check.stderr.escape_ascii());
}
