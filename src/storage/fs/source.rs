//! The sender's disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Stat, fstat, statat};

use super::attributes::{identity_of, may_be_wrong, size_of};
use super::blocking::blocking;
use super::calls::{BlockCalls, NetworkThreads};
use super::descriptors::{OpenFiles, patiently, share};
use super::dirs::Dirs;
use super::lacking::lacks;
use super::moving::{Found, Remaining, Version, remove_file};
use super::open::open_file;
use super::origin::{Bases, Origin, Origins, all_missing, shown};
use super::read_attributes::AttributeReader;
use super::selection::Selection;
use super::sys::holes::{data, find_runs};
use super::walk::{TreeWalk, WalkContext};
use super::watch::{DiskWatch, Subject, hangs};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Kind};
use crate::protocol::wire::limits::RUNS_MAX;
use crate::protocol::wire::record::Run;
use crate::storage::block::Block;
use crate::storage::error::failed;
use crate::storage::source::{SmallBatch, Source, Verdict, Walk, Walked};

/// Files kept open.
const OPEN_MAX: usize = 64;
/// Bytes compared at once when a small file is read again.
const AGAIN_BYTES: usize = 8 * 1024;

/// Files, directories and links of the file system, named by the user.
#[derive(Clone)]
pub struct FsSource {
    disk: Arc<SourceDisk>,
}

struct SourceDisk {
    origins: Origins,
    selection: Selection,
    attributes: AttributeReader,
    /// Entries that the selection has left out; what is in a directory counts with it.
    left_out: AtomicU64,
    /// Sources that cannot be sent, as the user wrote them.
    missing: Vec<(String, Failure)>,
    /// By device and inode.
    files: Mutex<OpenFiles<(u64, u64), File>>,
    watch: DiskWatch,
    /// What the walk has found, if it will be removed.
    found: OnceLock<Found>,
    /// Reads of blocks.
    reads: BlockCalls,
}

/// A walk over the trees of an [`FsSource`].
pub struct FsWalk {
    disk: Arc<SourceDisk>,
    walk: Arc<Mutex<TreeWalk>>,
}

/// An opened file of an [`FsSource`]. Cheap to keep: its descriptor is closed when others need one, and the file is
/// opened again for reading.
pub struct FsFile {
    seen: Arc<Seen>,
    /// Fewer blocks are stored than the size requires.
    is_sparse: bool,
    /// The descriptor of a file of unknown size, which is read from one opening; until its last byte has been read.
    held: Mutex<Option<Arc<File>>>,
}

/// The file as it was when opened first.
struct Seen {
    entry: Entry,
    /// Device and inode.
    identity: (u64, u64),
    disk: Arc<SourceDisk>,
}

impl FsFile {
    fn held(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let closed = self.disk.files().remove(&self.identity);
        drop(closed);
    }
}

impl FsSource {
    /// Checks all `sources`. Each is a file or a directory, or a link to one, and is sent under its base name. A
    /// source that is missing, unreadable or of another kind is reported by the walk.
    ///
    /// Fails when no source is left, or when two have the same name.
    pub fn new(sources: &[PathBuf], network: NetworkThreads) -> Result<Self, Failure> {
        Self::select(sources, Selection::default(), network)
    }

    /// The same, of which only a selection is sent.
    pub fn select(
        sources: &[PathBuf],
        selection: Selection,
        network: NetworkThreads,
    ) -> Result<Self, Failure> {
        let bases = Arc::new(Bases::default());
        let mut origins = Origins::default();
        let mut missing = Vec::new();
        for source in sources {
            let located = match selection.is_of_contents() {
                true => Origin::locate_contents(source, &bases),
                false => Origin::locate(source, &bases),
            };
            match located {
                Ok(origin) => origins.add(origin)?,
                Err(failure) => missing.push((shown(source), failure)),
            }
        }
        if origins.all().is_empty() {
            let failures: Vec<_> = missing.iter().map(|(_, failure)| failure.clone()).collect();
            if let Some(failure) = all_missing(&failures) {
                return Err(failure);
            }
        }
        let disk = SourceDisk {
            origins,
            attributes: AttributeReader::new(selection.fidelity()),
            selection,
            left_out: AtomicU64::new(0),
            missing,
            files: Mutex::new(OpenFiles::new(share(OPEN_MAX))),
            watch: DiskWatch::default(),
            found: OnceLock::new(),
            reads: BlockCalls::new(network),
        };
        Ok(Self { disk: Arc::new(disk) })
    }

