//! The sender's disk in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::{Node, pause, rel_path};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::record::Run;
use crate::storage::block::Block;
use crate::storage::{SmallBatch, Source, Verdict, Walk, Walked};

/// A tree to send. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct MemorySource {
    state: Arc<Mutex<SourceTree>>,
}

#[derive(Default)]
struct SourceTree {
    walked: Vec<Walked>,
    files: HashMap<RelPath, Stored>,
    bytes_read: u64,
    small_batches: usize,
    read_pace: Duration,
}

struct Stored {
    bytes: Bytes,
    meta: Meta,
    holes: Vec<Range<u64>>,
    changes_when_read: bool,
    has_changed: bool,
    grows_when_read: bool,
    is_unreadable: bool,
}

/// An open file of a [`MemorySource`].
pub(crate) struct MemoryFile {
    entry: Entry,
}

/// A walk over a [`MemorySource`].
pub(crate) struct MemoryWalk {
    source: MemorySource,
    at: usize,
}

impl Walk for MemoryWalk {
    async fn next(&mut self, max: usize) -> Vec<Walked> {
        let walked: Vec<_> = self.source.state().walked.iter().skip(self.at).take(max).cloned().collect();
        self.at += walked.len();
        walked
    }
}

impl MemorySource {
    /// A tree in the order of a walk: directories before what they hold. The size of a file is that of its
    /// contents, and directories are closed by themselves, so `Kind::File { size: 0 }` does for every file.
    pub(crate) fn new<P: AsRef<[u8]>>(entries: Vec<(P, Kind, Vec<u8>)>) -> Self {
        let mut state = SourceTree::default();
        let mut open: Vec<Entry> = Vec::new();
        for (path, kind, contents) in entries {
            let path = rel_path(path);
            while open.last().is_some_and(|dir| path.parent().as_ref() != Some(&dir.path)) {
                state.walked.extend(open.pop().map(Walked::Entry));
            }
            assert_eq!(path.parent().as_ref(), open.last().map(|dir| &dir.path), "no directory for {path}");
            let (kind, node) = match kind {
                Kind::OpenEnded => (Kind::OpenEnded, Node::File(contents)),
                Kind::File { .. } => (Kind::File { size: contents.len() as u64 }, Node::File(contents)),
                Kind::Symlink { target } => {
                    (Kind::Symlink { target: target.clone() }, Node::Link(target.into()))
                }
                Kind::Dir | Kind::DirEnd => (Kind::Dir, Node::Dir),
            };
            let meta = node.default_meta();
            if kind == Kind::Dir {
                open.push(Entry {
                    path: path.clone(),
                    meta: meta.clone(),
                    kind: Kind::DirEnd,
                    hole_bytes: 0,
                });
            }
            if let Node::File(contents) = node {
                let stored = Stored {
                    bytes: contents.into(),
                    meta: meta.clone(),
                    holes: Vec::new(),
                    changes_when_read: false,
                    has_changed: false,
                    grows_when_read: false,
                    is_unreadable: false,
                };
                state.files.insert(path.clone(), stored);
            }
            state.walked.push(Walked::Entry(Entry { path, meta, kind, hole_bytes: 0 }));
        }
        state.walked.extend(open.into_iter().rev().map(Walked::Entry));
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// One file.
    pub(crate) fn file(path: &str, contents: Vec<u8>) -> Self {
        Self::new(vec![(path, Kind::File { size: 0 }, contents)])
    }

    /// Gives an entry other attributes than the usual ones.
    pub(crate) fn with_meta(self, path: impl AsRef<[u8]>, meta: Meta) -> Self {
        let path = rel_path(path);
        {
            let mut state = self.state();
            for walked in &mut state.walked {
                if let Walked::Entry(entry) = walked
                    && entry.path == path
                {
                    entry.meta = meta.clone();
                }
            }
            if let Some(stored) = state.files.get_mut(&path) {
                stored.meta = meta.clone();
            }
        }
        self
    }

    /// Calls a range of a file a hole; its bytes must be zero.
    pub(crate) fn with_hole(self, path: &str, range: Range<u64>) -> Self {
        self.stored(path, |stored| {
            let bytes = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert!(stored.bytes[bytes].iter().all(|b| *b == 0), "a hole reads as zeros");
            stored.holes.push(range);
            stored.holes.sort_by_key(|hole| hole.start);
        });
        self
    }

    /// Makes the walk end with something that is not sent.
    pub(crate) fn with_skipped(self, path: &str, reason: Reason) -> Self {
        let failure =
            Failure::about(Side::Sender, reason, &Place::new(format!("/source/{path}"), path), |path| {
                format!("skipping {path}")
            });
        self.state().walked.push(Walked::Skipped { path: path.to_owned(), failure });
        self
    }

    /// Sets the time to read a MiB.
    pub(crate) fn with_read_pace(self, per_mib: Duration) -> Self {
        self.state().read_pace = per_mib;
        self
    }

    /// Somebody writes to the file while it is read: what reads it sees the bytes as they were, and the next
    /// check says `SourceChanged`.
    pub(crate) fn change_when_read(&self, path: &str) {
        self.stored(path, |stored| stored.changes_when_read = true);
    }

    /// Somebody appends to the file while it is read.
    pub(crate) fn grow_when_read(&self, path: &str) {
        self.stored(path, |stored| stored.grows_when_read = true);
    }

    /// The file can no longer be opened.
    pub(crate) fn make_unreadable(&self, path: &str) {
        self.stored(path, |stored| stored.is_unreadable = true);
    }

    /// Bytes of files that were read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// How often small files were read.
    pub(crate) fn small_batches(&self) -> usize {
        self.state().small_batches
    }

    fn state(&self) -> MutexGuard<'_, SourceTree> {
        self.state.lock().unwrap()
    }

