//! The sender's disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, seek, statat};
use rustix::io::Errno;

use super::calls::{Calls, blocking};
use super::dirs::Dirs;
use super::walk::Walk;
use super::{failed, meta_of, size_of};
use crate::protocol::entry::Entry;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::limits::RUNS_MAX;
use crate::protocol::path::{RelPath, printable};
use crate::storage::block::Block;
use crate::storage::{Found, Run, SmallBatch, Source};

/// Files, directories and links of the file system, named by a person.
pub struct FsSource {
    shared: Arc<Shared>,
    calls: Calls,
}

struct Shared {
    origins: Vec<Origin>,
    /// Index of the origin that has a name.
    by_name: HashMap<Vec<u8>, usize>,
    walk: Mutex<Walk>,
}

/// One of the sources.
pub(super) struct Origin {
    /// The directory that holds it.
    pub(super) base: Arc<OwnedFd>,
    /// Its name there, which is the first component of all its entries.
    pub(super) path: RelPath,
    /// As the person wrote it, safe to print.
    given: String,
}

/// An open file of an [`FsSource`]. Cheap to keep: a descriptor and what was seen when it was opened.
pub struct FsFile {
    file: Arc<File>,
    entry: Entry,
    /// Device and inode.
    identity: (u64, u64),
    /// Fewer blocks are stored than the size needs.
    is_sparse: bool,
}

impl FsSource {
    /// Looks at all `sources`: each is a file, a directory or a link, sent under its base name. Fails with
    /// `SourceUnreadable` when one is missing, cannot be read, has no name of its own (`/`), or when two have
    /// the same.
    pub fn new(sources: &[PathBuf]) -> Result<Self, Failure> {
        let mut bases = HashMap::new();
        let mut origins: Vec<Origin> = Vec::new();
        let mut by_name = HashMap::new();
        for source in sources {
            let origin = Origin::locate(source, &mut bases)?;
            if let Some(other) = by_name.insert(origin.path.as_bytes().to_vec(), origins.len()) {
                return Err(unusable(format!(
                    "{} and {} would both be sent as {}",
                    origins[other].given, origin.given, origin.path
                )));
            }
            origins.push(origin);
        }
        let shared = Shared { origins, by_name, walk: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), calls: Calls::default() })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }
}

impl Source for FsSource {
    type File = FsFile;

    async fn walk(&self, max: usize) -> Vec<Found> {
        self.run(move |shared| {
            shared.walk.lock().unwrap_or_else(PoisonError::into_inner).next(&shared.origins, max)
        })
        .await
    }

    async fn read_small(&self, files: Vec<Entry>, mut block: Block) -> SmallBatch {
        self.run(move |shared| {
            let mut dirs = Dirs::for_lookup();
            let mut at = 0;
            let mut read = |entry: Entry| {
                let bytes = shared.read_whole(&mut dirs, &entry, &mut block[at..])?;
                at += bytes;
                Ok(at - bytes..at)
            };
            let files = files.into_iter().map(&mut read).collect();
            SmallBatch { block, files }
        })
        .await
    }

    async fn open(&self, entry: Entry) -> Result<FsFile, Failure> {
        self.run(move |shared| shared.open(&mut Dirs::for_lookup(), entry)).await
    }

    async fn runs(&self, file: &FsFile, range: Range<u64>) -> Result<Vec<Run>, Failure> {
        if !file.is_sparse || range.is_empty() {
            return Ok(data(range).into_iter().collect());
        }
        let (open, path) = (Arc::clone(&file.file), file.entry.path.clone());
        self.run(move |shared| {
            find_runs(&open, range, RUNS_MAX)
                .map_err(|errno| shared.failure("find the holes of", &path, errno))
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
        let open = Arc::clone(&file.file);
        let read = self.calls.block(move || open.read_exact_at(&mut block[..len], offset).map(|()| block));
        read.await.map_err(|error| self.shared.failure("read", &file.entry.path, error))
    }

    async fn verify_unchanged(&self, file: &FsFile) -> Result<(), Failure> {
        let (open, entry, identity) = (Arc::clone(&file.file), file.entry.clone(), file.identity);
        self.run(move |shared| {
            shared.check_open(&open, &entry)?;
            let origin = shared.origin(&entry.path)?;
            let (holder, name) = origin.parent(&mut Dirs::for_lookup(), &entry.path)?;
            let now = statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| origin.failure("read", &entry.path, errno))?;
            if identity_of(&now) != identity {
                return Err(origin.changed(&entry.path, "another file has taken its place"));
            }
            origin.check(&now, &entry)
        })
        .await
    }
}

impl Shared {
    fn origin(&self, path: &RelPath) -> Result<&Origin, Failure> {
        let name = path.components().next().unwrap_or_default();
        let index = self.by_name.get(name).copied();
        index
            .map(|index| &self.origins[index])
            .ok_or_else(|| Failure::on(Side::Sender, Reason::Internal, format!("{path} is in no source")))
    }