    /// Notes what the walk finds, so that it can be removed after it has arrived. Called before the walk.
    pub fn note_found(&self) -> io::Result<()> {
        // Noted already, if it is set.
        let _ = self.disk.found.set(Found::new()?);
        Ok(())
    }

    /// Entries that the selection has left out; a directory counts as one, with all that is in it.
    pub fn left_out(&self) -> u64 {
        self.disk.left_out.load(Relaxed)
    }

    /// An entry has ended. Returns the file or link as the walk found it, for [`FsSource::remove`].
    pub fn ended(&self, path: &RelPath) -> Option<Version> {
        self.disk.found.get()?.take(path)
    }

    /// A directory did not arrive, so it stays.
    pub fn keep_dir(&self, path: &RelPath) {
        if let Some(found) = self.disk.found.get() {
            found.keep_dir(path);
        }
    }

    /// Removes files and links, each only if it is still the same. One answer for each, in order: whether it was
    /// removed.
    pub async fn remove(&self, files: Vec<(RelPath, Version)>) -> (Vec<bool>, Remaining) {
        self.run(move |disk| {
            let (mut dirs, mut remaining) = (Dirs::for_lookup(), Remaining::default());
            let call = disk.watch.begin("remove", Subject::Top);
            let remove = |(path, version): &(RelPath, Version)| {
                call.step("remove", Subject::Path(path.clone()));
                let removed = remove_file(&disk.origins, &mut dirs, path, *version);
                removed.map_err(|cause| remaining.note(cause, disk.origins.shown(path))).is_ok()
            };
            (files.iter().map(remove).collect(), remaining)
        })
        .await
    }

    /// Removes the directories that arrived and are empty now, contents first. Returns how many, and those that could
    /// not be removed.
    pub async fn remove_dirs(&self) -> io::Result<(u64, Remaining)> {
        let remove = |disk: &SourceDisk| {
            disk.found
                .get()
                .map_or_else(|| Ok(Default::default()), |found| found.remove_dirs(&disk.origins, &disk.watch))
        };
        self.run(remove).await
    }

    /// The descriptor of a file, opened again if it has been closed.
    async fn descriptor(&self, file: &FsFile) -> Result<Arc<File>, Failure> {
        if let Some(open) = self.disk.files().get(&file.seen.identity) {
            return Ok(open);
        }
        let seen = Arc::clone(&file.seen);
        self.run(move |disk| {
            let _call = disk.watch.begin("open", Subject::Path(seen.entry.path.clone()));
            disk.reopen(&seen)
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&SourceDisk) -> T + Send + 'static) -> T {
        let disk = Arc::clone(&self.disk);
        blocking(move || work(&disk)).await
    }
}

impl Source for FsSource {
    type File = FsFile;
    type Walk = FsWalk;

    fn walk(&self) -> FsWalk {
        let walk = Mutex::new(TreeWalk::behind(&self.disk.missing));
        FsWalk { disk: Arc::clone(&self.disk), walk: Arc::new(walk) }
    }

    async fn read_small(&self, files: Vec<Entry>, mut block: Block) -> SmallBatch {
        self.run(move |disk| {
            let mut dirs = Dirs::for_lookup();
            let (mut at, mut grown) = (0, Vec::new());
            let call = disk.watch.begin("read", Subject::Top);
            let mut read = |(place, entry): (usize, Entry)| {
                call.step("read", Subject::Path(entry.path.clone()));
                let bytes = &mut block[at..];
                if disk.read_whole(&mut dirs, &entry, bytes)? == Verdict::Longer {
                    grown.push(place);
                }
                let start = at;
                at += usize::try_from(entry.size()).unwrap_or(0);
                Ok(start..at)
            };
            let files = files.into_iter().enumerate().map(&mut read).collect();
            SmallBatch { block, files, grown }
        })
        .await
    }

