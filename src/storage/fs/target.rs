//! The receiver's disk: what comes before an entry is complete. `commit` has the rest.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{self, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, access, fchmod, fstat, fsync, futimens, mkdirat, openat,
    statat,
};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::calls::{Calls, blocking};
use super::commit::commit_batch;
use super::descriptors::{patiently, share};
use super::dirs::{Blocked, Dirs, open_dir};
use super::existing::{look_at_file, look_at_link, update};
use super::origin::open_file;
use super::staging::{Lacks, Staging, unless_lacking};
use super::volumes::{Synced, Volume, VolumeId, Volumes};
use super::watch::{Subject, Watch, hangs};
use super::{MODE_BITS, SPECIAL_BITS, failed, is_lacking, size_of, timestamps};
use crate::protocol::not_kept::{self, Aspect, NotKept};
use crate::protocol::path::{RelPath, STAGING_DIR, printable};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::storage::block::Block;
use crate::storage::{Admission, Commit, Committed, OnConflict, Result, StorageError, Target, Write};

/// Directories that are opened up at the same time; more of them stay as they are.
const OPENED_MAX: usize = 16 * 1024;
/// A directory that is there.
const THERE: Admission = Admission::Same { number: 0, is_current: true };
/// Pieces of large files that are written at once, each to an open file.
const PIECES_AT_ONCE: usize = 64;

/// A directory of the file system. What is staged is removed when the last use of it ends.
pub struct FsTarget {
    shared: Arc<Shared>,
    calls: Calls,
    /// Files that pieces are being written to.
    pieces: Semaphore,
}

pub(super) struct Shared {
    /// The target directory as an absolute path, safe to print, without a slash at the end.
    dir: String,
    pub(super) root: Arc<OwnedFd>,
    transfer: String,
    pub(super) watch: Watch,
    pub(super) volumes: Volumes,
    pub(super) sync: bool,
    /// What the disks do not keep.
    not_kept: Mutex<Vec<NotKept>>,
    /// Directories that were there and were opened up, and the permission bits to give back to each.
    opened: Mutex<HashMap<RelPath, Mode>>,
}

