//! File systems that lack something: content arrives and is verified wherever writing and renaming work, and what is
//! not kept is reported.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::host::{bound_by_permissions, has, skip};
use crate::support::mount::Mount;
use crate::support::process::{Ended, Machine};
use crate::support::setting::{Setting, assert_only_partials};
use crate::support::tree::{self, set_mode};
use nix::libc;
use rustix::io::Errno;

impl Setting {
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
    let receiver = faults(setting.ready_receiver());
    let ended = setting.transfer(&receiver, &source, &[], 6);
    (setting, ended)
}

#[test]
fn t5_a_sync_that_fails_for_good_is_exit_6() {
    // The last two are what a server says that refuses a write when it is written back.
    for errno in [Errno::IO, Errno::NOSPC, Errno::ACCESS, Errno::PERM] {
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
        setting.transfer(&setting.ready_receiver(), &source, &["--exists", exists], 0);
        assert_eq!(dirs.each_ref().map(|dir| mode(dir)), modes, "{exists}");
        assert_eq!(fs::read(dirs[1].join("file")).expect("it came"), b"bytes");
    }
}

#[test]
fn fault_3_a_new_directory_keeps_what_it_got_from_a_setgid_parent() {
    let setting = Setting::new();
    let source = small_tree(&setting);
    set_mode(&setting.inbox, 0o2775);
    setting.transfer(&setting.ready_receiver(), &source, &[], 0);
    assert_eq!(mode(&setting.inbox.join("tree")), 0o2755);
    assert_eq!(mode(&setting.inbox.join("tree/sub")), 0o2755);
}

#[test]
fn fault_3_a_failed_transfer_leaves_no_directory_more_open_than_it_was() {
    let setting = Setting::new();
    let source = small_tree(&setting);
    let dirs = directories_that_are_there(&setting);
    let receiver = setting.ready_receiver().denying(libc::SYS_fsync, Errno::IO);
    setting.transfer(&receiver, &source, &[], 6);
    assert_eq!(dirs.each_ref().map(|dir| mode(dir)), [0o1700, 0o2555]);
}

/// One of everything: a directory that the umask takes bits from, an empty one, a small and a large file, a link.
fn whole_tree(setting: &Setting) -> PathBuf {
    let tree = setting.scratch.dir("tree");
    for dir in ["open", "empty"] {
        fs::create_dir(tree.join(dir)).expect("a directory");
    }
    set_mode(&tree.join("open"), 0o777);
    fs::write(tree.join("open/small"), b"bytes").expect("a file");
    tree::random_file(&tree.join("large"), (1 << 20) + 5, 71);
    symlink("open/small", tree.join("link")).expect("a link");
    tree
}

/// The bytes of all files of [`whole_tree`] are there, whatever else is.
#[track_caller]
fn assert_content(source: &Path, copy: &Path) {
    for name in ["open/small", "large"] {
        let there = fs::read(copy.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(there == fs::read(source.join(name)).expect("the source"), "{name} differs");
    }
    assert!(copy.join("empty").is_dir());
}

/// Both sides say once how many entries `aspect` was not kept of, and say nothing else.
#[track_caller]
fn assert_not_kept(ended: &[Ended; 2], aspect: &str, count: u64) {
    for side in ended {
        let warnings: Vec<_> = side.events("warning").filter(|w| w["reason"] == "not-kept").collect();
        assert_eq!(warnings.len(), 1, "{}", side.said());
        assert_eq!((&warnings[0]["not_kept"], &warnings[0]["count"]), (&aspect.into(), &count.into()));
        assert!(warnings[0]["path"].as_str().is_some_and(|path| !path.starts_with('/')), "{}", warnings[0]);
        let finished = side.event("finished");
        assert_eq!(finished["not_kept"], serde_json::json!({ aspect: count }));
        assert_eq!((&finished["failed"], &finished["gravest"]), (&0.into(), &"not-kept".into()));
        assert_eq!(finished["synced"], aspect != "sync");
    }
}

/// Sends [`whole_tree`] to a receiver with faults; both must end with `code` and the content be there.
#[track_caller]
fn send_tree_with(faults: impl FnOnce(Machine) -> Machine, code: i32) -> (Setting, [Ended; 2]) {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let receiver = faults(setting.ready_receiver());
    let ended = setting.transfer(&receiver, &source, &[], code);
    assert_content(&source, &setting.inbox.join("tree"));
    assert_no_staging(&setting.inbox);
    (setting, ended)
}

#[track_caller]
fn assert_no_staging(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        let is_staging = name == ".towline" || name.starts_with(".fuse_hidden");
        assert!(!is_staging, "left behind: {}", entry.path().display());
        if entry.file_type().expect("a type").is_dir() {
            assert_no_staging(&entry.path());
        }
    }
}