    fn failure(&self, op: &'static str, path: &RelPath, error: impl Into<io::Error>) -> Failure {
        match self.origin(path) {
            Ok(origin) => origin.failure(op, path, error),
            Err(failure) => failure,
        }
    }

    fn open(&self, dirs: &mut Dirs, entry: Entry) -> Result<FsFile, Failure> {
        let file = self.open_as_is(dirs, &entry)?;
        let stat = self.check_open(&file, &entry)?;
        let is_sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < entry.size();
        Ok(FsFile { file: Arc::new(file), entry, identity: identity_of(&stat), is_sparse })
    }

    /// Opens what is there, whatever it is by now.
    fn open_as_is(&self, dirs: &mut Dirs, entry: &Entry) -> Result<File, Failure> {
        let origin = self.origin(&entry.path)?;
        let (holder, name) = origin.parent(dirs, &entry.path)?;
        // Should a FIFO have taken the file's place, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&holder, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| origin.failure("open", &entry.path, errno))
    }

    /// Reads a file to the front of `bytes` and says how long it is.
    fn read_whole(&self, dirs: &mut Dirs, entry: &Entry, bytes: &mut [u8]) -> Result<usize, Failure> {
        let path = &entry.path;
        let bytes = usize::try_from(entry.size())
            .ok()
            .and_then(|size| bytes.get_mut(..size))
            .ok_or_else(|| Failure::on(Side::Sender, Reason::Internal, format!("{path} is no small file")))?;
        let file = self.open_as_is(dirs, entry)?;
        let read = file.read_exact_at(bytes, 0);
        // One look behind the reading does for both: what is the same then was the same before.
        self.check_open(&file, entry)?;
        read.map_err(|error| self.failure("read", path, error))?;
        Ok(bytes.len())
    }

    fn check_open(&self, file: &File, entry: &Entry) -> Result<Stat, Failure> {
        let origin = self.origin(&entry.path)?;
        let stat = fstat(file).map_err(|errno| origin.failure("read", &entry.path, errno))?;
        origin.check(&stat, entry)?;
        Ok(stat)
    }
}

impl Origin {
    /// Finds out under which name `source` is sent, and opens the directory that holds it. `bases` are the
    /// directories opened so far: `send *` needs one, not one a file.
    fn locate(source: &Path, bases: &mut HashMap<PathBuf, Arc<OwnedFd>>) -> Result<Self, Failure> {
        let given = printable(source.as_os_str().as_bytes());
        let given = if given.len() > 1 { given.trim_end_matches('/').to_owned() } else { given };
        let unreadable = |op, error: io::Error| unusable(failed(op, given.clone(), error).to_string());

        // A name that ends in `/`, `.` or `..` means the directory behind it; any other is taken as it is, so
        // that a link travels as a link.
        let bytes = source.as_os_str().as_bytes();
        let last = bytes.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let resolved = if matches!(last, b"" | b"." | b"..") {
            source.canonicalize().map_err(|error| unreadable("open", error))?
        } else {
            source.to_owned()
        };
        let Some(name) = resolved.file_name() else {
            return Err(unusable(format!("cannot send {given}: it has no name of its own")));
        };
        let path = RelPath::new(name.as_bytes())
            .map_err(|error| unusable(format!("cannot send {given}: {error}")))?;
        let parent = match resolved.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let base = match bases.get(parent) {
            Some(base) => Arc::clone(base),
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let base = openat(CWD, parent, flags, Mode::empty())
                    .map_err(|errno| unreadable("open", errno.into()))?;
                Arc::clone(bases.entry(parent.to_owned()).or_insert(Arc::new(base)))
            }
        };
        check_readable(&base, path.as_bytes()).map_err(|errno| unreadable("open", errno.into()))?;
        Ok(Self { base, path, given })
    }

