//! The receiver's disk, as the session uses it.

use std::fs::File;
use std::io;
use std::iter;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::blocking::blocking;
use super::calls::{BlockCalls, NetworkThreads};
use super::checkpoint::checkpoint;
use super::commit::commit_batch;
use super::descriptors::share;
use super::dirs::Dirs;
use super::final_files::FinalFile;
use super::incoming::Incoming;
use super::known_roots::Reading;
use super::names_made::Folding;
use super::target_dir::TargetDir;
use super::target_disk::TargetDisk;
use super::watch::{Subject, hangs};
use crate::protocol::announced::Announced;
use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::ChunkValue;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::removal::{Extra, Removed};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::storage::block::Block;
use crate::storage::error::{Result, StorageError, failed};
use crate::storage::target::{Commit, Target, Write};

/// Maximum files written in pieces at once. Each is open.
const PIECES_AT_ONCE: usize = 64;

/// A target directory in the file system. Its staging is removed once the target is dropped and its last call has
/// ended.
pub struct FsTarget {
    disk: Arc<TargetDisk>,
    /// One permit for each file that is being written in pieces.
    pieces: Semaphore,
    /// Writes of pieces, and reads of old files.
    writes: BlockCalls,
    reads: BlockCalls,
}

impl FsTarget {
    /// Opens `dir` for the transfer `incoming`. When it is missing, it is made with its parents, unless the transfer only
    /// looks.
    ///
    /// Fails when `dir` cannot be made or opened. The first call that prepares or writes makes the staging directory,
    /// and removes staging left by receivers that are gone, except for partial files that are not too old.
    pub fn new(dir: impl Into<TargetDir>, incoming: Incoming, network: NetworkThreads) -> Result<Self> {
        let disk = Arc::new(TargetDisk::open(&dir.into(), incoming)?);
        let pieces = Semaphore::new(share(PIECES_AT_ONCE));
        let reads = BlockCalls::new(network.clone());
        Ok(Self { disk, pieces, writes: BlockCalls::new(network), reads })
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &TargetDisk {
        &self.disk
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&TargetDisk) -> T + Send + 'static) -> T {
        let disk = Arc::clone(&self.disk);
        blocking(move || work(&disk)).await
    }

    /// Writes pieces of one staged file. Their turn comes before the disk call: if threads waited for turns, none
    /// might be left for the writer whose turn it is.
    async fn write_pieces(&self, id: EntryId, pieces: Vec<Write>, block: Block) -> (io::Result<()>, Block) {
        // A call that waits for a descriptor holds a thread, and files that hold descriptors need threads before they
        // can be closed. So the number of such files is limited.
        let _permit = self.pieces.acquire().await;
        let open = self.disk.volumes.of(id).find_staging().and_then(|staging| staging.find_open(id));
        let file = match open {
            Some(file) => file,
            None => {
                let open = move |disk: &TargetDisk| {
                    let _call = disk.watch.begin("open", Subject::Staged(id));
                    disk.staging(id)?.open(id)
                };
                match self.run(open).await {
                    Ok(file) => file,
                    Err(error) => return (Err(error), block),
                }
            }
        };
        let _turn = file.turn().await;
        let (staged, disk) = (Arc::clone(&file), Arc::clone(&self.disk));
        let write = move || {
            let call = disk.watch.begin("write", Subject::Staged(id));
            let bytes = pieces.iter().map(|piece| piece.range.len()).sum();
            if let Err(error) = disk.bounded.take(Some(id), bytes) {
                return (Err(error), block);
            }
            let mut pieces = pieces.into_iter();
            let written = pieces.try_for_each(|Write { offset, range, .. }| {
                call.step("write", Subject::Staged(id));
                staged.write_at(&block[range], offset, &disk.incoming)
            });
            (written, block)
        };
        self.writes.run(write).await
    }

    /// Writes whole files. Nothing else writes to them, so they need no turn. Returns the errors too.
    async fn write_whole(&self, files: Vec<Write>, block: Block) -> (Vec<StorageError>, Block) {
        self.run(move |disk| {
            let call = disk.watch.begin("write", Subject::Top);
            let write = |Write { id, range, whole, .. }: Write| {
                let meta = whole.unwrap_or_default();
                call.step("write", Subject::Staged(id));
                let staging = disk.staging(id);
                let staging = staging.and_then(|s| disk.take_room(id, range.len()).map(|()| s));
                let written = staging.and_then(|s| s.write_whole(id, &block[range], &meta, disk.sync));
                written.err().map(|error| failed("write", disk.place_staged(id), error).about(id))
            };
            (files.into_iter().filter_map(write).collect(), block)
        })
        .await
    }