#[test]
fn t1_permissions_that_cannot_be_set_are_reported_once() {
    let (_setting, ended) = send_tree_with(|receiver| receiver.denying(libc::SYS_fchmod, Errno::PERM), 10);
    // The large file, which is made with fewer bits, and the directory; the others have theirs from the start.
    assert_not_kept(&ended, "mode", 2);
}

#[test]
fn t2_times_that_cannot_be_set_are_reported_once() {
    for errno in [Errno::PERM, Errno::NOSYS] {
        let (setting, ended) = send_tree_with(|receiver| receiver.denying(libc::SYS_utimensat, errno), 10);
        assert_not_kept(&ended, "time", 6);
        assert!(setting.inbox.join("tree/link").is_symlink());
    }
}

/// The same where only the attributes of what is there change.
#[test]
fn t2_attributes_of_identical_files_that_cannot_be_set_are_reported_once() {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    setting.transfer(&setting.ready_receiver(), &source, &[], 0);
    let receiver = setting.ready_receiver().denying(libc::SYS_utimensat, Errno::PERM);
    let ended = setting.transfer(&receiver, &source, &["--exists", "replace"], 10);
    for side in &ended {
        assert!(
            side.event("finished")["not_kept"]["time"].as_u64().is_some_and(|n| n >= 3),
            "{}",
            side.said()
        );
    }
}

/// [W-15]
#[test]
fn t3_links_that_the_file_system_cannot_hold_are_reported_once() {
    for errno in [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL] {
        let (setting, ended) = send_tree_with(|receiver| receiver.denying(libc::SYS_symlinkat, errno), 10);
        assert_not_kept(&ended, "link", 1);
        for side in &ended {
            assert_eq!(side.file("tree/link")["outcome"], "not-kept");
            assert_eq!(side.event("finished")["links"], 0);
        }
        assert!(!setting.inbox.join("tree/link").is_symlink());
    }
}

#[test]
fn t3_a_link_that_is_not_permitted_fails_alone() {
    let (_setting, ended) =
        send_tree_with(|receiver| receiver.denying(libc::SYS_symlinkat, Errno::ACCESS), 6);
    for side in ended {
        assert_eq!(side.file("tree/link")["reason"], "storage");
        assert_eq!(
            (&side.event("finished")["failed"], &side.event("finished")["files"]),
            (&1.into(), &2.into())
        );
    }
}

/// A failing disk is not the same as a disk that cannot store something.
#[test]
fn t3_a_link_on_a_disk_that_fails_ends_the_transfer() {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let receiver = setting.ready_receiver().denying(libc::SYS_symlinkat, Errno::IO);
    for side in setting.transfer(&receiver, &source, &[], 6) {
        assert!(side.said().contains("tree/link"), "{}", side.said());
    }
}

#[test]
fn t4_renameat2_may_be_forbidden() {
    for errno in [Errno::PERM, Errno::NOSYS, Errno::INVAL, Errno::OPNOTSUPP] {
        let (setting, _) = send_tree_with(|receiver| receiver.denying(libc::SYS_renameat2, errno), 0);
        assert!(setting.inbox.join("tree/link").is_symlink());
    }
}

