//! The receiver's disk in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use super::contents::{Disk, KeptKey};
use super::{Node, pause, rel_path};
use crate::protocol::announced::Announced;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::not_kept::{Aspect, NotKept, note};
use crate::protocol::path::{RelPath, printable};
use crate::protocol::place::Place;
use crate::protocol::removal::{Extra, Removed};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::storage::block::Block;
use crate::storage::{Commit, Final, Result, StorageError, Target, Write};

/// Bytes of a file that this disk takes; more is EFBIG.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// One transfer into a directory in memory. Clones are the same transfer; [`MemoryTarget::beside`] makes another
/// one on the same disk.
#[derive(Clone)]
pub(crate) struct MemoryTarget {
    disk: Arc<Mutex<Disk>>,
    own: Arc<Mutex<Own>>,
}

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum On {
    /// One `pwrite`.
    Write,
    /// Making a directory.
    Mkdir,
    /// Syncing the data of one entry.
    Sync,
    /// Giving one entry its name.
    Rename,
    /// Syncing one directory.
    SyncDir,
    /// Attributes of one directory.
    FinishDir,
    /// The last sync of everything.
    Finish,
}

/// Operations, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// `len` bytes were written to `offset`.
    Write {
        id: EntryId,
        offset: u64,
        len: usize,
    },
    /// The data of an entry was synced.
    Sync(EntryId),
    /// An entry got this name.
    Rename(String),
    /// A directory was synced; the top is "".
    SyncDir(String),
    /// A directory got its attributes.
    FinishDir(String),
    /// A staged entry was dropped.
    Discard(EntryId),
    /// A staged entry was dropped, except for what can be resumed.
    GiveUp(EntryId),
    Finish,
    Abort,
}

/// What belongs to one transfer.
pub(super) struct Own {
    pub(super) staged: HashMap<EntryId, usize>,
    /// Old files that were opened.
    old: HashMap<EntryId, usize>,
    /// Entries whose staged files a later transfer can resume.
    pub(super) resumable: HashMap<EntryId, KeptKey>,
    /// What a sync of an entry said that failed.
    lost: HashMap<EntryId, Errno>,
    has_ended: bool,
    is_synced: bool,
    ops: Vec<Op>,
    counts: HashMap<On, u64>,
    faults: Vec<(On, Range<u64>, Errno)>,
    short_writes: Option<u64>,
    write_pace: Duration,
    root_batches: usize,
    without_links: bool,
    not_kept: Vec<NotKept>,
    extras: Vec<Extra>,
    hangs: bool,
    hung: Option<Instant>,
}

impl MemoryTarget {
    /// An empty directory on an honest disk.
    pub(crate) fn new() -> Self {
        Self::on(Arc::default())
    }

