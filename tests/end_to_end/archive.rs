//! What `send -a` keeps, compared by rsync. Needs root, and file systems of its own.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, XattrFlags, chmod, chownat, getxattr, lsetxattr};
use rustix::io::Errno;

use crate::support::host::{has, skip};
use crate::support::mount::{Mount, make_file_system};
use crate::support::process::Machine;
use crate::support::setting::Setting;

/// Users and groups that no machine has.
const USER: u32 = 54_321;
const GROUP: u32 = 54_322;
const OTHER: u32 = 54_323;

/// `cap_net_raw=ep`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A setting on a file system with ACLs and large attributes.
struct Ground {
    setting: Setting,
    tree: PathBuf,
    copy: PathBuf,
    _mount: Mount,
}

impl Ground {
    fn new() -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            skip("owners need root");
            return None;
        }
        if !has("rsync") || !has("mkfs.xfs") {
            return None;
        }
        let setting = Setting::new();
        let (image, top) = (setting.path("image"), setting.scratch.dir("top"));
        make_file_system("xfs", &image, 320);
        let Some(mount) = Mount::image(&image, &top) else {
            skip("mounting is not allowed");
            return None;
        };
        let (tree, copy) = (top.join("tree"), top.join("copy"));
        fs::create_dir(&tree).expect("a directory");
        Some(Self { setting, tree, copy, _mount: mount })
    }

    /// What rsync would change of the copy.
    fn differences(&self) -> String {
        let mut rsync = Command::new("rsync");
        rsync.args(["-aHAXSn", "--itemize-changes", "--checksum", "--delete"]);
        rsync.arg(format!("{}/", self.tree.display())).arg(format!("{}/", self.copy.display()));
        let output = rsync.output().expect("rsync runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn source(&self) -> String {
        format!("{}/", self.tree.display())
    }

    fn to(&self) -> String {
        format!("dir:{}", self.copy.display())
    }
}

fn own(path: &Path, user: u32, group: u32) {
    let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW).expect("root may");
}

fn mode(path: &Path, mode: u32) {
    chmod(path, Mode::from_raw_mode(mode)).expect("an own file");
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|errno| panic!("{name}: {errno}"));
}

/// `u::rw-,u:OTHER:rwx,g::r--,m::rwx,o::---`
fn acl(path: &Path, name: &str) {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 6, none),
        entry(2, 7, OTHER),
        entry(4, 4, none),
        entry(0x10, 7, none),
        entry(0x20, 0, none),
    ];
    attribute(path, name, &[&2u32.to_le_bytes()[..], &entries.concat()].concat());
}

/// Everything that is kept.
fn fill(tree: &Path) {
    let path = |name: &str| tree.join(name);
    for dir in ["shared", "shared/inside", "sticky", "closed"] {
        fs::create_dir(path(dir)).expect("a directory");
    }
    for file in ["plain", "shared/tool", "shared/net", "shared/inside/acl", "large", "read-only", "empty"] {
        fs::write(path(file), format!("content of {file}")).expect("a file");
    }
    fs::write(path("empty"), b"").expect("a file");
    let sparse = fs::File::create(path("sparse")).expect("a file");
    sparse.set_len(3 << 20).expect("holes cost nothing");
    sparse.write_all_at(b"in the middle", 1 << 20).expect("space");
    symlink("plain", path("link")).expect("a link");
    for (name, user, group) in
        [("plain", USER, GROUP), ("shared", USER, GROUP), ("shared/tool", 0, GROUP), ("link", USER, OTHER)]
    {
        own(&path(name), user, group);
    }
    for (name, bits) in [
        ("plain", 0o640),
        ("shared", 0o2775),
        ("sticky", 0o1777),
        ("shared/tool", 0o6755),
        ("read-only", 0o444),
        ("closed", 0o500),
    ] {
        mode(&path(name), bits);
    }
    attribute(&path("shared/net"), "security.capability", &CAPABILITY);
    attribute(&path("plain"), "user.colour", b"blue");
    attribute(&path("read-only"), "user.empty", b"");
    attribute(&path("closed"), "user.dir", b"of a directory");
    attribute(&path("link"), "trusted.link", b"of a link");
    attribute(&path("empty"), "trusted.own", b"\0\xff");
    for number in 0..3 {
        attribute(&path("large"), &format!("user.large.{number}"), &vec![number; 60_000]);
    }
    acl(&path("shared/inside/acl"), "system.posix_acl_access");
    acl(&path("shared"), "system.posix_acl_default");
    acl(&path("sticky"), "system.posix_acl_access");
}