    fn stored(&self, path: &str, change: impl FnOnce(&mut Stored)) {
        change(self.state().files.get_mut(&rel_path(path)).expect("a file of this source"));
    }

    /// Copies bytes of a file to the front of `to`, and says so in the books.
    async fn copy(&self, path: &RelPath, offset: u64, to: &mut [u8]) -> Result<(), Failure> {
        let pause = pause(self.state().read_pace, to.len());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let mut state = self.state();
        let Some(stored) = state.files.get_mut(path) else { return Err(unreadable(path)) };
        let start = usize::try_from(offset).unwrap();
        let Some(bytes) = stored.bytes.get(start..start + to.len()) else { return Err(changed(path)) };
        to.copy_from_slice(bytes);
        stored.has_changed |= stored.changes_when_read;
        if stored.grows_when_read {
            stored.bytes = [&stored.bytes[..], b"more"].concat().into();
        }
        state.bytes_read += to.len() as u64;
        Ok(())
    }

    fn check(&self, entry: &Entry) -> Result<Verdict, Failure> {
        match self.state().files.get(&entry.path) {
            None => Err(unreadable(&entry.path)),
            Some(stored) if stored.is_unreadable => Err(unreadable(&entry.path)),
            Some(stored)
                if stored.has_changed
                    || (stored.bytes.len() as u64) < entry.size()
                    || stored.meta.mtime != entry.meta.mtime =>
            {
                Err(changed(&entry.path))
            }
            Some(_) if entry.kind == Kind::OpenEnded => Ok(Verdict::Same),
            Some(stored) if stored.bytes.len() as u64 > entry.size() => Ok(Verdict::Longer),
            Some(_) => Ok(Verdict::Same),
        }
    }
}

fn changed(path: &RelPath) -> Failure {
    let sentence = |path: &str| format!("{path} changed while being sent");
    Failure::about(Side::Sender, Reason::SourceChanged, &place(path), sentence)
}

fn unreadable(path: &RelPath) -> Failure {
    let sentence = |path: &str| format!("cannot open {path}: Permission denied");
    Failure::about(Side::Sender, Reason::SourceUnreadable, &place(path), sentence)
}

/// Where a file lies on the sender's machine.
fn place(path: &RelPath) -> Place {
    Place::below("/source", path)
}

impl Source for MemorySource {
    type File = MemoryFile;
    type Walk = MemoryWalk;

    fn walk(&self) -> MemoryWalk {
        MemoryWalk { source: self.clone(), at: 0 }
    }

    async fn read_small(&self, files: Vec<Entry>, mut block: Block) -> SmallBatch {
        self.state().small_batches += 1;
        let (mut ranges, mut grown) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (place, entry) in files.into_iter().enumerate() {
            let end = at + usize::try_from(entry.size()).unwrap();
            let read = match self.check(&entry) {
                Ok(_) => self.copy(&entry.path, 0, &mut block[at..end]).await,
                Err(failure) => Err(failure),
            };
            let read = read.and_then(|()| self.check(&entry));
            if read == Ok(Verdict::Longer) {
                grown.push(place);
            }
            let read = read.map(|_| at..end);
            at = if read.is_ok() { end } else { at };
            ranges.push(read);
        }
        SmallBatch { block, files: ranges, grown }
    }

    async fn open(&self, entry: Entry) -> Result<MemoryFile, Failure> {
        self.check(&entry)?;
        Ok(MemoryFile { entry })
    }

    async fn runs(&self, file: &MemoryFile, range: Range<u64>) -> Result<Vec<Run>, Failure> {
        let state = self.state();
        let holes =
            state.files.get(&file.entry.path).map(|stored| stored.holes.as_slice()).unwrap_or_default();
        let mut runs = Vec::new();
        let mut push = |range: Range<u64>, is_hole| {
            if !range.is_empty() {
                runs.push(Run { len: range.end - range.start, is_hole });
            }
        };
        let mut at = range.start;
        for hole in holes.iter().filter(|hole| hole.start < range.end && hole.end > range.start) {
            let hole = hole.start.max(at)..hole.end.min(range.end);
            push(at..hole.start, false);
            at = hole.end;
            push(hole, true);
        }
        push(at..range.end, false);
        Ok(runs)
    }

    async fn read_at(
        &self,
        file: &MemoryFile,
        offset: u64,
        len: usize,
        mut block: Block,
    ) -> Result<Block, Failure> {
        self.copy(&file.entry.path, offset, &mut block[..len]).await?;
        Ok(block)
    }

    async fn read_on(
        &self,
        file: &MemoryFile,
        offset: u64,
        mut block: Block,
    ) -> Result<(Block, usize), Failure> {
        let size = self.state().files.get(&file.entry.path).map_or(0, |stored| stored.bytes.len() as u64);
        let n = usize::try_from(size.saturating_sub(offset)).unwrap().min(block.len());
        self.copy(&file.entry.path, offset, &mut block[..n]).await?;
        Ok((block, n))
    }

    async fn verify(&self, file: &MemoryFile) -> Result<Verdict, Failure> {
        self.check(&file.entry)
    }

    fn hanging(&self, _: Duration) -> Option<Failure> {
        None
    }
}
