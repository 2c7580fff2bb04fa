//! Faults of either disk: the side, the final path and the exit code are the same on both sides, and only a disk that
//! takes nothing more ends a transfer of many files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::host::{bound_by_permissions, has, skip};
use crate::support::mount::{Mount, make_file_system};
use crate::support::process::{DEADLINE, Ended, Machine, Towline};
use crate::support::setting::Setting;
use crate::support::tree::{random_file, set_mode};
use nix::libc;
use rustix::io::Errno;
use rustix::process::Signal;

const MIB: u64 = 1 << 20;

impl Setting {
    fn send_to(&self, receiver: &Machine, source: &Path, args: &[&str]) -> [Ended; 2] {
        let (receiving, listening) = receiver.listen_receive(&self.inbox, args);
        let sent = self.sender.send(["--to", &listening.ticket, source.to_str().expect("a plain path")]);
        [sent, receiving.end()]
    }

    /// `tree` with a small and a large file in each of three directories.
    fn three_directories(&self) -> PathBuf {
        let tree = self.scratch.dir("from").join("tree");
        for (number, dir) in (84..).zip(["first", "middle", "last"]) {
            fs::create_dir_all(tree.join(dir)).expect("a directory");
            fs::write(tree.join(dir).join("small"), dir).expect("a file");
            random_file(&tree.join(dir).join("large"), 3 << 20, number);
        }
        tree
    }

    /// The whole run fails on both sides with `op`, the final path and `cause`.
    #[track_caller]
    fn assert_ends(&self, ended: [Ended; 2], op: &str, path: &str, cause: &str) {
        let paths = [path.to_owned(), self.inbox.join(path).display().to_string()];
        for (side, path) in ended.into_iter().zip(paths) {
            let side = side.expect(6);
            let error = side.event("error");
            assert_eq!(
                (&error["reason"], &error["side"]),
                (&"storage".into(), &"receiver".into()),
                "{error}"
            );
            let message = error["message"].as_str().expect("a text");
            assert!(message.starts_with(&format!("cannot {op} {path}")), "{message}");
            assert!(message.contains(cause), "{message}");
        }
    }

    /// One entry fails on both sides, and the others arrive.
    #[track_caller]
    fn assert_fails_alone(&self, ended: &[Ended; 2], path: &str, cause: &str) {
        let paths = [path.to_owned(), self.inbox.join(path).display().to_string()];
        for (side, own) in ended.iter().zip(paths) {
            let file = side.file(path);
            assert_eq!((&file["outcome"], &file["reason"]), (&"failed".into(), &"storage".into()), "{file}");
            let message = file["message"].as_str().expect("a text");
            assert!(message.contains(&own) && message.contains(cause), "{message}");
        }
    }
}

#[test]
fn a_large_file_that_cannot_fit_is_refused_before_it_is_sent() {
    let setting = Setting::new();
    let Some(_tmpfs) = Mount::tmpfs(&setting.inbox, 16) else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    let tree = setting.three_directories();
    random_file(&tree.join("middle/huge"), 20 << 20, 87);
    let ended = setting.send_to(&setting.receiver, &tree, &[]).map(|side| side.expect(6));
    setting.assert_fails_alone(&ended, "tree/middle/huge", "it needs 20971520 bytes, and ");
    for side in &ended {
        assert_eq!(side.event("finished")["files"], 6, "{}", side.said());
        assert!(side.said().contains(" bytes are free"), "{}", side.said());
    }
    let sent = ended[0].events("progress").filter_map(|e| e["sent_bytes"].as_u64()).max().unwrap_or(0);
    assert!(sent < 10 * MIB, "{sent} bytes were sent");
}

#[test]
fn holes_and_what_is_there_already_need_no_space() {
    let setting = Setting::new();
    let Some(_tmpfs) = Mount::tmpfs(&setting.inbox, 16) else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    let source = setting.path("file");
    let file = fs::File::create(&source).expect("a file");
    file.set_len(100 * MIB).and_then(|()| file.write_all_at(&[7; 1 << 16], 50 * MIB)).expect("a sparse file");
    for _ in 0..2 {
        for side in setting.send_to(&setting.receiver, &source, &[]) {
            side.expect(0);
        }
    }
    // The same content, although it would not fit once more.
    let source = setting.path("twelve");
    random_file(&source, 12 << 20, 88);
    for _ in 0..2 {
        for side in setting.send_to(&setting.receiver, &source, &["--exists", "replace"]) {
            side.expect(0);
        }
    }
}