/// Whether `dir` can be a target as far as can be seen without making anything: it, or the nearest directory above
/// it that exists, is a directory that this process may write to.
pub fn check_target(dir: &Path) -> Result<()> {
    let whole = path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let shown = || Place::target_directory(printable(whole.as_os_str().as_bytes()));
    for part in whole.ancestors() {
        match fs::metadata(part) {
            Ok(there) if !there.is_dir() => return Err(failed("write to", shown(), Errno::NOTDIR)),
            Ok(_) => {
                return access(part, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|errno| failed("write to", shown(), errno));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", shown(), error)),
        }
    }
    Ok(())
}

impl FsTarget {
    /// Opens `dir`, which is made with its parents when it is missing, and makes a place in it for what the
    /// transfer named `transfer` (32 lower-case hexadecimal digits) has not completed yet. Places that receivers
    /// before left behind are removed. Without `sync` nothing is synced.
    ///
    /// Fails when `dir` cannot be made or opened, or when its `.towline` is anything but a directory.
    pub fn new(dir: &Path, transfer: &str, sync: bool) -> Result<Self> {
        let whole = path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let shown = printable(whole.as_os_str().as_bytes());
        let failed = |op, error: io::Error| failed(op, Place::target_directory(shown.clone()), error);
        fs::create_dir_all(dir).map_err(|error| failed("create", error))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        // One that may not be listed can still be written to.
        let root = match openat(CWD, dir, OFlags::RDONLY | flags, Mode::empty()) {
            Err(Errno::ACCESS) => openat(CWD, dir, OFlags::PATH | flags, Mode::empty()),
            opened => opened,
        };
        let root = Arc::new(root.map_err(|errno| failed("open", errno.into()))?);
        let id = VolumeId::of(&root).map_err(|errno| failed("look at", errno.into()))?;
        let shared = Shared {
            dir: shown.trim_end_matches('/').to_owned(),
            volumes: Volumes::new(Volume::new(id, Arc::clone(&root), String::new(), sync), sync),
            root,
            transfer: transfer.to_owned(),
            watch: Watch::default(),
            sync,
            not_kept: Mutex::default(),
            opened: Mutex::default(),
        };
        // At once, so that what makes it impossible is said before anything travels.
        shared
            .volumes
            .root()
            .staging(transfer)
            .map_err(|error| super::failed("stage files in", shared.place_of_staging(), error))?;
        let pieces = Semaphore::new(share(PIECES_AT_ONCE));
        Ok(Self { shared: Arc::new(shared), calls: Calls::default(), pieces })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }

    /// Writes a piece of a large file.
    async fn write_piece(
        &self,
        id: EntryId,
        offset: u64,
        range: Range<usize>,
        block: Block,
    ) -> io::Result<Block> {
        // What waits for a descriptor holds a thread, and those that have one need a thread to give it back.
        let _piece = self.pieces.acquire().await;
        let open = self.shared.volumes.of(id).find_staging().and_then(|staging| staging.find_open(id));
        let file = match open {
            Some(file) => file,
            None => {
                let open = move |shared: &Shared| {
                    let _call = shared.watch.begin("open", Subject::Staged(id));
                    shared.staging(id)?.open(id)
                };
                self.run(open).await?
            }
        };
        let _turn = file.turn().await;
        let (staged, shared) = (Arc::clone(&file), Arc::clone(&self.shared));
        let write = move || {
            let _call = shared.watch.begin("write", Subject::Staged(id));
            staged.write_at(&block[range], offset).map(|()| block)
        };
        self.calls.block(write).await
    }

    /// The BLAKE3 root of the first `size` bytes of a file, and the block that they went through.
    async fn large_root(
        &self,
        path: &RelPath,
        file: File,
        size: u64,
        mut block: Block,
    ) -> (io::Result<blake3::Hash>, Block) {
        let file = Arc::new(file);
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let len = usize::try_from(size - at).unwrap_or(block.len()).min(block.len());
            let open = Arc::clone(&file);
            let (shared, subject) = (Arc::clone(&self.shared), Subject::Path(path.clone()));
            let call = move || {
                let _call = shared.watch.begin("read", subject);
                (open.read_exact_at(&mut block[..len], at), block)
            };
            let (read, used) = self.calls.block(call).await;
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
    async fn admit(&self, entries: Vec<(EntryId, Entry)>, on_conflict: OnConflict) -> Vec<Admission> {
        self.run(move |shared| {
            let mut dirs = Dirs::for_lookup();
            let call = shared.watch.begin("look up", Subject::Top);
            let admit = |(id, entry): &(EntryId, Entry)| {
                let op = if entry.kind == Kind::Dir { "create" } else { "look up" };
                call.step(op, Subject::Path(entry.path.clone()));
                shared.admit(&mut dirs, *id, entry, on_conflict)
            };
            entries.iter().map(admit).collect()
        })
        .await
    }

    async fn update(&self, entries: Vec<Entry>) -> Vec<Result<bool>> {
        self.run(move |shared| {
            let mut dirs = Dirs::for_lookup();
            let call = shared.watch.begin("update", Subject::Top);
            let update = |entry: &Entry| {
                call.step("update", Subject::Path(entry.path.clone()));
                shared.update(&mut dirs, entry)
            };
            entries.iter().map(update).collect()
        })
        .await
    }

    async fn write(&self, writes: Vec<Write>, block: Block) -> Result<Block> {
        if let [Write { id, offset, range, whole: None }] = writes.as_slice() {
            let written = self.write_piece(*id, *offset, range.clone(), block).await;
            return written.map_err(|error| failed("write", self.shared.place_staged(*id), error));
        }
        self.run(move |shared| {
            let call = shared.watch.begin("write", Subject::Top);
            for Write { id, offset, range, whole } in writes {
                call.step("write", Subject::Staged(id));
                let written = shared.staging(id).and_then(|staging| match whole {
                    Some(meta) => staging.write_whole(id, &block[range], &meta, shared.sync),
                    None => staging.write(id, offset, &block[range]),
                });
                written.map_err(|error| failed("write", shared.place_staged(id), error))?;
            }
            Ok(block)
        })
        .await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Committed> {
        self.run(move |shared| commit_batch(shared, commits)).await
    }

    async fn finish_dirs(&self, dirs: Vec<(RelPath, Option<Meta>)>) -> Vec<Result<()>> {
        self.run(move |shared| {
            let mut open = Dirs::for_lookup();
            let call = shared.watch.begin("finish", Subject::Top);
            let finish = |(path, meta): &(RelPath, Option<Meta>)| {
                call.step("finish", Subject::Path(path.clone()));
                shared.finish_dir(&mut open, path, meta.as_ref())
            };
            dirs.iter().map(finish).collect()
        })
        .await
    }

    async fn roots(&self, paths: Vec<RelPath>, mut block: Block) -> Vec<Result<blake3::Hash>> {
        // One hop for all that fit the block; a large file takes one for each block.
        let (paths, looked, mut block) = self
            .run(move |shared| {
                let mut dirs = Dirs::for_lookup();
                let mut looked = Vec::with_capacity(paths.len());
                let call = shared.watch.begin("read", Subject::Top);
                for path in &paths {
                    call.step("read", Subject::Path(path.clone()));
                    looked.push(shared.look_into(&mut dirs, path, &mut block));
                }
                (paths, looked, block)
            })
            .await;
        let mut roots = Vec::with_capacity(paths.len());
        for (path, looked) in paths.iter().zip(looked) {
            roots.push(match looked {
                Ok(Content::Small(root)) => Ok(root),
                Ok(Content::Large(file, size)) => {
                    let (root, used) = self.large_root(path, file, size, block).await;
                    block = used;
                    root.map_err(|error| failed("read", self.shared.place(path), error))
                }
                Err(error) => Err(error),
            });
        }
        roots
    }

    async fn discard(&self, id: EntryId) {
        self.run(move |shared| {
            let _call = shared.watch.begin("remove", Subject::Staged(id));
            shared.discard(id);
        })
        .await;
    }

    async fn finish(&self) -> Result<Vec<NotKept>> {
        self.run(|shared| {
            let _call = shared.watch.begin("sync", Subject::Top);
            shared.close_all();
            let synced = if shared.sync { shared.sync_last() } else { Ok(()) };
            shared.volumes.remove_staging();
            synced?;
            Ok(mem::take(&mut *shared.not_kept()))
        })
        .await
    }

    async fn abort(&self) {
        self.run(|shared| {
            shared.close_all();
            shared.volumes.remove_staging();
        })
        .await;
    }

    fn hanging(&self, limit: Duration) -> Option<(StorageError, Option<EntryId>)> {
        let (op, subject) = self.shared.watch.hanging(limit)?;
        let (place, id) = match subject {
            Subject::Top => (Place::target_directory(self.shared.dir.clone()), None),
            Subject::Path(path) => (self.shared.place(&path), None),
            Subject::Staged(id) => (self.shared.place_staged(id), Some(id)),
        };
        Some((StorageError { op, place, source: hangs(limit) }, id))
    }

    fn place(&self, path: &RelPath) -> Place {
        self.shared.place(path)
    }
}

impl Shared {
    pub(super) fn place(&self, path: &RelPath) -> Place {
        Place::below(&self.dir, path)
    }

    fn place_staged(&self, id: EntryId) -> Place {
        let volume = self.volumes.of(id);
        let own = format!("{}/{}{STAGING_DIR}/{}/{}", self.dir, volume.path, self.transfer, id.0);
        Place::new(own, "a staged file")
    }

    fn place_of_staging(&self) -> Place {
        Place::target_directory(format!("{}/{STAGING_DIR}", self.dir))
    }

    /// A directory under the target, by its path there; none is the target itself.
    fn place_of_dir(&self, path: &str) -> Place {
        if path.is_empty() {
            return Place::target_directory(self.dir.clone());
        }
        Place::new(format!("{}/{path}", self.dir), path)
    }

    /// Where `id` is staged.
    pub(super) fn staging(&self, id: EntryId) -> io::Result<Arc<Staging>> {
        self.volumes.of(id).staging(&self.transfer)
    }

    /// Drops what is staged of `id`, if anything is.
    pub(super) fn discard(&self, id: EntryId) {
        if let Some(staging) = self.volumes.of(id).made_staging() {
            staging.discard(id);
        }
    }

    /// An entry has its final name.
    pub(super) fn named(&self, id: EntryId) {
        if let Some(staging) = self.volumes.of(id).made_staging() {
            staging.named(id);
        }
    }

    /// Something about `path` is not kept.
    pub(super) fn note(&self, aspect: Aspect, path: &str, errno: Errno) {
        not_kept::note(&mut self.not_kept(), aspect, path, errno);
    }

    fn not_kept(&self) -> MutexGuard<'_, Vec<NotKept>> {
        self.not_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blocked(&self, blocked: Blocked) -> StorageError {
        failed("open", self.place_of_dir(&printable(&blocked.dir)), blocked.errno)
    }

    /// Whatever the syncs of commits left.
    fn sync_last(&self) -> Result<()> {
        for volume in self.volumes.all() {
            let path = volume.path.trim_end_matches('/');
            match volume.sync_last() {
                Ok(Synced::Yes) => {}
                Ok(Synced::Lacking(errno)) => {
                    self.note(Aspect::Sync, if path.is_empty() { "." } else { path }, errno)
                }
                Err(errno) => return Err(failed("sync", self.place_of_dir(path), errno)),
            }
        }
        Ok(())
    }

    fn admit(&self, dirs: &mut Dirs, id: EntryId, entry: &Entry, on_conflict: OnConflict) -> Admission {
        // Also of directories: what is made on a volume is synced at the end.
        let entered = dirs.volume(&self.root, &self.volumes, &entry.path).and_then(|volume| {
            let far = |errno| Blocked { dir: entry.path.as_bytes().to_vec(), errno };
            self.volumes.enter(id, &volume).map_err(far)
        });
        if let Err(blocked) = entered {
            return admission(self.blocked(blocked));
        }
        let (holder, name) = match dirs.parent(&self.root, &entry.path) {
            Ok(found) => found,
            Err(blocked) => return admission(self.blocked(blocked)),
        };
        let admitted = match &entry.kind {
            Kind::Dir => self.admit_dir(&holder, name, entry),
            Kind::DirEnd => Ok(THERE),
            Kind::File { size } => look_at_file(&holder, name, entry, *size, on_conflict),
            Kind::Symlink { target } => look_at_link(&holder, name, entry, target, on_conflict),
        };
        admitted.unwrap_or_else(|errno| {
            let op = if entry.kind == Kind::Dir { "create" } else { "look up" };
            admission(failed(op, self.place(&entry.path), errno))
        })
    }

    fn update(&self, dirs: &mut Dirs, entry: &Entry) -> Result<bool> {
        let (holder, name) = dirs.parent(&self.root, &entry.path).map_err(|blocked| self.blocked(blocked))?;
        let mut lacks = Lacks::new();
        let updated = update(&holder, name, entry, &mut lacks)
            .map_err(|error| failed("set mode and time of", self.place(&entry.path), error))?;
        lacks.into_iter().for_each(|(aspect, errno)| self.note(aspect, &entry.path.to_string(), errno));
        Ok(updated)
    }

    fn finish_dir(&self, dirs: &mut Dirs, path: &RelPath, meta: Option<&Meta>) -> Result<()> {
        let before = self.opened().remove(path);
        if meta.is_none() && before.is_none() && !(self.sync && self.volumes.may_lack_syncfs()) {
            return Ok(());
        }
        let (holder, name) = dirs.parent(&self.root, path).map_err(|blocked| self.blocked(blocked))?;
        let fd = open_dir(&holder, name, OFlags::RDONLY)
            .map_err(|errno| failed("open", self.place(path), errno))?;
        let there = fstat(&fd).map_err(|errno| failed("look at", self.place(path), errno))?;
        // Set-id and sticky bits do not travel: those that the directory has, or got from the one that it is in, stay.
        let bits = Mode::from_raw_mode(there.st_mode & SPECIAL_BITS);
        let mode = meta.map(|meta| Mode::from_raw_mode(meta.mode & MODE_BITS)).or(before);
        let mut lacks = Lacks::new();
        // Many a new one has them already, also where they cannot be set.
        let wanted = mode.map(|mode| mode | bits);
        if let Some(mode) =
            wanted.filter(|mode| mode.as_raw_mode() != there.st_mode & (MODE_BITS | SPECIAL_BITS))
        {
            unless_lacking(fchmod(&fd, mode), Aspect::Mode, &mut lacks)
                .map_err(|errno| failed("set the mode of", self.place(path), errno))?;
        }
        if let Some(meta) = meta {
            unless_lacking(futimens(&fd, &timestamps(meta.mtime)), Aspect::Time, &mut lacks)
                .map_err(|errno| failed("set the time of", self.place(path), errno))?;
        }
        self.sync_dir(dirs, path, &fd, &mut lacks)?;
        lacks.into_iter().for_each(|(aspect, errno)| self.note(aspect, &path.to_string(), errno));
        Ok(())
    }

    /// Syncs a directory by itself, if the sync at the end will not do it.
    fn sync_dir(&self, dirs: &mut Dirs, path: &RelPath, fd: &OwnedFd, lacks: &mut Lacks) -> Result<()> {
        if !self.sync {
            return Ok(());
        }
        let volume = dirs.volume(&self.root, &self.volumes, path).map_err(|blocked| self.blocked(blocked))?;
        if volume.lacks_syncfs()
            && let Synced::Lacking(errno) =
                volume.sync(fd).map_err(|errno| failed("sync", self.place(path), errno))?
        {
            lacks.push((Aspect::Sync, errno));
        }
        Ok(())
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<RelPath, Mode>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back their permission bits to the directories that were opened up and have not come to their end.
    fn close_all(&self) {
        let opened = mem::take(&mut *self.opened());
        let mut dirs = Dirs::for_lookup();
        for (path, mode) in opened {
            if let Ok((holder, name)) = dirs.parent(&self.root, &path)
                && let Ok(dir) = open_dir(&holder, name, OFlags::RDONLY)
                && let Ok(stat) = fstat(&dir)
            {
                // Best effort: whoever took the directory away meanwhile has it.
                let _ = fchmod(&dir, mode | Mode::from_raw_mode(stat.st_mode & SPECIAL_BITS));
            }
        }
    }

    fn admit_dir(
        &self,
        holder: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> std::result::Result<Admission, Errno> {
        let mode = Mode::from_raw_mode(entry.meta.mode & MODE_BITS) | Mode::RWXU;
        match mkdirat(holder, name, mode) {
            Ok(()) => return Ok(Admission::Free),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let stat = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Admission::Conflict);
        }
        let there = Mode::from_raw_mode(stat.st_mode & MODE_BITS);
        if !there.contains(Mode::WUSR | Mode::XUSR) {
            self.open_up(holder, name, &entry.path);
        }
        Ok(THERE)
    }

    /// Makes a directory that is there, and may be read-only as the one sent is, writable until its end. If that does
    /// not work, what goes into it will say so.
    fn open_up(&self, holder: &OwnedFd, name: &[u8], path: &RelPath) {
        let mut opened = self.opened();
        if opened.len() >= OPENED_MAX || opened.contains_key(path) {
            return;
        }
        let Ok(dir) = open_dir(holder, name, OFlags::RDONLY) else { return };
        let Ok(stat) = fstat(&dir) else { return };
        let there = Mode::from_raw_mode(stat.st_mode & (MODE_BITS | SPECIAL_BITS));
        // Before the call, so that a receiver that is told to stop meanwhile gives it back.
        opened.insert(path.clone(), Mode::from_raw_mode(stat.st_mode & MODE_BITS));
        if fchmod(&dir, there | Mode::RWXU).is_err() {
            opened.remove(path);
        }
    }

    /// Reads the regular file under a final name through `buffer`, if it fits.
    fn look_into(&self, dirs: &mut Dirs, path: &RelPath, buffer: &mut [u8]) -> Result<Content> {
        let file = self.open_final(dirs, path)?;
        let mut read = || -> io::Result<std::result::Result<blake3::Hash, u64>> {
            let stat = fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it is no regular file"));
            }
            let size = size_of(&stat);
            match usize::try_from(size).ok().and_then(|len| buffer.get_mut(..len)) {
                Some(bytes) => file.read_exact_at(bytes, 0).map(|()| Ok(blake3::hash(bytes))),
                None => Ok(Err(size)),
            }
        };
        let content = read();
        if self.volumes.syncs_one_by_one() {
            // It may have been written without a sync.
            match fsync(&file) {
                Ok(()) => {}
                Err(errno) if is_lacking(errno) || errno == Errno::BADF => {
                    self.note(Aspect::Sync, &path.to_string(), errno);
                }
                Err(errno) => return Err(failed("sync", self.place(path), errno)),
            }
        }
        match content {
            Ok(Ok(root)) => Ok(Content::Small(root)),
            Ok(Err(size)) => Ok(Content::Large(file, size)),
            Err(error) => Err(failed("read", self.place(path), error)),
        }
    }

    /// Opens what is under a final name, to read it.
    fn open_final(&self, dirs: &mut Dirs, path: &RelPath) -> Result<File> {
        let (holder, name) = dirs.parent(&self.root, path).map_err(|blocked| self.blocked(blocked))?;
        patiently(|| open_file(&holder, name), || dirs.release())
            .map_err(|errno| failed("open", self.place(path), errno))
    }
}

/// What one look into a file under a final name gives.
enum Content {
    /// Its root.
    Small(blake3::Hash),
    /// It is larger than the block: the open file, and its size.
    Large(File, u64),
}

fn admission(error: StorageError) -> Admission {
    match &error {
        _ if error.is_refusal() => Admission::Refused(error),
        _ if error.is_denial() => Admission::Denied(error),
        _ => Admission::Failed(error),
    }
}