    /// The path of an entry as the person would write it, safe to print.
    pub(super) fn display(&self, path: &RelPath) -> String {
        let below = &path.as_bytes()[self.path.as_bytes().len()..];
        let given = if self.given == "/" { "" } else { &self.given };
        format!("{given}{}", printable(below))
    }

    /// What the system's `error` about an entry means.
    pub(super) fn failure(&self, op: &'static str, path: &RelPath, error: impl Into<io::Error>) -> Failure {
        let error = error.into();
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            // It was there when the walk came by.
            Some(Errno::NOENT) => self.changed(path, "it is gone"),
            Some(Errno::LOOP | Errno::NOTDIR) => self.changed(path, "something else has taken its place"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => self.changed(path, "it has shrunk"),
            _ => {
                let message = failed(op, self.display(path), error).to_string();
                Failure::on(Side::Sender, Reason::SourceUnreadable, message)
            }
        }
    }

    fn changed(&self, path: &RelPath, how: &str) -> Failure {
        let message = format!("{} has changed while it was sent: {how}", self.display(path));
        Failure::on(Side::Sender, Reason::SourceChanged, message)
    }

    fn parent<'p>(&self, dirs: &mut Dirs, path: &'p RelPath) -> Result<(Arc<OwnedFd>, &'p [u8]), Failure> {
        dirs.parent(&self.base, path).map_err(|blocked| match RelPath::new(&blocked.dir) {
            Ok(dir) => self.failure("open", &dir, blocked.errno),
            Err(_) => self.failure("open", path, blocked.errno),
        })
    }

    /// Whether `stat` is what `entry` says.
    fn check(&self, stat: &Stat, entry: &Entry) -> Result<(), Failure> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            Err(self.changed(&entry.path, "something else has taken its place"))
        } else if size_of(stat) != entry.size() {
            let how = format!("it had {} bytes and has {}", entry.size(), size_of(stat));
            Err(self.changed(&entry.path, &how))
        } else if meta_of(stat).mtime != entry.meta.mtime {
            Err(self.changed(&entry.path, "its modification time is another"))
        } else {
            Ok(())
        }
    }
}

/// Whether a source can be read at all: files and directories are opened, links and the rest only looked at.
fn check_readable(base: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let stat = statat(base, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(base, name, flags, Mode::empty())?;
    }
    Ok(())
}

fn unusable(message: String) -> Failure {
    Failure::on(Side::Sender, Reason::SourceUnreadable, message)
}

fn identity_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn data(range: Range<u64>) -> Option<Run> {
    (!range.is_empty()).then_some(Run { range, is_hole: false })
}

/// Asks the file system where data lies. Past `runs_max` the rest counts as data: more bytes travel, none wrong.
pub(super) fn find_runs(file: impl AsFd, range: Range<u64>, runs_max: usize) -> Result<Vec<Run>, Errno> {
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if runs.len() + 1 >= runs_max {
            runs.extend(data(at..range.end));
            break;
        }
        let data_start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start.clamp(at, range.end),
            Err(Errno::NXIO) => range.end, // no data from here to the end of the file
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at, // this file system does not tell
            Err(errno) => return Err(errno),
        };
        if data_start > at {
            runs.push(Run { range: at..data_start, is_hole: true });
            at = data_start;
            continue;
        }
        let data_end = match seek(&file, SeekFrom::Hole(at)) {
            Ok(end) if end > at => end.min(range.end),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => range.end,
            Err(errno) => return Err(errno),
        };
        runs.extend(data(at..data_end));
        at = data_end;
    }
    Ok(runs)
}