/// Everything arrives, also over what is there already, and what is gone from the source goes from the copy.
#[test]
fn an_archive_is_the_same_for_rsync() {
    let Some(ground) = Ground::new() else { return };
    fill(&ground.tree);
    let send = |args: &[&str]| {
        let ended =
            ground.setting.sender.send([&["-a", &ground.source(), "--to", &ground.to()], args].concat());
        ended.expect(0)
    };
    send(&[]);
    assert_eq!(ground.differences(), "");

    // The same once more, with other attributes of the same content.
    let path = |name: &str| ground.tree.join(name);
    own(&path("plain"), OTHER, OTHER);
    mode(&path("shared/tool"), 0o4711);
    attribute(&path("plain"), "user.colour", b"red");
    rustix::fs::removexattr(path("large"), "user.large.1").expect("an own file");
    rustix::fs::removexattr(path("shared/net"), "security.capability").expect("an own file");
    rustix::fs::removexattr(path("shared/inside/acl"), "system.posix_acl_access").expect("an own file");
    rustix::fs::removexattr(path("shared"), "system.posix_acl_default").expect("an own file");
    own(&path("link"), 0, 0);
    fs::write(path("new"), b"in a directory that has lost its default ACL").expect("a file");
    assert_ne!(ground.differences(), "");
    send(&["--exists", "replace"]);
    assert_eq!(ground.differences(), "");

    // All at once.
    fs::remove_dir_all(&ground.copy).expect("a directory");
    send(&["--atomic"]);
    assert_eq!(ground.differences(), "");
    attribute(&path("plain"), "user.colour", b"green");
    own(&path("shared"), OTHER, OTHER);
    send(&["--atomic", "--exists", "replace"]);
    assert_eq!(ground.differences(), "");
}

/// A program of another user would run as root.
#[test]
fn set_id_bits_without_their_owner_are_not_set() {
    let Some(ground) = Ground::new() else { return };
    let (tool, copy) = (ground.tree.join("tool"), ground.copy.join("tool"));
    fs::write(&tool, b"a program").expect("a file");
    own(&tool, USER, GROUP);
    mode(&tool, 0o6755);
    let sent = ground.setting.sender.send(["--special-bits", &ground.source(), "--to", &ground.to()]);
    assert_eq!(sent.expect(10).event("finished")["not_kept"]["special-bits"], 1);
    assert_eq!(copy.metadata().expect("a file").mode() & 0o7777, 0o755);
}

/// The mode of a file with an ACL shows the mask where it has the permissions of the group.
#[test]
fn a_group_gets_no_more_where_the_acl_cannot_be_set() {
    let Some(ground) = Ground::new() else { return };
    let (file, copy) = (ground.tree.join("file"), ground.copy.join("file"));
    fs::write(&file, b"for one user more").expect("a file");
    acl(&file, "system.posix_acl_access");
    assert_eq!(file.metadata().expect("a file").mode() & 0o777, 0o670);
    let sender = Machine::new(ground.setting.path("denied")).denying(libc::SYS_fsetxattr, Errno::OPNOTSUPP);
    let sent = sender.send(["--acls", &ground.source(), "--to", &ground.to()]).expect(10);
    assert_eq!(sent.event("finished")["not_kept"]["acl"], 1);
    assert_eq!(copy.metadata().expect("a file").mode() & 0o777, 0o640);
    // With it, and without it again.
    let send = |code| {
        let args = ["--acls", "--exists", "replace", &ground.source(), "--to", &ground.to()];
        ground.setting.sender.send(args).expect(code)
    };
    send(0);
    assert_eq!(ground.differences(), "");
    rustix::fs::removexattr(&file, "system.posix_acl_access").expect("an own file");
    mode(&file, 0o600);
    send(0);
    assert_eq!(copy.metadata().expect("a file").mode() & 0o777, 0o600);
    assert_eq!(ground.differences(), "");
}

/// A sender with a ticket sets user attributes and ACLs, and nothing of weight for the machine.
#[test]
fn a_stranger_gives_nothing_to_root() {
    let Some(ground) = Ground::new() else { return };
    fill(&ground.tree);
    let (receiving, listening) = ground.setting.receiver.listen_receive(&ground.copy, &[]);
    let source = ground.source();
    let sent = ground.setting.sender.send(["-a", &source, "--to", &listening.ticket]).expect(10);
    let received = receiving.end().expect(10);
    for side in [&sent, &received] {
        let not_kept = &side.event("finished")["not_kept"];
        let counts =
            ["owner", "special-bits", "xattr", "acl"].map(|aspect| not_kept[aspect].as_u64().unwrap_or(0));
        // Owners of 4; bits of a directory and a file; attributes of a file, a link and an empty file.
        assert_eq!(counts, [4, 2, 3, 1], "{not_kept:?}");
    }
    let there = |name: &str| ground.copy.join(name).symlink_metadata().expect("an entry");
    for name in ["plain", "shared", "shared/tool", "link"] {
        assert_eq!((there(name).uid(), there(name).gid()), (0, 0), "{name}");
        assert_eq!(there(name).mode() & 0o6000, 0, "{name}");
    }
    let sticky = ground.tree.join("sticky").symlink_metadata().expect("an entry");
    assert_eq!((there("sticky").mode(), sticky.mode() & 0o1000), (sticky.mode(), 0o1000));
    let mut value = [0; 10];
    assert_eq!(getxattr(ground.copy.join("plain"), "user.colour", &mut value), Ok(4));
    assert!(getxattr(ground.copy.join("shared/net"), "security.capability", &mut value).is_err());
    for name in ["plain", "shared/tool", "sparse"] {
        let read = |top: &Path| fs::read(top.join(name)).expect("a file");
        assert!(read(&ground.copy) == read(&ground.tree), "{name}");
    }
}