/// Neither that call nor a link works, and still nothing that exists is replaced.
#[test]
fn t4_what_is_there_stays_without_renameat2_and_links() {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    fs::create_dir_all(setting.inbox.join("tree/open")).expect("directories");
    fs::write(setting.inbox.join("tree/open/small"), b"other").expect("a file");
    let receiver = setting.ready_receiver();
    let receiver = receiver.denying(libc::SYS_renameat2, Errno::PERM).denying(libc::SYS_linkat, Errno::IO);
    setting.transfer(&receiver, &source, &[], 5);
    assert_eq!(fs::read(setting.inbox.join("tree/open/small")).expect("there"), b"other");
    assert!(setting.inbox.join("tree/large").is_file());
}

#[test]
fn t5_unsupported_syncs_are_reported() {
    let (_setting, ended) = send_tree_with(
        |receiver| receiver.denying(libc::SYS_fsync, Errno::INVAL).denying(libc::SYS_syncfs, Errno::NOSYS),
        10,
    );
    for side in &ended {
        assert_eq!(side.event("finished")["synced"], false);
        assert!(
            side.event("finished")["not_kept"]["sync"].as_u64().is_some_and(|n| n >= 3),
            "{}",
            side.said()
        );
        assert!(!side.said().contains("--no-fsync"), "{}", side.said());
    }
}

#[test]
fn t5_one_kind_of_sync_replaces_the_other() {
    for call in [libc::SYS_fsync, libc::SYS_syncfs] {
        let (_setting, ended) = send_tree_with(|receiver| receiver.denying(call, Errno::NOSYS), 0);
        for side in ended {
            assert_eq!(side.event("finished")["synced"], true);
        }
    }
}

#[test]
fn t5_without_a_sync_of_all_each_file_and_directory_is_synced() {
    if has("strace") {
        assert_synced_one_by_one(&Setting::new(), &["-e", "inject=syncfs:error=ENOSYS"]);
    }
}

/// Sends more files and directories than are synced one by one elsewhere, under strace with `args`.
#[track_caller]
fn assert_synced_one_by_one(setting: &Setting, args: &[&str]) {
    let source = setting.scratch.dir("tree");
    for n in 0..30 {
        let dir = source.join(format!("d{}", n % 10));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("f{n}")), [7; 100]).expect("a file");
    }
    let to = format!("dir:{}", setting.inbox.display());
    let log = setting.scratch.path().join("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=fsync,syncfs"])
        .args(args)
        .arg("-o")
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_towline"))
        .args(["send", "--quiet", "--to", &to])
        .arg(&source)
        .env("XDG_CONFIG_HOME", setting.scratch.path())
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    let log = fs::read_to_string(&log).expect("what strace wrote");
    let synced = |part: &str| log.lines().filter(|l| l.contains("fsync(") && l.contains(part)).count();
    assert_eq!(synced("/.towline/"), 30, "each staged file:\n{log}");
    for n in 0..10 {
        assert!(synced(&format!("/inbox/tree/d{n}>")) >= 1, "d{n}:\n{log}");
    }
    assert!(synced("/inbox/tree>") >= 1 && synced("/inbox>") >= 1, "{log}");
}

/// Sends a tree onto one in which `mount` has put another file system at `open`; all of it must arrive.
fn send_onto_another_file_system(mount: impl FnOnce(&Setting, &Path) -> Option<Mount>) {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let inside = setting.inbox.join("tree/open");
    fs::create_dir_all(&inside).expect("directories");
    let Some(_mount) = mount(&setting, &inside) else { return };
    fs::create_dir(source.join("open/below")).expect("a directory");
    tree::random_file(&source.join("open/below/large"), (1 << 20) + 5, 72);
    tree::random_file(&source.join("open/two"), (2 << 20) + 5, 73);
    setting.transfer(&setting.ready_receiver(), &source, &[], 0);
    assert_content(&source, &setting.inbox.join("tree"));
    for name in ["open/below/large", "open/two"] {
        assert_eq!(tree::hash(&source.join(name)), tree::hash(&setting.inbox.join("tree").join(name)));
    }
    assert_no_staging(&setting.inbox);
    // And again: what is there is found there.
    setting.transfer(&setting.ready_receiver(), &source, &[], 0);
    assert_no_staging(&setting.inbox);
}