    /// Another transfer into the same directory.
    pub(crate) fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.disk))
    }

    fn on(disk: Arc<Mutex<Disk>>) -> Self {
        let own = Own {
            staged: HashMap::new(),
            old: HashMap::new(),
            resumable: HashMap::new(),
            lost: HashMap::new(),
            has_ended: false,
            is_synced: true,
            ops: Vec::new(),
            counts: HashMap::new(),
            faults: Vec::new(),
            short_writes: None,
            write_pace: Duration::ZERO,
            root_batches: 0,
            without_links: false,
            not_kept: Vec::new(),
            extras: Vec::new(),
            hangs: false,
            hung: None,
        };
        Self { disk, own: Arc::new(Mutex::new(own)) }
    }

    /// Something is there already, and durable.
    pub(crate) fn with(self, path: &str, node: Node) -> Self {
        let meta = node.default_meta();
        {
            let mut disk = self.disk();
            let inode = disk.add(node.clone(), meta.clone());
            disk.inodes[inode].durable = Some((node, meta));
            disk.names.insert(rel_path(path).as_bytes().to_vec(), inode);
            disk.durable_names.insert(rel_path(path).as_bytes().to_vec(), inode);
        }
        self
    }

    /// Fails the operations with these numbers, counted from 0 by kind: `3..4` one, `3..u64::MAX` it and all after.
    pub(crate) fn failing(self, on: On, numbers: Range<u64>, errno: Errno) -> Self {
        self.own().faults.push((on, numbers, errno));
        self
    }

    /// A write takes only some of the bytes it is given, how many is drawn from `seed`.
    pub(crate) fn with_short_writes(self, seed: u64) -> Self {
        self.own().short_writes = Some(seed | 1);
        self
    }

    /// Sets the capacity of the disk in bytes.
    pub(crate) fn with_capacity(self, bytes: u64) -> Self {
        self.disk().capacity = Some(bytes);
        self
    }

    /// Sets the time to write a MiB.
    pub(crate) fn with_write_pace(self, per_mib: Duration) -> Self {
        self.own().write_pace = per_mib;
        self
    }

    /// As `--no-fsync` has it.
    pub(crate) fn without_sync(self) -> Self {
        self.own().is_synced = false;
        self
    }

    /// No sync ever returns.
    pub(crate) fn that_hangs(self) -> Self {
        self.own().hangs = true;
        self
    }

    /// As a disk that holds no symbolic links.
    pub(crate) fn without_links(self) -> Self {
        self.own().without_links = true;
        self
    }

    /// The host restarts: everything not synced is gone, and so is this transfer.
    pub(crate) fn crash(&self) {
        self.own().end();
        self.disk().crash();
    }

    /// Everything that can be told apart of the disk.
    pub(crate) fn snapshot(&self) -> Vec<String> {
        let disk = self.disk();
        disk.names
            .iter()
            .map(|(name, inode)| format!("{name:?} {inode} {:?}", disk.inodes[*inode].meta))
            .collect()
    }

    /// Contents of the files under their final names.
    pub(crate) fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let files = self.tree().into_iter().filter_map(|(path, (node, _))| match node {
            Node::File(bytes) => Some((path, bytes)),
            Node::Dir | Node::Link(_) => None,
        });
        files.collect()
    }

    /// Everything under its final name.
    pub(crate) fn tree(&self) -> BTreeMap<Vec<u8>, (Node, Meta)> {
        let disk = self.disk();
        let inode = |inode: &usize| (disk.inodes[*inode].node.clone(), disk.inodes[*inode].meta.clone());
        disk.names.iter().map(|(path, number)| (path.clone(), inode(number))).collect()
    }

    /// Another program writes this to a file under its name.
    pub(crate) fn overwrite(&self, path: &str, content: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.names[rel_path(path).as_bytes()];
        // The transfer may have put the new file there.
        if !self.own().has_renamed() {
            disk.inodes[inode].node = Node::File(content);
        }
    }

    /// Staged entries, by number.
    pub(crate) fn staged(&self) -> BTreeSet<EntryId> {
        self.own().staged.keys().copied().collect()
    }

    /// Operations so far.
    pub(crate) fn ops(&self) -> Vec<Op> {
        self.own().ops.clone()
    }

    /// How often roots were asked for.
    pub(crate) fn root_batches(&self) -> usize {
        self.own().root_batches
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    pub(super) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap()
    }

    fn error(&self, op: &'static str, path: &RelPath, source: impl Into<io::Error>) -> StorageError {
        StorageError { op, place: self.place(path), source: source.into(), entry: None }
    }

    /// One `pwrite`: says how many of `bytes` it took.
    fn write_some(&self, id: EntryId, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let (mut own, mut disk) = (self.own(), self.disk());
        if own.has_ended {
            return Err(io::Error::other("the transfer has ended"));
        }
        own.check(On::Write)?;
        let len = own.shorten(bytes.len());
        let inode = own.staged_file(&mut disk, id);
        let start = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let end = start + len;
        if end as u64 > FILE_BYTES_MAX {
            return Err(Errno::FBIG.into());
        }
        if disk.capacity.is_some_and(|capacity| disk.bytes + len as u64 > capacity) {
            return Err(Errno::NOSPC.into());
        }
        disk.bytes += len as u64;
        if let Node::File(stored) = &mut disk.inodes[inode].node {
            stored.resize(stored.len().max(end), 0);
            stored[start..end].copy_from_slice(&bytes[..len]);
        }
        own.ops.push(Op::Write { id, offset, len });
        Ok(len)
    }

    async fn write_all(&self, id: EntryId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        loop {
            let took = self.write_some(id, offset + written as u64, &bytes[written..])?;
            let pause = pause(self.own().write_pace, took);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            written += took;
            if written == bytes.len() {
                return Ok(());
            }
        }
    }

    fn look_at(&self, entry: &Entry, exists: Exists) -> Lookup {
        let disk = self.disk();
        let path = &entry.path;
        match disk.check_parents(path) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Lookup::Free,
            Err(errno) => return Lookup::Refused(self.error("open", path, errno).refusal()),
        }
        match (disk.node(path), &entry.kind) {
            (_, Kind::DirEnd) | (Some(Node::Dir), Kind::Dir) => Lookup::Same { number: 0, is_current: true },
            (None, _) => Lookup::Free,
            (Some(_), _) => look_at_taken(&disk, entry, exists),
        }
    }

    fn prepare_one(&self, entry: &Entry) -> Result<Option<Lookup>> {
        let mut disk = self.disk();
        let path = &entry.path;
        if let Err(errno) = disk.check_parents(path) {
            let error = self.error("open", path, errno);
            let is_denial = error.is_denial();
            return Ok(Some(match is_denial {
                true => Lookup::Denied(error.of_target()),
                false => Lookup::Refused(error.refusal()),
            }));
        }
        match (disk.node(path), &entry.kind) {
            (None, Kind::Dir) => {
                self.own().check(On::Mkdir).map_err(|error| self.error("create", path, error))?;
                let meta = Meta { mode: entry.meta.mode | 0o700, ..Node::Dir.default_meta() };
                let inode = disk.add(Node::Dir, meta);
                disk.names.insert(path.as_bytes().to_vec(), inode);
                Ok(Some(Lookup::Free))
            }
            (Some(Node::Dir), Kind::Dir) => Ok(Some(Lookup::Same { number: 0, is_current: true })),
            (Some(Node::File(_) | Node::Link(_)), Kind::Dir) => Ok(Some(Lookup::Conflict)),
            _ => Ok(None),
        }
    }

    fn update_one(&self, entry: &Entry) -> Result<bool> {
        let mut disk = self.disk();
        let Some(inode) = disk.names.get(entry.path.as_bytes()).copied() else {
            return Err(self.error("open", &entry.path, Errno::NOENT));
        };
        let before = std::mem::replace(&mut disk.inodes[inode].meta, entry.meta.clone());
        Ok(before != entry.meta)
    }

    /// Completes a staged entry; says which inode it is.
    fn stage(&self, commit: &Commit) -> std::result::Result<usize, Result<Committed>> {
        let (mut own, mut disk) = (self.own(), self.disk());
        if own.has_ended {
            let error = io::Error::other("the transfer has ended");
            return Err(Err(self.error("complete", &commit.path, error)));
        }
        let inode = match &commit.kind {
            Final::File { size } if *size > FILE_BYTES_MAX => {
                return Err(Ok(Committed::Refused(
                    self.error("complete", &commit.path, Errno::FBIG).refusal(),
                )));
            }
            Final::File { size } => {
                let inode = own.staged_file(&mut disk, commit.id);
                if let Node::File(stored) = &mut disk.inodes[inode].node {
                    stored.resize(usize::try_from(*size).unwrap(), 0);
                }
                inode
            }
            Final::Symlink { .. } if own.without_links => {
                note(&mut own.not_kept, Aspect::Link, &commit.path.to_string(), io::Error::from(Errno::PERM));
                return Err(Ok(Committed::NotKept));
            }
            Final::Symlink { target } => {
                let inode = disk.add(Node::Link(target.to_vec()), commit.meta.clone());
                own.staged.insert(commit.id, inode);
                inode
            }
        };
        disk.inodes[inode].meta = commit.meta.clone();
        Ok(inode)
    }

    /// Syncs the data of an entry, unless it is durable.
    fn sync(&self, id: EntryId, inode: usize) -> io::Result<()> {
        let (mut own, mut disk) = (self.own(), self.disk());
        if let Some(errno) = own.lost.get(&id) {
            return Err((*errno).into());
        }
        let inode = &mut disk.inodes[inode];
        if inode.durable.as_ref().is_some_and(|(node, _)| *node == inode.node) {
            return Ok(());
        }
        if let Err(error) = own.check(On::Sync) {
            own.lost.extend(Errno::from_io_error(&error).map(|errno| (id, errno)));
            return Err(error);
        }
        own.ops.push(Op::Sync(id));
        inode.sync();
        Ok(())
    }

    /// Gives an entry its name; says which.
    fn name(&self, commit: &Commit, inode: usize) -> std::result::Result<RelPath, Result<Committed>> {
        let (mut own, mut disk) = (self.own(), self.disk());
        let path = &commit.path;
        disk.check_parents(path).map_err(|errno| {
            let error = self.error("open", path, errno);
            if error.is_denial() {
                Ok(Committed::Denied(error.of_target()))
            } else {
                Ok(Committed::Refused(error.refusal()))
            }
        })?;
        own.check(On::Rename).map_err(|error| Err(self.error("rename to", path, error)))?;
        let name = match (disk.node(path), commit.exists) {
            (None, _) => path.clone(),
            (Some(Node::File(_) | Node::Link(_)), Exists::Replace) => path.clone(),
            (Some(_), Exists::Refuse | Exists::Skip | Exists::Replace) => return Err(Ok(Committed::Exists)),
            (Some(_), Exists::Rename) => (1..)
                .filter_map(|number| path.numbered(number).ok())
                .find(|other| disk.node(other).is_none())
                .ok_or(Ok(Committed::Exists))?,
        };
        disk.names.insert(name.as_bytes().to_vec(), inode);
        own.forget(&mut disk, commit.id, Some(inode));
        own.staged.remove(&commit.id);
        own.ops.push(Op::Rename(name.to_string()));
        Ok(name)
    }

    fn sync_dir(&self, dir: &[u8]) -> io::Result<()> {
        let mut own = self.own();
        own.check(On::SyncDir)?;
        own.ops.push(Op::SyncDir(printable(dir)));
        self.disk().sync_dir(dir);
        Ok(())
    }

    fn finish_dir(&self, path: &RelPath, meta: Option<Meta>) -> Result<()> {
        let (mut own, mut disk) = (self.own(), self.disk());
        own.check(On::FinishDir).map_err(|error| self.error("set the mode of", path, error))?;
        disk.check_parents(path).map_err(|errno| self.error("open", path, errno))?;
        match disk.names.get(path.as_bytes()).copied() {
            Some(inode) if disk.inodes[inode].node == Node::Dir => {
                if let Some(meta) = meta {
                    disk.inodes[inode].meta = meta;
                }
            }
            Some(_) => return Err(self.error("open", path, Errno::NOTDIR)),
            None => return Err(self.error("open", path, Errno::NOENT)),
        }
        own.ops.push(Op::FinishDir(path.to_string()));
        Ok(())
    }
}

