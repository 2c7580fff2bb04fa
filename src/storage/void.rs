//! No disk: a source of made-up files and a target that drops everything, so that a bench measures only the protocol.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::block::Block;
use super::error::{Result, StorageError};
use super::source::{SmallBatch, Source, Verdict, Walk, Walked};
use super::target::{Commit, Target, Write};
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Time};
use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::protocol::wire::record::Run;

/// The directory of all made-up files.
pub const DIR: &str = "towline-bench";

/// Made-up files: their number and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Number of files.
    pub files: u64,
    /// Size of each file.
    pub file_bytes: u64,
}

impl Workload {
    /// Total bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.saturating_mul(self.file_bytes)
    }
}

/// Name of a made-up file in [`DIR`].
pub(super) fn name(number: u64) -> String {
    format!("{number:08}")
}

/// The repeated content of all made-up files: noise, so that nothing on the path can compress it.
#[derive(Clone)]
pub(super) struct Noise(Arc<[u8]>);

impl Noise {
    pub(super) fn new() -> Self {
        let mut bytes = vec![0; BLOCK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        Self(bytes.into())
    }

    /// Writes the bytes from `offset` of a file.
    pub(super) fn fill(&self, offset: u64, mut to: &mut [u8]) {
        let mut at = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
        while !to.is_empty() {
            let len = to.len().min(self.0.len() - at);
            let (now, later) = to.split_at_mut(len);
            now.copy_from_slice(&self.0[at..at + len]);
            (to, at) = (later, 0);
        }
    }
}

/// A tree that exists nowhere: [`DIR`] with the files of a [`Workload`].
pub struct VoidSource {
    workload: Workload,
    noise: Noise,
}

/// A walk over a [`VoidSource`].
pub struct VoidWalk {
    workload: Workload,
    /// Entries visited: the directory, the files, the end of the directory.
    walked: u64,
}

impl VoidSource {
    /// The tree of `workload`.
    pub fn new(workload: Workload) -> Self {
        Self { workload, noise: Noise::new() }
    }

    /// Whether `entry` is one of the files.
    fn check(&self, entry: &Entry) -> std::result::Result<(), Failure> {
        if entry.size() == self.workload.file_bytes && entry.meta.mtime == Time::default() {
            return Ok(());
        }
        Err(changed(&entry.path))
    }
}

impl VoidWalk {
    /// The entry at this position of the walk.
    fn entry(&self, walked: u64) -> Option<Entry> {
        let files = self.workload.files;
        let (path, kind) = match walked {
            0 => (DIR.to_owned(), Kind::Dir),
            n if n <= files => {
                (format!("{DIR}/{}", name(n - 1)), Kind::File { size: self.workload.file_bytes })
            }
            n if n == files + 1 => (DIR.to_owned(), Kind::DirEnd),
            _ => return None,
        };
        let mode = if matches!(kind, Kind::File { .. }) { 0o644 } else { 0o755 };
        let path = RelPath::new(path.as_bytes()).ok()?;
        Some(Entry { path, meta: Meta { mode, ..Meta::default() }, kind, hole_bytes: 0 })
    }
}

impl Walk for VoidWalk {
    async fn next(&mut self, max: usize) -> Vec<Walked> {
        let walked: Vec<_> =
            (self.walked..).map_while(|n| self.entry(n)).take(max).map(Walked::Entry).collect();
        self.walked += walked.len() as u64;
        walked
    }
}

fn changed(path: &RelPath) -> Failure {
    let sentence = |path: &str| format!("{path} is not one of the files of this bench");
    Failure::about(Side::Sender, Reason::SourceChanged, &Place::from(path), sentence)
}

impl Source for VoidSource {
    type File = Entry;
    type Walk = VoidWalk;

    fn walk(&self) -> VoidWalk {
        VoidWalk { workload: self.workload, walked: 0 }
    }

    async fn read_small(&self, files: Vec<Entry>, mut block: Block) -> SmallBatch {
        let mut at = 0;
        let read = files.iter().map(|entry| {
            self.check(entry)?;
            let len = usize::try_from(entry.size()).map_err(|_| changed(&entry.path))?;
            let range = at..at + len;
            self.noise.fill(0, block.get_mut(range.clone()).ok_or_else(|| changed(&entry.path))?);
            at += len;
            Ok(range)
        });
        let files = read.collect();
        SmallBatch { block, files, grown: Vec::new() }
    }