#[test]
fn a_quota_that_is_used_up_is_named_with_the_final_path() {
    let setting = Setting::new();
    let source = setting.path("large");
    random_file(&source, 3 << 20, 89);
    let receiver = setting.ready_receiver().denying(libc::SYS_pwrite64, Errno::DQUOT);
    setting.assert_ends(setting.send_to(&receiver, &source, &[]), "write", "large", "quota");
}

#[test]
fn inodes_that_are_used_up_are_named_with_the_final_path() {
    let setting = Setting::new();
    let Some(_tmpfs) = Mount::tmpfs_with(&setting.inbox, "nr_inodes=20") else {
        return skip("a small file system cannot be mounted (it needs root)");
    };
    let tree = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&tree).expect("a directory");
    (0..50).for_each(|n| fs::write(tree.join(format!("f{n}")), "x").expect("a file"));
    setting.assert_ends(
        setting.send_to(&setting.receiver, &tree, &[]),
        "write",
        "tree/f",
        "No space left on device",
    );
}

#[test]
fn a_full_disk_that_is_found_at_the_sync_is_named_with_the_final_path() {
    let setting = Setting::new();
    let source = setting.path("file");
    fs::write(&source, "bytes").expect("a file");
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO] {
        let receiver = setting.ready_receiver().denying(libc::SYS_fsync, errno);
        let ended = setting.send_to(&receiver, &source, &[]);
        match errno {
            Errno::IO => setting.assert_fails_alone(&ended.map(|side| side.expect(6)), "file", "cannot sync"),
            _ => setting.assert_ends(ended, "sync", "file", ""),
        }
        assert!(!setting.inbox.join("file").exists(), "{errno:?}");
    }
}

#[test]
fn a_large_file_that_cannot_be_written_fails_alone() {
    let setting = Setting::new();
    let source = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(source.join("dir")).expect("a directory");
    random_file(&source.join("large"), 3 << 20, 90);
    // Nothing of these is written.
    (0..9).for_each(|n| fs::write(source.join(format!("f{n}")), "").expect("a file"));
    let receiver = setting.ready_receiver().denying(libc::SYS_pwrite64, Errno::IO);
    let ended = setting.send_to(&receiver, &source, &[]).map(|side| side.expect(6));
    setting.assert_fails_alone(&ended, "tree/large", "Input/output error");
    for side in &ended {
        assert_eq!(
            (&side.event("finished")["files"], &side.event("finished")["failed"]),
            (&9.into(), &1.into())
        );
    }
    assert!(!setting.inbox.join("tree/large").exists() && setting.inbox.join("tree/f8").exists());
}

#[test]
fn a_large_file_that_cannot_be_synced_fails_alone() {
    let setting = Setting::new();
    let source = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&source).expect("a directory");
    random_file(&source.join("large"), 3 << 20, 91);
    (0..9).for_each(|n| fs::write(source.join(format!("f{n}")), "x").expect("a file"));
    let receiver = setting.ready_receiver().denying(libc::SYS_fdatasync, Errno::IO);
    let ended = setting.send_to(&receiver, &source, &[]).map(|side| side.expect(6));
    setting.assert_fails_alone(&ended, "tree/large", "Input/output error");
    for side in &ended {
        assert_eq!(side.event("finished")["files"], 9, "{}", side.said());
    }
    assert!(!setting.inbox.join("tree/large").exists() && setting.inbox.join("tree/f8").exists());
    // Nothing vouches for what was not synced.
    for side in setting.send_to(&setting.receiver, &source, &[]) {
        assert_eq!(side.expect(0).event("finished")["resumed_bytes"], 0);
    }
}