impl Target for MemoryTarget {
    async fn look(&self, entries: Vec<Entry>, exists: Exists) -> Vec<Result<Lookup>> {
        entries.iter().map(|entry| Ok(self.look_at(entry, exists))).collect()
    }

    async fn prepare(&self, entries: Vec<(EntryId, Entry)>) -> Vec<Result<Option<Lookup>>> {
        entries.iter().map(|(_, entry)| self.prepare_one(entry)).collect()
    }

    async fn held(&self, entries: Vec<(EntryId, Entry)>, chunk_log2: u8) -> Vec<ChunkSet> {
        entries.iter().map(|(id, entry)| self.take_held(*id, entry, chunk_log2)).collect()
    }

    async fn old(&self, paths: Vec<RelPath>) -> Vec<Option<u64>> {
        let disk = self.disk();
        let size = |path: &RelPath| match disk.node(path) {
            Some(Node::File(bytes)) => Some(bytes.len() as u64),
            _ => None,
        };
        paths.iter().map(size).collect()
    }

    async fn read_old(
        &self,
        id: EntryId,
        path: RelPath,
        offset: u64,
        range: Range<usize>,
        mut block: Block,
    ) -> (usize, Block) {
        let (mut own, disk) = (self.own(), self.disk());
        let named = disk.names.get(path.as_bytes()).copied();
        let Some(inode) = own.old.get(&id).copied().or(named) else { return (0, block) };
        own.old.insert(id, inode);
        let Node::File(bytes) = &disk.inodes[inode].node else { return (0, block) };
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let n = range.len().min(bytes.len() - start);
        block[range][..n].copy_from_slice(&bytes[start..start + n]);
        (n, block)
    }

