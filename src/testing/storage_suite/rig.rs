//! What the suite runs on: a disk to send from, a disk to write to, and a look behind them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use tempfile::TempDir;

use crate::protocol::wire::entry::{Kind, Meta, Time};
use crate::storage::fs::{FsSource, FsTarget, NetworkThreads};
use crate::storage::{Source, Target};
use crate::testing::disk::{MemorySource, MemoryTarget, Node, incoming};

/// Paths and their contents, parents first.
pub(super) type Tree = BTreeMap<Vec<u8>, (Node, Meta)>;

/// A pair of disks.
pub(super) trait Rig {
    type S: Source;
    type T: Target;

    /// A source that holds `tree`.
    fn source(&self, tree: &Tree) -> Self::S;
    /// Another transfer into the one target directory.
    fn target(&self) -> Self::T;
    /// Another process replaces something in the target directory.
    fn put(&self, path: &str, node: Node);
    /// The contents of the target directory, without staging.
    fn tree(&self) -> Tree;
    /// Everything that can be told apart of the target directory: staging, identities and times of change too.
    fn snapshot(&self) -> Vec<String>;
    /// How many entries of `target` are staged.
    fn staged(&self, target: &Self::T) -> usize;
}

/// The contents of a tree without attributes.
pub(super) fn nodes(tree: &Tree) -> BTreeMap<String, Node> {
    tree.iter().map(|(path, (node, _))| (String::from_utf8_lossy(path).into_owned(), node.clone())).collect()
}

pub(super) struct FsRig {
    temp: TempDir,
    transfers: Cell<u32>,
}

impl FsRig {
    pub(super) fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), transfers: Cell::new(0) }
    }

    fn to(&self) -> PathBuf {
        self.temp.path().join("to")
    }
}

impl Drop for FsRig {
    /// Lets the temporary directory be removed by a user who is bound by permissions.
    fn drop(&mut self) {
        let mut open = vec![self.temp.path().to_owned()];
        while let Some(dir) = open.pop() {
            let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            open.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
    }
}

impl Rig for FsRig {
    type S = FsSource;
    type T = FsTarget;

    fn source(&self, tree: &Tree) -> FsSource {
        let from = self.temp.path().join("from");
        fs::create_dir_all(&from).unwrap();
        for (path, (node, _)) in tree {
            put(&from, path, node);
        }
        // Children first, so that the times of directories stay.
        for (path, (_, meta)) in tree.iter().rev() {
            set_meta(&join(&from, path), meta.clone());
        }
        let tops = tree.keys().filter(|path| !path.contains(&b'/'));
        FsSource::new(&tops.map(|path| join(&from, path)).collect::<Vec<_>>(), NetworkThreads::new(2))
            .unwrap()
    }

    fn target(&self) -> FsTarget {
        let number = self.transfers.get();
        self.transfers.set(number + 1);
        FsTarget::new(&self.to(), incoming(number, true), NetworkThreads::new(2)).unwrap()
    }

    fn put(&self, path: &str, node: Node) {
        fs::create_dir_all(self.to()).unwrap();
        put(&self.to(), path.as_bytes(), &node);
    }

    fn tree(&self) -> Tree {
        let mut tree = look(&self.to());
        tree.retain(|path, _| !path.starts_with(b".towline"));
        tree
    }

    fn snapshot(&self) -> Vec<String> {
        let (mut shown, mut open) = (Vec::new(), vec![self.to()]);
        while let Some(path) = open.pop() {
            let there = path.symlink_metadata().unwrap();
            let times = [there.mtime(), there.mtime_nsec(), there.ctime(), there.ctime_nsec()];
            shown.push(format!("{path:?} {} {:o} {times:?}", there.ino(), there.mode()));
            if there.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        shown.sort();
        shown
    }

    fn staged(&self, _: &FsTarget) -> usize {
        // `.towline/<transfer>/<number>`, beside the lock file.
        let is_staged =
            |path: &[u8]| path.starts_with(b".towline/") && path.iter().filter(|b| **b == b'/').count() == 2;
        look(&self.to()).keys().filter(|path| is_staged(path) && !path.ends_with(b"/lock")).count()
    }
}

pub(super) struct MemoryRig {
    disk: MemoryTarget,
    short_writes: Option<u64>,
}

impl MemoryRig {
    pub(super) fn new(short_writes: Option<u64>) -> Self {
        Self { disk: MemoryTarget::new(), short_writes }
    }
}

impl Rig for MemoryRig {
    type S = MemorySource;
    type T = MemoryTarget;

    fn source(&self, tree: &Tree) -> MemorySource {
        let entries = tree.iter().map(|(path, (node, _))| match node {
            Node::File(bytes) => (path, Kind::File { size: 0 }, bytes.clone()),
            Node::Dir => (path, Kind::Dir, Vec::new()),
            Node::Link(target) => (path, Kind::Symlink { target: Bytes::from(target.clone()) }, Vec::new()),
        });
        let mut source = MemorySource::new(entries.collect());
        for (path, (_, meta)) in tree {
            source = source.with_meta(path, meta.clone());
        }
        source
    }

    fn target(&self) -> MemoryTarget {
        match self.short_writes {
            Some(seed) => self.disk.beside().with_short_writes(seed),
            None => self.disk.beside(),
        }
    }

    fn put(&self, path: &str, node: Node) {
        let _ = self.disk.clone().with(path, node);
    }

    fn tree(&self) -> Tree {
        self.disk.tree()
    }

    fn snapshot(&self) -> Vec<String> {
        self.disk.snapshot()
    }

    fn staged(&self, target: &MemoryTarget) -> usize {
        target.staged().len()
    }
}

fn join(dir: &Path, path: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(path))
}

fn put(dir: &Path, path: &[u8], node: &Node) {
    let path = join(dir, path);
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) => fs::remove_file(&path).unwrap(),
        Err(_) => {}
    }
    match node {
        Node::File(bytes) => fs::write(&path, bytes).unwrap(),
        Node::Dir => fs::create_dir(&path).unwrap(),
        Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
    }
}

fn set_meta(path: &Path, meta: Meta) {
    if !path.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(meta.mode)).unwrap();
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanos.into() },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn look(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let there = path.symlink_metadata().unwrap();
            let node = if there.is_dir() {
                open.push(path.clone());
                Node::Dir
            } else if there.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                Node::File(fs::read(&path).unwrap())
            };
            let nanos = u32::try_from(there.mtime_nsec()).unwrap();
            let mtime = Time { seconds: there.mtime(), nanos };
            let meta = Meta { mode: there.mode() & 0o777, mtime, attributes: None };
            let name = path.strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
            tree.insert(name, (node, meta));
        }
    }
    tree
}