    async fn open(&self, entry: Entry) -> std::result::Result<Entry, Failure> {
        self.check(&entry)?;
        Ok(entry)
    }

    async fn runs(&self, _: &Entry, range: Range<u64>) -> std::result::Result<Vec<Run>, Failure> {
        Ok(vec![Run { len: range.end - range.start, is_hole: false }])
    }

    async fn read_at(
        &self,
        file: &Entry,
        offset: u64,
        len: usize,
        mut block: Block,
    ) -> std::result::Result<Block, Failure> {
        if offset.saturating_add(len as u64) > file.size() {
            return Err(changed(&file.path));
        }
        self.noise.fill(offset, &mut block[..len]);
        Ok(block)
    }

    async fn read_on(&self, file: &Entry, _: u64, _: Block) -> std::result::Result<(Block, usize), Failure> {
        // Every file has the size of the workload.
        Err(changed(&file.path))
    }

    async fn verify(&self, _: &Entry) -> std::result::Result<Verdict, Failure> {
        Ok(Verdict::Same)
    }

    fn hanging(&self, _: Duration) -> Option<Failure> {
        None
    }
}

/// Accepts everything and keeps nothing. The session has verified it by then.
pub struct VoidTarget;

impl Target for VoidTarget {
    async fn look(&self, entries: Vec<Entry>, _: Exists) -> Vec<Result<Lookup>> {
        entries.iter().map(|_| Ok(Lookup::Free)).collect()
    }

    async fn prepare(&self, entries: Vec<(EntryId, Entry)>) -> Vec<Result<Option<Lookup>>> {
        entries.iter().map(|_| Ok(None)).collect()
    }

    async fn held(&self, entries: Vec<(EntryId, Entry)>, _: u8) -> Vec<ChunkSet> {
        entries.iter().map(|_| ChunkSet::default()).collect()
    }

    async fn old(&self, paths: Vec<RelPath>) -> Vec<Option<u64>> {
        vec![None; paths.len()]
    }

    async fn read_old(
        &self,
        _: EntryId,
        _: RelPath,
        _: u64,
        _: Range<usize>,
        block: Block,
    ) -> (usize, Block) {
        (0, block)
    }

    async fn holds(&self, _: EntryId, chunks: Vec<ChunkValue>) -> Vec<bool> {
        chunks.iter().map(|_| false).collect()
    }

    async fn write(&self, _: Vec<Write>, _: Block) -> Result<Vec<StorageError>> {
        Ok(Vec::new())
    }

    async fn checkpoint(&self, entries: Vec<(EntryId, Vec<ChunkValue>)>) -> Vec<Result<bool>> {
        entries.iter().map(|_| Ok(true)).collect()
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<Committed>> {
        commits.iter().map(|_| Ok(Committed::Done(None))).collect()
    }

    async fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>) -> Vec<Result<()>> {
        dirs.iter().map(|_| Ok(())).collect()
    }

    async fn roots(&self, paths: Vec<RelPath>, _: Block) -> Vec<Result<blake3::Hash>> {
        let missing = |path: &RelPath| {
            let source = std::io::ErrorKind::NotFound.into();
            Err(StorageError { op: "read", place: self.place(path), source, entry: None })
        };
        paths.iter().map(missing).collect()
    }

    async fn update(&self, entries: Vec<Entry>) -> Vec<Result<bool>> {
        entries.iter().map(|_| Ok(false)).collect()
    }

    async fn discard(&self, _: EntryId) {}

    async fn give_up(&self, _: EntryId) {}

    async fn finish(&self) -> Result<Vec<NotKept>> {
        Ok(Vec::new())
    }

    async fn abort(&self) {}

    fn hanging(&self, _: Duration) -> Option<(StorageError, Option<EntryId>)> {
        None
    }