    async fn holds(&self, id: EntryId, chunks: Vec<ChunkValue>) -> Vec<bool> {
        chunks.into_iter().map(|chunk| self.has_value(id, chunk)).collect()
    }

    async fn free_names(&self, paths: Vec<RelPath>) -> Vec<Result<Option<RelPath>>> {
        let disk = self.disk();
        let free = |path: &RelPath| {
            (1..).filter_map(|number| path.numbered(number).ok()).find(|name| disk.node(name).is_none())
        };
        paths.iter().map(|path| Ok(free(path))).collect()
    }

    async fn extras(&self, announced: Option<Arc<Announced>>) -> Result<(Vec<Extra>, u64)> {
        let Some(announced) = announced else { return Ok((Vec::new(), 0)) };
        let disk = self.disk();
        let is_inside = |path: &RelPath| {
            let mut above = std::iter::successors(path.parent(), RelPath::parent);
            above.any(|dir| announced.has_dir(&dir)) && !announced.has(path)
        };
        let paths = disk.names.keys().map(rel_path).filter(is_inside);
        let extra = |path: RelPath| {
            let is_dir = disk.node(&path) == Some(&Node::Dir);
            Extra { path, is_dir, identity: (0, 0) }
        };
        let mut extras: Vec<_> = paths.map(extra).collect();
        // What is in a directory comes first.
        extras.reverse();
        Ok((extras, 0))
    }