    async fn open(&self, entry: Entry) -> Result<FsFile, Failure> {
        let disk = Arc::clone(&self.disk);
        let open = move || {
            let watching = Arc::clone(&disk);
            let _call = watching.watch.begin("open", Subject::Path(entry.path.clone()));
            open(disk, entry)
        };
        blocking(open).await
    }

    async fn runs(&self, file: &FsFile, range: Range<u64>) -> Result<Vec<Run>, Failure> {
        if !file.is_sparse || range.is_empty() {
            return Ok(data(range).into_iter().collect());
        }
        let (open, seen) = (self.descriptor(file).await?, Arc::clone(&file.seen));
        self.run(move |disk| {
            let _call = disk.watch.begin("read", Subject::Path(seen.entry.path.clone()));
            find_runs(&open, range, RUNS_MAX)
                .map_err(|errno| disk.failure("find the holes of", &seen.entry.path, errno))
        })
        .await
    }

    async fn read_at(
        &self,
        file: &FsFile,
        offset: u64,
        len: usize,
        mut block: Block,
    ) -> Result<Block, Failure> {
        let open = self.descriptor(file).await?;
        let (disk, path) = (Arc::clone(&self.disk), file.seen.entry.path.clone());
        let read = self.disk.reads.run(move || {
            let _call = disk.watch.begin("read", Subject::Path(path));
            open.read_exact_at(&mut block[..len], offset).map(|()| block)
        });
        read.await.map_err(|error| self.disk.failure("read", &file.seen.entry.path, error))
    }

    async fn read_on(&self, file: &FsFile, offset: u64, mut block: Block) -> Result<(Block, usize), Failure> {
        let held = file.held().clone();
        let open = match held {
            Some(held) => held,
            None => self.descriptor(file).await?,
        };
        let (disk, path) = (Arc::clone(&self.disk), file.seen.entry.path.clone());
        let read = blocking(move || {
            let _call = disk.watch.begin("read", Subject::Path(path));
            let mut n = 0;
            while n < block.len() {
                match open.read_at(&mut block[n..], offset + n as u64) {
                    Ok(0) => break,
                    Ok(more) => n += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((block, n))
        });
        let read = read.await;
        // Nothing is read after the end or after a failure, so the descriptor is closed now. The receiver may settle
        // the file much later.
        if !matches!(&read, Ok((block, n)) if *n == block.len()) {
            drop(file.held().take());
        }
        read.map_err(|error| self.disk.failure("read", &file.seen.entry.path, error))
    }

    async fn verify(&self, file: &FsFile) -> Result<Verdict, Failure> {
        let seen = Arc::clone(&file.seen);
        self.run(move |disk| {
            let _call = disk.watch.begin("look at", Subject::Path(seen.entry.path.clone()));
            let (entry, origin) = (&seen.entry, disk.origin(&seen.entry.path)?);
            let (holder, name) = origin.parent(&mut Dirs::for_lookup(), &entry.path)?;
            let now = statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| origin.failure("read", &entry.path, errno))?;
            origin.check_identity(&now, &entry.path, seen.identity)?;
            if entry.kind == Kind::OpenEnded {
                return Ok(Verdict::Same);
            }
            origin.check_longer(&now, size_of(&now), entry)
        })
        .await
    }

    async fn lacks(&self, paths: Vec<(RelPath, bool)>) -> Vec<bool> {
        self.run(move |disk| {
            let call = disk.watch.begin("look for", Subject::Top);
            let lacks = |(path, is_dir): &(RelPath, bool)| {
                call.step("look for", Subject::Path(path.clone()));
                lacks(&disk.origins, &disk.selection, path, *is_dir)
            };
            paths.iter().map(lacks).collect()
        })
        .await
    }

    fn hanging(&self, limit: Duration) -> Option<Failure> {
        let (op, subject) = self.disk.watch.hanging(limit)?;
        let place = match &subject {
            Subject::Path(path) => match self.disk.origin(path) {
                Ok(origin) => origin.entry(path),
                Err(_) => Place::from(path),
            },
            _ => self.disk.origins.all().first().map(Origin::own_place)?,
        };
        Some(failed(op, place, hangs(limit)).failure(Side::Sender, Reason::Storage))
    }
}

impl Walk for FsWalk {
    async fn next(&mut self, max: usize) -> Vec<Walked> {
        let (disk, walk) = (Arc::clone(&self.disk), Arc::clone(&self.walk));
        blocking(move || {
            let call = disk.watch.begin("list", Subject::Top);
            let mut walk = walk.lock().unwrap_or_else(PoisonError::into_inner);
            let context = WalkContext {
                origins: disk.origins.all(),
                selection: &disk.selection,
                attributes: &disk.attributes,
                notes: disk.found.get(),
                left_out: &disk.left_out,
            };
            walk.next(&context, max, &call)
        })
        .await
    }
}

impl SourceDisk {
    /// Whether the file that was opened is the one that the walk found, if that is known.
    fn check_found(&self, path: &RelPath, stat: &Stat) -> Result<(), Failure> {
        match self.found.get() {
            Some(found) if found.differs(path, stat) => {
                Err(self.origin(path)?.changed(path, "it was replaced by another file"))
            }
            _ => Ok(()),
        }
    }

