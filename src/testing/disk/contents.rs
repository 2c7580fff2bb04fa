//! The contents of a disk in memory: as programs see them, and as a crash leaves them.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::{Node, rel_path};
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::Meta;

/// Names and their contents: as programs see them, and as a crash leaves them.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<Vec<u8>, usize>,
    pub(super) durable_names: BTreeMap<Vec<u8>, usize>,
    pub(super) bytes: u64,
    pub(super) capacity: Option<u64>,
    /// Staged files that a later transfer can resume.
    pub(super) kept: BTreeMap<KeptKey, Kept>,
}

/// Path, size and chunk size of a file: what names a staged file for a later transfer.
pub(super) type KeptKey = (Vec<u8>, u64, u8);

/// A staged file that a later transfer can resume.
pub(super) struct Kept {
    pub(super) inode: usize,
    /// Recorded chunks and their chaining values.
    pub(super) values: BTreeMap<u64, [u8; 32]>,
    /// It belongs to a running transfer.
    pub(super) is_taken: bool,
}

pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) meta: Meta,
    /// The synced part of it.
    pub(super) durable: Option<(Node, Meta)>,
}

impl Disk {
    pub(super) fn add(&mut self, node: Node, meta: Meta) -> usize {
        self.inodes.push(Inode { node, meta, durable: None });
        self.inodes.len() - 1
    }

    pub(super) fn node(&self, path: &RelPath) -> Option<&Node> {
        self.names.get(path.as_bytes()).map(|inode| &self.inodes[*inode].node)
    }

    pub(super) fn meta(&self, path: &RelPath) -> Option<Meta> {
        self.names.get(path.as_bytes()).map(|inode| self.inodes[*inode].meta.clone())
    }

    pub(super) fn check_parents(&self, path: &RelPath) -> std::result::Result<(), Errno> {
        match path.parent() {
            None => Ok(()),
            Some(parent) => match self.node(&parent) {
                Some(Node::Dir) => self.check_parents(&parent),
                Some(_) => Err(Errno::NOTDIR),
                None => self.check_parents(&parent).and(Err(Errno::NOENT)),
            },
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &[u8]) {
        let is_in = |path: &[u8]| {
            let parent = rel_path(path).parent();
            parent.as_ref().map_or(&b""[..], |parent| parent.as_bytes()) == dir
        };
        self.durable_names.retain(|path, _| !is_in(path));
        for (path, inode) in self.names.iter().filter(|(path, _)| is_in(path)) {
            if self.inodes[*inode].node == Node::Dir {
                let inode = &mut self.inodes[*inode];
                inode.durable.get_or_insert((Node::Dir, inode.meta.clone()));
            }
            self.durable_names.insert(path.clone(), *inode);
        }
    }

    pub(super) fn sync_all(&mut self) {
        self.inodes.iter_mut().for_each(Inode::sync);
        self.durable_names = self.names.clone();
    }

    /// A name survives when it and all directories above it were synced; a file that was not is empty.
    pub(super) fn crash(&mut self) {
        for inode in &mut self.inodes {
            (inode.node, inode.meta) = inode.durable.clone().unwrap_or_else(|| {
                let lost = Node::File(Vec::new());
                let meta = lost.default_meta();
                (lost, meta)
            });
        }
        self.kept.values_mut().for_each(|kept| kept.is_taken = false);
        self.names = self.durable_names.clone();
        let lost: Vec<_> =
            self.names.keys().filter(|path| self.check_parents(&rel_path(path)).is_err()).cloned().collect();
        for path in lost {
            self.names.remove(&path);
        }
    }
}

impl Inode {
    pub(super) fn sync(&mut self) {
        self.durable = Some((self.node.clone(), self.meta.clone()));
    }
}