    fn place(&self, path: &RelPath) -> Place {
        Place::from(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::block::{BlockCount, BlockPool};
    use crate::testing::disk::source_root;

    const LARGE: Workload = Workload { files: 1, file_bytes: 3 * BLOCK_BYTES as u64 + 5 };

    async fn block() -> Block {
        BlockPool::new(1, BlockCount::default()).acquire().await
    }

    async fn entries(source: &VoidSource, max: usize) -> Vec<Entry> {
        let (mut walk, mut entries) = (source.walk(), Vec::new());
        loop {
            let found = walk.next(max).await;
            assert!(found.len() <= max);
            if found.is_empty() {
                return entries;
            }
            entries.extend(found.into_iter().map(|found| match found {
                Walked::Entry(entry) => entry,
                other => panic!("{other:?}"),
            }));
        }
    }

    #[tokio::test]
    async fn the_walk_does_not_depend_on_how_many_are_asked_for() {
        let workload = Workload { files: 5, file_bytes: 7 };
        let walked = entries(&VoidSource::new(workload), 100).await;
        for max in [1, 2, 3] {
            assert_eq!(entries(&VoidSource::new(workload), max).await, walked);
        }
        let kinds: Vec<_> = walked.iter().map(|entry| entry.kind.clone()).collect();
        let file = Kind::File { size: 7 };
        assert_eq!(kinds, [&[Kind::Dir][..], &vec![file; 5], &[Kind::DirEnd]].concat());
        let mut paths: Vec<_> = walked[1..6].iter().map(|entry| entry.path.clone()).collect();
        paths.dedup();
        assert_eq!(paths.len(), 5);
    }

    #[tokio::test]
    async fn bytes_and_root_agree_however_they_are_read() {
        let source = VoidSource::new(LARGE);
        let entry = entries(&source, 2).await.remove(1);
        let file = source.open(entry.clone()).await.unwrap();
        assert_eq!(
            source.runs(&file, 0..LARGE.file_bytes).await.unwrap(),
            [Run { len: LARGE.file_bytes, is_hole: false }]
        );
        let (mut bytes, step) = (Vec::new(), 100_000);
        while (bytes.len() as u64) < LARGE.file_bytes {
            let len = step.min(usize::try_from(LARGE.file_bytes).unwrap() - bytes.len());
            let read = source.read_at(&file, bytes.len() as u64, len, block().await).await.unwrap();
            bytes.extend_from_slice(&read[..len]);
        }
        assert_eq!(source.verify(&file).await.unwrap(), Verdict::Same);
        assert_eq!(source_root(&source, entry).await.unwrap(), blake3::hash(&bytes));
        // Noise: every byte value occurs, about equally often.
        let mut counts = [0; 256];
        bytes[..BLOCK_BYTES].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| (800..1300).contains(count)), "{counts:?}");
    }

    #[tokio::test]
    async fn small_files_lie_one_behind_the_other() {
        let source = VoidSource::new(Workload { files: 3, file_bytes: 4096 });
        let files = entries(&source, 9).await[1..4].to_vec();
        let roots = [source_root(&source, files[0].clone()).await.unwrap(); 3];
        let batch = source.read_small(files, block().await).await;
        let ranges: Vec<_> = batch.files.into_iter().map(std::result::Result::unwrap).collect();
        assert_eq!(ranges, [0..4096, 4096..8192, 8192..12288]);
        assert_eq!([0, 1, 2].map(|n| blake3::hash(&batch.block[ranges[n].clone()])), roots);
    }

    #[tokio::test]
    async fn attack_23_a_source_that_is_not_what_was_announced() {
        let source = VoidSource::new(LARGE);
        let honest = entries(&source, 2).await.remove(1);
        let mut other = honest.clone();
        other.kind = Kind::File { size: 5 };
        let is_changed = |failure: Option<Failure>| failure.unwrap().reason == Reason::SourceChanged;
        assert!(is_changed(source.open(other.clone()).await.err()));
        assert!(is_changed(source_root(&source, other.clone()).await.err()));
        assert!(is_changed(source.read_small(vec![other], block().await).await.files.remove(0).err()));
        assert!(is_changed(source.read_at(&honest, LARGE.file_bytes - 1, 2, block().await).await.err()));
    }
}