    async fn note_extras(&self, extras: Vec<Extra>) -> Result<()> {
        self.own().extras.extend(extras);
        Ok(())
    }

    async fn remove_extras(&self, _: Option<RelPath>) -> Result<Removed> {
        let (extras, mut disk) = (std::mem::take(&mut self.own().extras), self.disk());
        for extra in &extras {
            disk.names.remove(extra.path.as_bytes());
        }
        Ok(Removed { count: extras.len() as u64, ..Removed::default() })
    }

    async fn update(&self, entries: Vec<Entry>) -> Vec<Result<bool>> {
        entries.iter().map(|entry| self.update_one(entry)).collect()
    }

    async fn write(&self, writes: Vec<Write>, block: Block) -> Result<Vec<StorageError>> {
        let mut errors = Vec::new();
        for Write { id, offset, range, .. } in writes {
            if let Err(source) = self.write_all(id, offset, &block[range]).await {
                let error = staged_error("write", id, source);
                if error.is_of_all_files() {
                    return Err(error);
                }
                errors.push(error);
            }
        }
        Ok(errors)
    }

    async fn checkpoint(&self, entries: Vec<(EntryId, Vec<ChunkValue>)>) -> Vec<Result<bool>> {
        let checkpoint = |(id, chunks): (EntryId, Vec<ChunkValue>)| {
            let is_synced = self.own().is_synced;
            let staged = self.own().staged.get(&id).copied();
            if let Some(inode) = staged.filter(|_| is_synced) {
                self.sync(id, inode).map_err(|error| staged_error("sync", id, error))?;
            }
            self.own().record(&mut self.disk(), id, chunks);
            Ok(is_synced)
        };
        entries.into_iter().map(checkpoint).collect()
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<Committed>> {
        if self.own().hangs {
            self.own().hung.get_or_insert_with(Instant::now);
            std::future::pending::<()>().await;
        }
        let is_synced = self.own().is_synced;
        let mut steps: Vec<_> = commits.iter().map(|commit| self.stage(commit)).collect();
        if is_synced {
            for (commit, step) in commits.iter().zip(&mut steps) {
                if let Ok(inode) = *step
                    && let Err(error) = self.sync(commit.id, inode)
                {
                    *step = Err(Err(self.error("sync", &commit.path, error)));
                }
            }
        }
        let mut named: Vec<std::result::Result<RelPath, Result<Committed>>> = Vec::new();
        for (commit, step) in commits.iter().zip(steps) {
            named.push(step.and_then(|inode| self.name(commit, inode)));
        }
        if is_synced {
            let parent = |path: &RelPath| path.parent().map(|p| p.as_bytes().to_vec()).unwrap_or_default();
            let dirs: BTreeSet<Vec<u8>> = named.iter().flatten().map(parent).collect();
            for dir in dirs {
                if let Err(error) = self.sync_dir(&dir) {
                    for (commit, step) in commits.iter().zip(&mut named) {
                        if step.as_ref().is_ok_and(|path| parent(path) == dir) {
                            let source = io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(5));
                            *step = Err(Err(self.error("sync", &commit.path, source)));
                        }
                    }
                }
            }
        }
        let settled = commits.iter().zip(named).map(|(commit, step)| match step {
            Ok(path) => Ok(Committed::Done((path != commit.path).then_some(path))),
            Err(Ok(Committed::Exists)) => Ok(Committed::Exists),
            Err(committed) => {
                self.own().give_up(&mut self.disk(), commit.id);
                committed
            }
        });
        settled.collect()
    }