    fn origin(&self, path: &RelPath) -> Result<&Origin, Failure> {
        self.origins.of(path)
    }

    fn failure(&self, op: &'static str, path: &RelPath, error: impl Into<io::Error>) -> Failure {
        match self.origin(path) {
            Ok(origin) => origin.failure(op, path, error),
            Err(failure) => failure,
        }
    }

    fn files(&self) -> MutexGuard<'_, OpenFiles<(u64, u64), File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a closed file again.
    fn reopen(&self, seen: &Seen) -> Result<Arc<File>, Failure> {
        let origin = self.origin(&seen.entry.path)?;
        let file = self.open_as_is(&mut Dirs::for_lookup(), &seen.entry)?;
        let stat = fstat(&file).map_err(|errno| origin.failure("read", &seen.entry.path, errno))?;
        origin.check_identity(&stat, &seen.entry.path, seen.identity)?;
        Ok(self.keep(seen.identity, file))
    }

    fn keep(&self, identity: (u64, u64), file: File) -> Arc<File> {
        let file = Arc::new(file);
        let closed = self.files().insert(identity, Arc::clone(&file));
        drop(closed);
        file
    }

    /// Opens the file currently at the path.
    fn open_as_is(&self, dirs: &mut Dirs, entry: &Entry) -> Result<File, Failure> {
        let origin = self.origin(&entry.path)?;
        let (holder, name) = origin.parent(dirs, &entry.path)?;
        let release = || {
            dirs.release();
            let closed = self.files().pop_oldest();
            drop(closed);
        };
        patiently(|| open_file(&holder, name), release)
            .map_err(|errno| origin.failure("open", &entry.path, errno))
    }