    /// The root of an existing file, which is read once for as long as it does not change.
    async fn known_root(
        &self,
        path: &RelPath,
        file: File,
        size: u64,
        block: Block,
    ) -> (io::Result<blake3::Hash>, Block) {
        let (now, file) = (SystemTime::now(), Arc::new(file));
        let before = match self.reading(path, &file).await {
            Ok(before) => before,
            Err(error) => return (Err(error), block),
        };
        if let Some(root) = self.disk.known_roots.get(&before) {
            return (Ok(root), block);
        }
        let (read, block) = self.large_root(path, &file, size, block).await;
        let root = match read {
            Ok(root) => root,
            Err(error) => return (Err(error), block),
        };
        if let Ok(after) = self.reading(path, &file).await {
            self.disk.known_roots.keep(before, after, now, root);
        }
        (Ok(root), block)
    }

    async fn reading(&self, path: &RelPath, file: &Arc<File>) -> io::Result<Reading> {
        let (file, subject) = (Arc::clone(file), Subject::Path(path.clone()));
        let look = move |disk: &TargetDisk| {
            let _call = disk.watch.begin("look at", subject);
            Ok(Reading::of(&file.metadata()?))
        };
        self.run(look).await
    }

    /// The BLAKE3 root of the first `size` bytes of a file, and the block they were read through.
    async fn large_root(
        &self,
        path: &RelPath,
        file: &Arc<File>,
        size: u64,
        mut block: Block,
    ) -> (io::Result<blake3::Hash>, Block) {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let len = usize::try_from(size - at).unwrap_or(block.len()).min(block.len());
            let open = Arc::clone(file);
            let (disk, subject) = (Arc::clone(&self.disk), Subject::Path(path.clone()));
            let call = move || {
                let _call = disk.watch.begin("read", subject);
                (open.read_exact_at(&mut block[..len], at), block)
            };
            let (read, used) = blocking(call).await;
            block = used;
            if let Err(error) = read {
                return (Err(error), block);
            }
            hasher.update(&block[..len]);
            at += len as u64;
        }
        (Ok(hasher.finalize()), block)
    }
}

impl Target for FsTarget {
    async fn look(&self, entries: Vec<Entry>, exists: Exists) -> Vec<Result<Lookup>> {
        self.run(move |disk| {
            let (mut dirs, mut folding) = (Dirs::for_lookup(), Folding::default());
            let call = disk.watch.begin("look up", Subject::Top);
            let look = |entry: &Entry| {
                call.step("look up", Subject::Path(entry.path.clone()));
                match disk.bounded.refuse(entry, &disk.place(&entry.path)) {
                    Some(refused) => Ok(Lookup::Refused(refused)),
                    None => disk.look(&mut dirs, &mut folding, entry, exists),
                }
            };
            entries.iter().map(look).collect()
        })
        .await
    }

    async fn prepare(&self, entries: Vec<(EntryId, Entry)>) -> Vec<Result<Option<Lookup>>> {
        self.run(move |disk| {
            let mut dirs = Dirs::for_lookup();
            let call = disk.watch.begin("prepare", Subject::Top);
            let prepare = |(id, entry): &(EntryId, Entry)| {
                let op = if entry.kind == Kind::Dir { "create" } else { "prepare" };
                call.step(op, Subject::Path(entry.path.clone()));
                match disk.bounded.count(*id, entry, &disk.place(&entry.path)) {
                    Some(refused) => Ok(Some(Lookup::Refused(refused))),
                    None => disk.prepare(&mut dirs, *id, entry),
                }
            };
            entries.iter().map(prepare).collect()
        })
        .await
    }

    async fn free_names(&self, paths: Vec<RelPath>) -> Vec<Result<Option<RelPath>>> {
        self.run(move |disk| {
            let mut dirs = Dirs::for_lookup();
            let call = disk.watch.begin("look up", Subject::Top);
            let find = |path: &RelPath| {
                call.step("look up", Subject::Path(path.clone()));
                disk.free_name(&mut dirs, path)
            };
            paths.iter().map(find).collect()
        })
        .await
    }

    async fn update(&self, entries: Vec<Entry>) -> Vec<Result<bool>> {
        self.run(move |disk| {
            let mut dirs = Dirs::for_lookup();
            let call = disk.watch.begin("update", Subject::Top);
            let update = |entry: &Entry| {
                call.step("update", Subject::Path(entry.path.clone()));
                match &disk.set {
                    Some(set) => disk.add_update(set, entry).map(|()| true),
                    None => disk.update(&mut dirs, entry),
                }
            };
            entries.iter().map(update).collect()
        })
        .await
    }