    async fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>) -> Vec<Result<()>> {
        dirs.iter().map(|(path, meta)| self.finish_dir(path, meta.clone())).collect()
    }

    async fn roots(&self, paths: Vec<RelPath>, _: Block) -> Vec<Result<blake3::Hash>> {
        self.own().root_batches += 1;
        let disk = self.disk();
        let root = |path: &RelPath| match disk.node(path) {
            Some(Node::File(bytes)) => Ok(blake3::hash(bytes)),
            _ => Err(self.error("open", path, Errno::NOENT)),
        };
        paths.iter().map(root).collect()
    }

    async fn discard(&self, id: EntryId) {
        let (mut own, mut disk) = (self.own(), self.disk());
        own.drop_staged(&mut disk, id);
        own.ops.push(Op::Discard(id));
    }

    async fn give_up(&self, id: EntryId) {
        let (mut own, mut disk) = (self.own(), self.disk());
        own.give_up(&mut disk, id);
        own.ops.push(Op::GiveUp(id));
    }

    async fn finish(&self) -> Result<Vec<NotKept>> {
        let mut own = self.own();
        own.ops.push(Op::Finish);
        own.end();
        own.check(On::Finish).map_err(|source| StorageError {
            op: "sync",
            place: Place::target_directory("/memory"),
            source,
            entry: None,
        })?;
        if own.is_synced {
            self.disk().sync_all();
        }
        Ok(own.not_kept.clone())
    }

    async fn abort(&self) {
        let mut own = self.own();
        own.ops.push(Op::Abort);
        own.leave(&mut self.disk());
        own.end();
    }

    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)> {
        self.own().hung.filter(|since| since.elapsed() > limit)?;
        let source = io::ErrorKind::TimedOut.into();
        Some((
            StorageError { op: "sync", place: Place::target_directory("/memory"), source, entry: None },
            None,
        ))
    }

    fn place(&self, path: &RelPath) -> Place {
        Place::below("/memory", path)
    }
}