    /// Reads a file to the front of `bytes`.
    fn read_whole(&self, dirs: &mut Dirs, entry: &Entry, bytes: &mut [u8]) -> Result<Verdict, Failure> {
        let path = &entry.path;
        let bytes = usize::try_from(entry.size())
            .ok()
            .and_then(|size| bytes.get_mut(..size))
            .ok_or_else(|| Failure::on(Side::Sender, Reason::Internal, format!("{path} is no small file")))?;
        let (file, origin) = (self.open_as_is(dirs, entry)?, self.origin(path)?);
        let read = file.read_exact_at(bytes, 0);
        // One check after reading is enough: a file unchanged then was unchanged before.
        let stat = fstat(&file).map_err(|errno| origin.failure("read", path, errno))?;
        self.check_found(path, &stat)?;
        let size = match &read {
            // Reading shows its length.
            Ok(()) if may_be_wrong(&stat) && is_end(&file, entry.size()) => entry.size(),
            _ => size_of(&stat),
        };
        let verdict = origin.check_longer(&stat, size, entry)?;
        read.map_err(|error| origin.failure("read", path, error))?;
        if verdict == Verdict::Longer {
            let again = reads_same(&file, bytes).map_err(|error| origin.failure("read", path, error))?;
            again.then_some(()).ok_or_else(|| origin.changed(path, "it changed other than by growing"))?;
        }
        Ok(verdict)
    }
}

fn open(disk: Arc<SourceDisk>, entry: Entry) -> Result<FsFile, Failure> {
    let origin = disk.origin(&entry.path)?;
    let file = disk.open_as_is(&mut Dirs::for_lookup(), &entry)?;
    let stat = fstat(&file).map_err(|errno| origin.failure("read", &entry.path, errno))?;
    disk.check_found(&entry.path, &stat)?;
    let is_open_ended = entry.kind == Kind::OpenEnded;
    if !is_open_ended {
        origin.check_longer(&stat, size_of(&stat), &entry)?;
    }
    let is_sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < entry.size();
    let identity = identity_of(&stat);
    let file = disk.keep(identity, file);
    let held = Mutex::new(is_open_ended.then_some(file));
    Ok(FsFile { seen: Arc::new(Seen { entry, identity, disk }), is_sparse, held })
}

/// Whether a file still begins with `bytes`.
fn reads_same(file: &File, bytes: &[u8]) -> io::Result<bool> {
    let mut buffer = [0; AGAIN_BYTES];
    let mut at = 0;
    for piece in bytes.chunks(AGAIN_BYTES) {
        let again = &mut buffer[..piece.len()];
        file.read_exact_at(again, at)?;
        if again != piece {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

/// Whether reading a file at `offset` finds its end.
fn is_end(file: &File, offset: u64) -> bool {
    matches!(file.read_at(&mut [0], offset), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::protocol::wire::entry::Meta;
    use crate::protocol::wire::limits::BLOCK_BYTES;
    use crate::storage::block::{BlockCount, BlockPool};

    /// Fault 1: files that have been read hold no descriptors while they wait for the receiver.
    #[tokio::test]
    async fn fault_1_a_file_of_unknown_size_that_has_been_read_holds_no_descriptor() {
        let (dir, pool) = (TempDir::new().unwrap(), BlockPool::new(1, BlockCount::default()));
        let name = dir.path().join("f");
        let path = RelPath::new(b"f").unwrap();
        for (size, reads) in [(0, 1), (3, 1), (BLOCK_BYTES, 2), (BLOCK_BYTES + 1, 2)] {
            fs::write(&name, vec![7; size]).unwrap();
            let source = FsSource::new(std::slice::from_ref(&name), NetworkThreads::new(1)).unwrap();
            let entry =
                Entry { path: path.clone(), meta: Meta::default(), kind: Kind::OpenEnded, hole_bytes: 0 };
            let file = source.open(entry).await.unwrap();
            let held = Arc::downgrade(file.held().as_ref().unwrap());
            // Other files may take the cached descriptor at any time.
            source.disk.files().clear();
            let mut at = 0;
            for _ in 0..reads {
                assert!(held.upgrade().is_some(), "{size} bytes: it has to be opened again at {at}");
                at += source.read_on(&file, at, pool.acquire().await).await.unwrap().1 as u64;
            }
            assert_eq!(at, size as u64);
            assert!(held.upgrade().is_none(), "{size} bytes: the descriptor is open");
            assert_eq!(source.verify(&file).await.unwrap(), Verdict::Same, "{size} bytes");
        }
    }
}