#[test]
fn a_name_that_cannot_be_given_fails_alone() {
    let setting = Setting::new();
    if !has("strace") {
        return;
    }
    let source = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&source).expect("a directory");
    (0..9).for_each(|n| fs::write(source.join(format!("f{n}")), "x").expect("a file"));
    let receiver = setting.ready_receiver().injecting("inject=renameat2:error=EIO:when=1");
    for side in setting.send_to(&receiver, &source, &[]).map(|side| side.expect(6)) {
        let finished = side.event("finished");
        assert_eq!((&finished["files"], &finished["failed"]), (&8.into(), &1.into()), "{}", side.said());
        assert!(side.said().contains("cannot rename to"), "{}", side.said());
    }
}

#[test]
fn small_files_that_cannot_be_written_fail_alone() {
    let setting = Setting::new();
    let source = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&source).expect("a directory");
    (0..9).for_each(|n| fs::write(source.join(format!("f{n}")), "").expect("a file"));
    for name in ["first", "second"] {
        fs::write(source.join(name), name).expect("a file");
    }
    let receiver = setting.ready_receiver().denying(libc::SYS_pwrite64, Errno::IO);
    let ended = setting.send_to(&receiver, &source, &[]).map(|side| side.expect(6));
    for name in ["tree/first", "tree/second"] {
        setting.assert_fails_alone(&ended, name, "Input/output error");
        assert!(!setting.inbox.join(name).exists());
    }
    for side in &ended {
        assert_eq!(side.event("finished")["files"], 9, "{}", side.said());
    }
    assert!(!setting.inbox.join(".towline").exists());
}

#[test]
fn a_read_only_mount_inside_the_target_costs_only_what_belongs_there() {
    let setting = Setting::new();
    let tree = setting.three_directories();
    let inside = setting.inbox.join("tree/middle");
    fs::create_dir_all(&inside).expect("directories");
    let Some(_mount) = Mount::tmpfs_with(&inside, "ro") else {
        return skip("a tmpfs cannot be mounted here (it needs root)");
    };
    let ended = setting.send_to(&setting.receiver, &tree, &[]).map(|side| side.expect(6));
    for name in ["tree/middle/small", "tree/middle/large"] {
        setting.assert_fails_alone(&ended, name, "Read-only file system");
    }
    for side in &ended {
        assert_eq!(side.event("finished")["files"], 4, "{}", side.said());
    }
}

#[test]
fn a_read_only_target_ends_the_transfer() {
    let setting = Setting::new();
    let Some(_mount) = Mount::tmpfs_with(&setting.inbox, "ro") else {
        return skip("a tmpfs cannot be mounted here (it needs root)");
    };
    let to = format!("dir:{}", setting.inbox());
    let sent = setting
        .sender
        .send(["--to", &to, setting.three_directories().to_str().expect("a plain path")])
        .expect(6);
    let message = sent.event("error")["message"].as_str().expect("a text").to_owned();
    assert!(message.contains(setting.inbox()) && message.contains("Read-only file system"), "{message}");
}

#[test]
fn a_directory_that_denies_access_costs_only_what_belongs_there() {
    let setting = Setting::new();
    let tree = setting.three_directories();
    let denied = setting.inbox.join("tree/middle");
    fs::create_dir_all(&denied).expect("directories");
    set_mode(&denied, 0o555);
    // As if it belonged to another user.
    let receiver = setting.ready_receiver().denying(libc::SYS_fchmod, Errno::PERM);
    let ended = bound_by_permissions(|| setting.send_to(&receiver, &tree, &[]));
    let ended = ended.map(|side| side.expect(6));
    for name in ["tree/middle/small", "tree/middle/large"] {
        setting.assert_fails_alone(&ended, name, "Permission denied");
    }
    for side in &ended {
        assert_eq!(side.event("finished")["files"], 4, "{}", side.said());
    }
}