/// The failure for a name that is taken.
fn look_at_taken(disk: &Disk, entry: &Entry, exists: Exists) -> Lookup {
    let is_alike = |path: &RelPath| match (disk.node(path), &entry.kind) {
        (Some(Node::Link(there)), Kind::Symlink { target }) => there == target,
        (Some(Node::File(there)), Kind::File { size }) => there.len() as u64 == *size,
        (Some(Node::File(_)), Kind::OpenEnded) => true,
        _ => false,
    };
    let beside = (1..).map_while(|number| {
        let path = entry.path.numbered(number).ok()?;
        disk.node(&path).is_some().then(|| is_alike(&path).then_some(number))
    });
    let mut numbers: VecDeque<u32> = is_alike(&entry.path).then_some(0).into_iter().collect();
    if exists == Exists::Rename {
        let beside: Vec<u32> = beside.flatten().collect();
        numbers.extend(beside.into_iter().rev());
    }
    let there = disk.meta(&entry.path);
    let is_current = there.as_ref() == Some(&entry.meta);
    let is_unchanged = numbers.front() == Some(&0)
        && there.is_some_and(|there| there.mtime == entry.meta.mtime)
        && matches!(entry.kind, Kind::File { .. });
    match (numbers.front(), &entry.kind) {
        (None, _) if disk.node(&entry.path) == Some(&Node::Dir) => Lookup::Directory,
        (None, _) => Lookup::Conflict,
        (Some(number), Kind::Symlink { .. }) => Lookup::Same { number: *number, is_current },
        _ => Lookup::SameSize { numbers, is_current, is_unchanged },
    }
}

fn staged_error(op: &'static str, id: EntryId, source: io::Error) -> StorageError {
    let path = format!("/memory/.towline/{}", id.0);
    StorageError { op, place: Place::new(path, "a staged file"), source, entry: Some(id) }
}

impl Own {
    fn end(&mut self) {
        self.has_ended = true;
        self.staged.clear();
    }

    fn has_renamed(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Rename(_)))
    }

    /// Drops what is staged of an entry.
    fn drop_staged(&mut self, disk: &mut Disk, id: EntryId) {
        self.old.remove(&id);
        let inode = self.staged.remove(&id);
        self.forget(disk, id, inode);
    }

    /// Drops what is staged of an entry, unless some of it is recorded.
    fn give_up(&mut self, disk: &mut Disk, id: EntryId) {
        self.leave_one(disk, id);
        self.drop_staged(disk, id);
    }

    /// Counts an operation, and fails it when it is to fail.
    fn check(&mut self, on: On) -> io::Result<()> {
        let count = self.counts.entry(on).or_default();
        let number = *count;
        *count += 1;
        let fault = self.faults.iter().find(|(kind, numbers, _)| *kind == on && numbers.contains(&number));
        fault.map_or(Ok(()), |(_, _, errno)| Err((*errno).into()))
    }

    /// How many of `len` bytes a write takes: at least one.
    fn shorten(&mut self, len: usize) -> usize {
        let Some(seed) = &mut self.short_writes else { return len };
        if len < 2 {
            return len;
        }
        // xorshift64
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        usize::try_from(*seed % len as u64).unwrap_or(0) + 1
    }

    pub(super) fn staged_file(&mut self, disk: &mut Disk, id: EntryId) -> usize {
        *self.staged.entry(id).or_insert_with(|| {
            let node = Node::File(Vec::new());
            let meta = node.default_meta();
            disk.add(node, meta)
        })
    }
}