    async fn write(&self, writes: Vec<Write>, mut block: Block) -> Result<Vec<StorageError>> {
        let mut writes = writes.into_iter().peekable();
        let mut errors = Vec::new();
        while let Some(write) = writes.next() {
            let id = write.id;
            let (unwritten, used) = match write.whole {
                Some(_) => {
                    let mut files = vec![write];
                    files.extend(iter::from_fn(|| writes.next_if(|next| next.whole.is_some())));
                    self.write_whole(files, block).await
                }
                None => {
                    let mut pieces = vec![write];
                    let is_next = |next: &Write| next.id == id && next.whole.is_none();
                    pieces.extend(iter::from_fn(|| writes.next_if(is_next)));
                    let (written, block) = self.write_pieces(id, pieces, block).await;
                    let about = |error| failed("write", self.disk.place_staged(id), error).about(id);
                    (written.err().map(about).into_iter().collect(), block)
                }
            };
            block = used;
            errors.extend(unwritten);
            if let Some(at) = errors.iter().position(StorageError::is_of_all_files) {
                return Err(errors.swap_remove(at));
            }
        }
        Ok(errors)
    }

    async fn held(&self, entries: Vec<(EntryId, Entry)>, chunk_log2: u8) -> Vec<ChunkSet> {
        self.run(move |disk| {
            let call = disk.watch.begin("resume", Subject::Top);
            let held = |(id, entry): &(EntryId, Entry)| {
                call.step("resume", Subject::Path(entry.path.clone()));
                disk.held(*id, entry, chunk_log2)
            };
            entries.iter().map(held).collect()
        })
        .await
    }

    async fn old(&self, paths: Vec<RelPath>) -> Vec<Option<u64>> {
        self.run(move |disk| {
            let mut dirs = Dirs::for_lookup();
            let call = disk.watch.begin("look up", Subject::Top);
            let look = |path: &RelPath| {
                call.step("look up", Subject::Path(path.clone()));
                disk.old_size(&mut dirs, path)
            };
            paths.iter().map(look).collect()
        })
        .await
    }

    async fn read_old(
        &self,
        id: EntryId,
        path: RelPath,
        offset: u64,
        range: Range<usize>,
        mut block: Block,
    ) -> (usize, Block) {
        let disk = Arc::clone(&self.disk);
        self.reads.run(move || (disk.read_old(id, &path, offset, &mut block[range]), block)).await
    }

    async fn holds(&self, id: EntryId, chunks: Vec<ChunkValue>) -> Vec<bool> {
        self.run(move |disk| {
            let call = disk.watch.begin("read", Subject::Staged(id));
            let holds = |chunk: ChunkValue| {
                call.step("read", Subject::Staged(id));
                disk.holds(id, chunk)
            };
            chunks.into_iter().map(holds).collect()
        })
        .await
    }

    async fn checkpoint(&self, entries: Vec<(EntryId, Vec<ChunkValue>)>) -> Vec<Result<bool>> {
        self.run(move |disk| checkpoint(disk, entries)).await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<Committed>> {
        self.run(move |disk| commit_batch(disk, commits)).await
    }

    async fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>) -> Vec<Result<()>> {
        self.run(move |disk| {
            let mut open = Dirs::for_lookup();
            let call = disk.watch.begin("finish", Subject::Top);
            let finish = |(path, meta): &(RelPath, Option<Meta>)| {
                call.step("finish", Subject::Path(path.clone()));
                match &disk.set {
                    Some(set) => disk.add_dir_end(set, path, meta.as_ref()),
                    None => disk.finish_dir(&mut open, path, meta.as_ref()),
                }
            };
            dirs.iter().map(finish).collect()
        })
        .await
    }

    async fn roots(&self, paths: Vec<RelPath>, mut block: Block) -> Vec<Result<blake3::Hash>> {
        // One blocking call for all files that fit the block, and one per block for each larger file.
        let (paths, looked, mut block) = self
            .run(move |disk| {
                let mut dirs = Dirs::for_lookup();
                let mut looked = Vec::with_capacity(paths.len());
                let call = disk.watch.begin("read", Subject::Top);
                for path in &paths {
                    call.step("read", Subject::Path(path.clone()));
                    looked.push(disk.look_into(&mut dirs, path, &mut block));
                }
                (paths, looked, block)
            })
            .await;
        let mut roots = Vec::with_capacity(paths.len());
        for (path, looked) in paths.iter().zip(looked) {
            roots.push(match looked {
                Ok(FinalFile::Small(root)) => Ok(root),
                Ok(FinalFile::Large(file, size)) => {
                    let (root, used) = self.known_root(path, file, size, block).await;
                    block = used;
                    root.map_err(|error| failed("read", self.disk.place(path), error))
                }
                Err(error) => Err(error),
            });
        }
        roots
    }

    async fn discard(&self, id: EntryId) {
        self.run(move |disk| {
            let _call = disk.watch.begin("remove", Subject::Staged(id));
            disk.discard(id);
        })
        .await;
    }