/// Reading the memory of a process at address 0 is an I/O error.
#[test]
fn a_source_that_cannot_be_read_fails_alone() {
    let setting = Setting::new();
    let tree = setting.three_directories();
    let (receiving, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let tree = tree.to_str().expect("a plain path");
    let sent = setting.sender.send(["--to", &listening.ticket, tree, "/proc/self/mem"]);
    for side in [sent, receiving.end()] {
        let side = side.expect(7);
        assert!(side.said().contains("mem: Input/output error"), "{}", side.said());
        assert_eq!(
            (&side.event("finished")["files"], &side.event("finished")["failed"]),
            (&6.into(), &1.into())
        );
    }
}

#[test]
fn a_large_source_that_fails_in_the_middle_fails_alone() {
    if !has("strace") {
        return;
    }
    let setting = Setting::new();
    let tree = setting.scratch.dir("from").join("tree");
    fs::create_dir_all(&tree).expect("a directory");
    random_file(&tree.join("large"), 24 << 20, 91);
    fs::create_dir(tree.join("empty")).expect("a directory");
    // The loader reads a few times in the first thread. With one stream, few threads share the other reads.
    let sender = Machine::new(setting.path("reader")).injecting("inject=pread64:error=EIO:when=12+");
    let (receiving, listening) = setting.receiver.listen_receive(&setting.inbox, &[]);
    let tree = tree.to_str().expect("a plain path");
    let sent = sender.send(["--streams", "1", "--to", &listening.ticket, tree]);
    for side in [sent, receiving.end()] {
        let side = side.expect(7);
        let file = side.file("tree/large");
        assert_eq!(file["reason"], "source-unreadable", "{file}");
        assert!(file["message"].as_str().is_some_and(|m| m.contains("Input/output error")), "{file}");
    }
    assert!(!setting.inbox.join("tree/large").exists() && setting.inbox.join("tree/empty").is_dir());
}

/// The receiver stops between the sync and the look at the disk, and the disk changes meanwhile.
#[test]
fn a_disk_that_returns_other_bytes_is_found_out() {
    let setting = Setting::new();
    let image = setting.path("image");
    if !has("mkfs.ext4") || !has("strace") {
        return skip("mkfs.ext4 or strace is not installed");
    }
    make_file_system("ext4", &image, 64);
    let Some(_mount) = Mount::image(&image, &setting.inbox) else {
        return skip("a file system image cannot be mounted (it needs root)");
    };
    setting.ready_receiver();
    for (name, size, number) in [("small", 5000, 98), ("large", 3 << 20, 99)] {
        let source = setting.path(name);
        random_file(&source, size, number);
        let receiver =
            Machine::new(setting.path("receiver")).injecting("inject=fadvise64:signal=SIGSTOP:when=1");
        let (receiving, listening) = receiver.listen_receive(&setting.inbox, &["--verify-disk"]);
        let sending = setting.sender.start_send(["--to", &listening.ticket, source.to_str().expect("text")]);
        wait_until_stopped(&receiving);
        change(&image, &fs::read(&source).expect("a file")[..4096]);
        receiving.signal(Signal::CONT);
        let paths = [name.to_owned(), setting.inbox.join(name).display().to_string()];
        for (ended, path) in [sending.end(), receiving.end()].into_iter().zip(paths) {
            let ended = ended.expect(8);
            let file = ended.file(name);
            assert_eq!((&file["outcome"], &file["reason"]), (&"failed".into(), &"verification".into()));
            let message = file["message"].as_str().expect("a text");
            assert!(message.starts_with(&path) && message.contains("other bytes"), "{message}");
        }
        assert!(!setting.inbox.join(name).exists());
        assert!(!setting.inbox.join(".towline").exists(), "what was recorded of it is kept");

        let again = setting.send_to(&setting.receiver, &source, &["--verify-disk"]);
        for ended in again.map(|side| side.expect(0)) {
            assert_eq!(ended.event("finished")["verified_from_disk"], 1);
        }
        assert!(fs::read(setting.inbox.join(name)).expect("a file") == fs::read(&source).expect("a file"));
    }
}

fn wait_until_stopped(process: &Towline) {
    let stat = format!("/proc/{}/stat", process.pid());
    let end = Instant::now() + DEADLINE;
    let is_stopped = || {
        let stat = fs::read_to_string(&stat).expect("it runs");
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't']))
    };
    while !is_stopped() {
        assert!(Instant::now() < end, "it did not stop");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Changes a byte of `content` on the disk behind a file system.
fn change(image: &Path, content: &[u8]) {
    let bytes = fs::read(image).expect("the image");
    let at = (0..bytes.len()).step_by(1024).find(|at| bytes[*at..].starts_with(content));
    let at = at.expect("it was synced") as u64;
    let image = fs::File::options().write(true).open(image).expect("the image");
    image.write_all_at(&[!content[0]], at).expect("the image can be written");
}