#[test]
fn t6_a_mount_inside_the_target_has_staging_of_its_own() {
    send_onto_another_file_system(|_, inside| {
        let mount = Mount::tmpfs(inside, 64);
        if mount.is_none() {
            skip("a tmpfs cannot be mounted here (it needs root)");
        }
        mount
    });
}

/// The device is the same one; the kernel still does not rename from one mount to the other.
#[test]
fn t6_a_bind_mount_inside_the_target_has_staging_of_its_own() {
    send_onto_another_file_system(|setting, inside| {
        let mount = Mount::bind(&setting.scratch.dir("elsewhere"), inside);
        if mount.is_none() {
            skip("nothing can be mounted here (it needs root)");
        }
        mount
    });
}

#[test]
fn t6_a_btrfs_subvolume_inside_the_target_has_staging_of_its_own() {
    if !has("mkfs.btrfs") {
        return;
    }
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let Some(_mount) = Mount::btrfs(&setting.scratch.path().join("image"), &setting.inbox) else {
        return skip("a btrfs cannot be mounted here (it needs root and loop devices)");
    };
    fs::create_dir(setting.inbox.join("tree")).expect("a directory");
    let made =
        Command::new("btrfs").args(["subvolume", "create"]).arg(setting.inbox.join("tree/open")).output();
    assert!(made.is_ok_and(|made| made.status.success()));
    setting.transfer(&setting.ready_receiver(), &source, &[], 0);
    assert_content(&source, &setting.inbox.join("tree"));
    assert_no_staging(&setting.inbox);
}

/// An interrupted transfer clears up on every file system.
#[test]
fn t6_a_failed_transfer_leaves_no_staging_on_any_file_system() {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let inside = setting.inbox.join("tree/open");
    fs::create_dir_all(&inside).expect("directories");
    let Some(_mount) = Mount::tmpfs(&inside, 1) else {
        return skip("a tmpfs cannot be mounted here (it needs root)");
    };
    tree::random_file(&source.join("open/too large"), 3 << 20, 74);
    for side in setting.transfer(&setting.ready_receiver(), &source, &[], 6) {
        assert!(side.said().contains("tree/open"), "{}", side.said());
    }
    assert_no_staging(&setting.inbox);
}

#[test]
fn t7_nothing_is_left_behind_on_fuse() {
    if !has("bindfs") {
        return;
    }
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let behind = setting.scratch.dir("behind");
    let Some(_mount) = Mount::bindfs(&behind, &setting.inbox) else {
        return skip("bindfs cannot mount here (it needs /dev/fuse)");
    };
    // The second one clears up what the first one would have left.
    for _ in 0..2 {
        setting.transfer(&setting.ready_receiver(), &source, &[], 0);
        assert_content(&source, &behind.join("tree"));
        assert_no_staging(&behind);
    }
}

/// The kernel answers `syncfs` for FUSE without asking the daemon, so nothing is synced.
#[test]
fn t7_on_fuse_each_file_and_directory_is_synced() {
    if !has("bindfs") || !has("strace") {
        return;
    }
    let setting = Setting::new();
    let behind = setting.scratch.dir("behind");
    let Some(_mount) = Mount::bindfs(&behind, &setting.inbox) else {
        return skip("bindfs cannot mount here (it needs /dev/fuse)");
    };
    assert_synced_one_by_one(&setting, &[]);
}