    async fn give_up(&self, id: EntryId) {
        self.run(move |disk| {
            let _call = disk.watch.begin("remove", Subject::Staged(id));
            disk.give_up(id);
        })
        .await;
    }

    async fn extras(&self, announced: Option<Arc<Announced>>) -> Result<(Vec<Extra>, u64)> {
        self.run(move |disk| {
            let call = disk.watch.begin("list", Subject::Top);
            disk.find_extras(&call, announced)
        })
        .await
    }

    async fn note_extras(&self, extras: Vec<Extra>) -> Result<()> {
        self.run(move |disk| {
            let _call = disk.watch.begin("stage", Subject::Top);
            disk.note_extras(&extras)
        })
        .await
    }

    async fn remove_extras(&self, backup: Option<RelPath>) -> Result<Removed> {
        self.run(move |disk| {
            let call = disk.watch.begin("remove", Subject::Top);
            disk.remove_extras(&call, backup.as_ref())
        })
        .await
    }

    async fn finish(&self) -> Result<Vec<NotKept>> {
        self.run(|disk| {
            let call = disk.watch.begin("sync", Subject::Top);
            let revealed = disk.set.as_ref().map_or(Ok(()), |set| disk.finish_set(set, &call));
            call.step("sync", Subject::Top);
            disk.close_all();
            let synced = revealed.and_then(|()| if disk.sync { disk.sync_last() } else { Ok(()) });
            disk.end_staging(synced.is_ok());
            synced?;
            disk.finish_top()?;
            Ok(mem::take(&mut *disk.not_kept()))
        })
        .await
    }

    async fn abort(&self) {
        self.run(|disk| {
            disk.close_all();
            disk.end_staging(false);
        })
        .await;
    }

    fn set_top(&self, meta: Meta) {
        // Whoever sends to a directory that is not theirs changes what is in it only.
        if self.disk.incoming.privileged {
            *self.disk.top.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta);
        }
    }

    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)> {
        let (op, subject) = self.disk.watch.hanging(limit)?;
        let (place, id) = match subject {
            Subject::Top => (self.disk.place_of_top(), None),
            Subject::Path(path) => (self.disk.place(&path), None),
            Subject::Staged(id) => (self.disk.place_staged(id), Some(id)),
        };
        Some((StorageError { op, place, source: hangs(limit), entry: id }, id))
    }

    fn place(&self, path: &RelPath) -> Place {
        self.disk.place(path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::protocol::wire::limits::BLOCK_BYTES;
    use crate::storage::block::{BlockCount, BlockPool};
    use crate::testing::disk::incoming;

    /// Three pieces of a sparse file arrive together. While they wait for the only thread, one more piece of the file
    /// arrives and waits for its turn.
    #[test]
    fn fault_10_writes_that_wait_for_their_turn_hold_no_thread() {
        let temp = tempfile::tempdir().unwrap();
        let target = FsTarget::new(temp.path(), incoming(1, false), NetworkThreads::new(1)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let written = runtime.block_on(async {
            let pool = BlockPool::new(2, BlockCount::default());
            let piece = |offset| Write { id: EntryId(0), offset, range: 0..4, whole: None };
            target.write(vec![piece(0)], pool.acquire().await).await.unwrap();
            let (let_go, held) = mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || held.recv().unwrap());
            let several = target.write(vec![piece(0), piece(8), piece(16)], pool.acquire().await);
            let one = target.write(vec![piece(24)], pool.acquire().await);
            let free = async { let_go.send(()).unwrap() };
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(several, one, free, busy) })
                .await
        });
        runtime.shutdown_background();
        let (several, one, ..) = written.expect("each waits for the other");
        assert!(several.is_ok() && one.is_ok());
    }

    /// The file has a root that is not its own, so whoever reads it finds another one.
    #[tokio::test]
    async fn attack_16_a_large_file_is_read_once_until_it_changes() {
        let temp = tempfile::tempdir().unwrap();
        let (name, path) = (RelPath::new(b"file").unwrap(), temp.path().join("file"));
        let content = vec![7; BLOCK_BYTES + 1];
        std::fs::write(&path, &content).unwrap();
        let target = FsTarget::new(temp.path(), incoming(1, false), NetworkThreads::new(1)).unwrap();
        let pool = BlockPool::new(1, BlockCount::default());
        let reading = Reading::of(&std::fs::metadata(&path).unwrap());
        let (known, later) = (blake3::hash(b"other"), SystemTime::now() + Duration::from_secs(60));
        target.disk.known_roots.keep(reading, reading, later, known);
        let root = async || target.roots(vec![name.clone()], pool.acquire().await).await.remove(0).unwrap();
        assert_eq!(root().await, known);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        assert_eq!(root().await, blake3::hash(&content), "it has another change time");
    }
}