#[test]
fn t8_a_fuse_file_system_without_links_gets_the_files() {
    if !has("rclone") {
        return;
    }
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let behind = setting.scratch.dir("behind");
    let Some(_mount) = Mount::rclone(&behind, &setting.inbox) else {
        return skip("rclone cannot mount here (it needs /dev/fuse)");
    };
    let ended = setting.transfer(&setting.ready_receiver(), &source, &[], 10);
    for side in &ended {
        assert_eq!(side.event("finished")["not_kept"]["link"], 1, "{}", side.said());
    }
    assert_content(&source, &setting.inbox.join("tree"));
    assert_no_staging(&setting.inbox);
}

#[test]
fn t9_a_target_that_may_not_be_listed_gets_the_files() {
    let setting = Setting::new();
    let source = whole_tree(&setting);
    fs::create_dir(setting.inbox.join("tree")).expect("a directory");
    for dir in [setting.inbox.join("tree"), setting.inbox.clone()] {
        set_mode(&dir, 0o311);
    }
    let ended = bound_by_permissions(|| setting.transfer(&setting.ready_receiver(), &source, &[], 0));
    for side in &ended {
        assert_eq!(side.event("finished")["synced"], true);
    }
    assert_eq!([mode(&setting.inbox), mode(&setting.inbox.join("tree"))], [0o311, 0o311]);
    for dir in [setting.inbox.clone(), setting.inbox.join("tree")] {
        set_mode(&dir, 0o755);
    }
    assert_content(&source, &setting.inbox.join("tree"));
    assert_no_staging(&setting.inbox);
}

/// A call that hangs, as on a dead NFS server. strace waits for its end even after the process has ended, and the
/// test waits for strace.
const HANGS: &str = "delay_enter=10000000";

#[test]
fn fault_10_a_disk_of_the_receiver_that_hangs_is_named_on_both_sides() {
    if !has("strace") {
        return;
    }
    let setting = Setting::new();
    let source = whole_tree(&setting);
    let receiver = setting.ready_receiver().injecting(&format!("inject=fsync,syncfs:{HANGS}:when=2+"));
    let ended = setting.transfer(&receiver, &source, &["--disk-timeout", "2s", "--timeout", "2s"], 6);
    // A peer is told the entry; people at the receiver see where it lies.
    let paths = ["tree".to_owned(), setting.inbox.join("tree").display().to_string()];
    for (side, path) in ended.iter().zip(paths) {
        let error = side.event("error");
        assert_eq!((&error["reason"], &error["side"]), (&"storage".into(), &"receiver".into()));
        let message = error["message"].as_str().expect("a text");
        assert!(message.starts_with(&format!("cannot sync {path}")), "{message}");
        assert!(message.contains("has not answered for 2s"), "{message}");
    }
}

#[test]
fn fault_10_a_disk_of_the_sender_that_hangs_is_named_on_both_sides() {
    if !has("strace") {
        return;
    }
    let setting = Setting::new();
    let source = setting.scratch.path().join("large");
    tree::random_file(&source, 24 << 20, 75);
    // The loader reads a few times in the first thread.
    let sender = Machine::new(setting.scratch.path().join("sender"))
        .injecting(&format!("inject=pread64:{HANGS}:when=12+"));
    let (receiving, listening) = setting.ready_receiver().listen_receive(&setting.inbox, &[]);
    let source = source.to_str().expect("a plain path");
    let args = ["--to", &listening.ticket, "--disk-timeout", "2s", "--timeout", "1s", source];
    for side in [sender.send(args), receiving.end()] {
        let side = side.expect(6);
        let error = side.event("error");
        assert_eq!((&error["reason"], &error["side"]), (&"storage".into(), &"sender".into()));
        let message = error["message"].as_str().expect("a text");
        assert!(message.starts_with("cannot read ") && message.contains("large"), "{message}");
    }
    assert!(!setting.inbox.join("large").exists());
    assert_only_partials(&setting.inbox);
}
