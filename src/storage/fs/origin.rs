//! The sources named by the user: their places, and the names they are sent under.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::attributes::{identity_of, meta_of};
use super::descriptors::{OpenFiles, patiently, share};
use super::dirs::{Dirs, Top};
use super::open::open_file;
use super::sys::open::LOOKUP;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::{RelPath, printable};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::Entry;
use crate::storage::error::failed;
use crate::storage::source::Verdict;

/// Source directories kept open.
const BASES_OPEN_MAX: usize = 64;

/// One of the sources.
pub(super) struct Origin {
    bases: Arc<Bases>,
    /// Path and identity of its directory.
    base: (PathBuf, (u64, u64)),
    /// Its name there.
    name: Vec<u8>,
    /// Its name for the receiver: the first component of all its entries. `None` if what is in it is sent instead.
    pub(super) path: Option<RelPath>,
    /// As the user wrote it, safe to print.
    pub(super) given: String,
    /// The user named a link to it.
    pub(super) is_link: bool,
}

/// All sources.
#[derive(Default)]
pub(super) struct Origins {
    all: Vec<Origin>,
    /// Index of the origin with this name.
    by_name: HashMap<Vec<u8>, usize>,
}

impl Origins {
    /// Adds `origin`; fails when another one has its name.
    pub(super) fn add(&mut self, origin: Origin) -> Result<(), Failure> {
        if let Some(path) = &origin.path
            && let Some(other) = self.by_name.insert(path.as_bytes().to_vec(), self.all.len())
        {
            let (one, two) = (&self.all[other].given, &origin.given);
            let message = format!("{one} and {two} would both be sent as {path}");
            return Err(Failure::on(Side::Sender, Reason::SourceUnreadable, message));
        }
        self.all.push(origin);
        Ok(())
    }

    pub(super) fn all(&self) -> &[Origin] {
        &self.all
    }

    /// The source of an entry.
    pub(super) fn of(&self, path: &RelPath) -> Result<&Origin, Failure> {
        let name = path.components().next().unwrap_or_default();
        // A source without a name is the only one.
        let is_unnamed = self.all.first().is_some_and(|first| first.path.is_none());
        let index = if is_unnamed { Some(0) } else { self.by_name.get(name).copied() };
        index
            .map(|index| &self.all[index])
            .ok_or_else(|| Failure::on(Side::Sender, Reason::Internal, format!("{path} is in no source")))
    }

    /// The path of an entry, for users here.
    pub(super) fn shown(&self, path: &RelPath) -> String {
        self.of(path).map_or_else(|_| path.to_string(), |origin| origin.entry(path).own().to_owned())
    }
}

/// The directories of the sources. `send */*` names many, so not all are kept open.
pub(super) struct Bases(Mutex<OpenFiles<PathBuf, OwnedFd>>);

impl Default for Bases {
    fn default() -> Self {
        Self(Mutex::new(OpenFiles::new(share(BASES_OPEN_MAX))))
    }
}

impl Bases {
    fn open(&self, path: &Path) -> Result<Arc<OwnedFd>, Errno> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = open.get(path) {
            return Ok(base);
        }
        let flags = LOOKUP | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = patiently(|| openat(CWD, path, flags, Mode::empty()), || drop(open.pop_oldest()))?;
        let base = Arc::new(base);
        drop(open.insert(path.to_owned(), Arc::clone(&base)));
        Ok(base)
    }
}

impl Origin {
    /// Finds the place of `source`, and the name it is sent under.
    pub(super) fn locate(source: &Path, bases: &Arc<Bases>) -> Result<Self, Failure> {
        let given = shown(source);
        let place = place_of(source, &given);
        let unreadable = |error| unreadable(&place, error);

        // A name that ends in `/`, `.` or `..` means the directory itself.
        let last = source.as_os_str().as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
        let named = if matches!(last, b"" | b"." | b"..") {
            source.canonicalize().map_err(unreadable)?
        } else {
            source.to_owned()
        };
        let Some(name) = named.file_name() else {
            return Err(unusable(&place, "it has no name of its own"));
        };
        let path = RelPath::new(name.as_bytes()).map_err(|error| unusable(&place, error))?;

        let real = follow(named.clone(), &place)?;
        let is_link = real != named;
        let parent = match real.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Only `/` has no name.
        let (parent, name) = match real.file_name() {
            Some(name) => (parent, name.as_bytes()),
            None => (real.as_path(), &b"."[..]),
        };
        let base = bases.open(parent).map_err(|errno| unreadable(errno.into()))?;
        let stat = fstat(&base).map_err(|errno| unreadable(errno.into()))?;
        check_readable(&base, name).map_err(|errno| unreadable(errno.into()))?;
        let base = (parent.to_owned(), identity_of(&stat));
        Ok(Self { bases: Arc::clone(bases), base, name: name.to_owned(), path: Some(path), given, is_link })
    }

    /// The same for what is in the directory `source`.
    pub(super) fn locate_contents(source: &Path, bases: &Arc<Bases>) -> Result<Self, Failure> {
        let given = shown(source);
        let place = place_of(source, &given);
        let unreadable = |error| unreadable(&place, error);
        let real = source.canonicalize().map_err(unreadable)?;
        if !real.is_dir() {
            return Err(unusable(&place, "it is no directory, so there is nothing in it"));
        }
        let base = bases.open(&real).map_err(|errno| unreadable(errno.into()))?;
        let stat = fstat(&base).map_err(|errno| unreadable(errno.into()))?;
        check_readable(&base, b".").map_err(|errno| unreadable(errno.into()))?;
        let base = (real, identity_of(&stat));
        Ok(Self { bases: Arc::clone(bases), base, name: b".".to_vec(), path: None, given, is_link: false })
    }

    /// Its directory, and its name there.
    pub(super) fn place(&self) -> Result<(Arc<OwnedFd>, &[u8]), Errno> {
        let (path, identity) = &self.base;
        let base = self.bases.open(path)?;
        // It may have been closed, and another directory may have replaced it.
        if identity_of(&fstat(&base)?) == *identity { Ok((base, &self.name)) } else { Err(Errno::NOENT) }
    }

    /// The device of the source, if it is there.
    pub(super) fn device(&self) -> Option<u64> {
        let (base, name) = self.place().ok()?;
        statat(&base, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_dev)
    }

    /// Where the paths of its entries start, in the directory and under the name of its place.
    pub(super) fn top<'b, 'n>(&self, base: &'b Arc<OwnedFd>, name: &'n [u8]) -> Top<'b, 'n> {
        Top { base, name: self.path.is_some().then_some(name) }
    }

    /// The directory of an entry, and the entry's name there.
    pub(super) fn parent<'p>(
        &'p self,
        dirs: &mut Dirs,
        path: &'p RelPath,
    ) -> Result<(Arc<OwnedFd>, &'p [u8]), Failure> {
        let (base, name) = self.place().map_err(|errno| self.failure("open", path, errno))?;
        dirs.parent_below(self.top(&base, name), path).map_err(|blocked| match RelPath::new(&blocked.dir) {
            Ok(dir) => self.failure("open", &dir, blocked.errno),
            Err(_) => self.failure("open", path, blocked.errno),
        })
    }

    /// The place of an entry: its path as the user would write it, and the path sent.
    pub(super) fn entry(&self, path: &RelPath) -> Place {
        let given = if self.given == "/" { "" } else { &self.given };
        let below = printable(path.as_bytes().get(self.start()..).unwrap_or_default());
        let slash = if below.is_empty() { "" } else { "/" };
        Place::new(format!("{given}{slash}{below}"), path.to_string())
    }

    /// Where the part of an entry's path begins that is relative to this source.
    pub(super) fn start(&self) -> usize {
        // Behind the slash, which the source itself does not have.
        self.path.as_ref().map_or(0, |path| path.as_bytes().len() + 1)
    }

    /// The place of the source.
    pub(super) fn own_place(&self) -> Place {
        match &self.path {
            Some(path) => self.entry(path),
            None => Place::new(self.given.clone(), "the source".to_owned()),
        }
    }

    /// The meaning of the system's `error` for an entry.
    pub(super) fn failure(&self, op: &'static str, path: &RelPath, error: impl Into<io::Error>) -> Failure {
        let error = error.into();
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            // It existed during the walk.
            Some(Errno::NOENT) => self.disappeared(path),
            Some(Errno::LOOP | Errno::NOTDIR) => self.changed(path, "it was replaced"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => self.changed(path, "it shrank"),
            _ => failed(op, self.entry(path), error).failure(Side::Sender, Reason::SourceUnreadable),
        }
    }

    fn disappeared(&self, path: &RelPath) -> Failure {
        let sentence = |path: &str| format!("{path} disappeared while being sent");
        Failure::about(Side::Sender, Reason::SourceChanged, &self.entry(path), sentence)
    }

    pub(super) fn changed(&self, path: &RelPath, how: &str) -> Failure {
        let sentence = |path: &str| format!("{path} changed while being sent: {how}");
        Failure::about(Side::Sender, Reason::SourceChanged, &self.entry(path), sentence)
    }

    /// Whether `stat` is the file opened first.
    pub(super) fn check_identity(
        &self,
        stat: &Stat,
        path: &RelPath,
        identity: (u64, u64),
    ) -> Result<(), Failure> {
        if identity_of(stat) == identity {
            return Ok(());
        }
        Err(self.changed(path, "it was replaced by another file"))
    }

    /// Whether `stat`, of a file of `size` bytes, matches `entry`, or is longer.
    pub(super) fn check_longer(&self, stat: &Stat, size: u64, entry: &Entry) -> Result<Verdict, Failure> {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && size > entry.size() {
            return Ok(Verdict::Longer);
        }
        self.check(stat, size, entry).map(|()| Verdict::Same)
    }

    fn check(&self, stat: &Stat, size: u64, entry: &Entry) -> Result<(), Failure> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            Err(self.changed(&entry.path, "it was replaced"))
        } else if size != entry.size() {
            Err(self.changed(&entry.path, &format!("its size changed from {} to {size} bytes", entry.size())))
        } else if meta_of(stat).mtime != entry.meta.mtime {
            Err(self.changed(&entry.path, "its modification time changed"))
        } else {
            Ok(())
        }
    }
}

/// The destination of a link named by the user; other paths stay the same.
fn follow(named: PathBuf, place: &Place) -> Result<PathBuf, Failure> {
    let unreadable = |error| unreadable(place, error);
    if !named.symlink_metadata().map_err(unreadable)?.is_symlink() {
        return Ok(named);
    }
    // Not every link is a path: those of /dev/fd lead to pipes and deleted files.
    let there = fs::metadata(&named).map_err(unreadable)?.file_type();
    if there.is_fifo() || there.is_socket() || there.is_char_device() || there.is_block_device() {
        let what = if there.is_fifo() { "pipe" } else { "socket or device" };
        let sentence = |path: &str| format!("skipping {what} {path}");
        return Err(Failure::about(Side::Sender, Reason::SpecialFile, place, sentence));
    }
    named.canonicalize().map_err(unreadable)
}

/// Whether a source can be read: files and directories are opened, other kinds only checked.
fn check_readable(base: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let stat = statat(base, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        patiently(|| open_file(base, name), || ())?;
    }
    Ok(())
}

/// A source as the user wrote it, safe to print.
pub(super) fn shown(source: &Path) -> String {
    let given = printable(source.as_os_str().as_bytes());
    if given.len() > 1 { given.trim_end_matches('/').to_owned() } else { given }
}

/// The failure when none of the sources can be sent; `None` without any.
pub(super) fn all_missing(failures: &[Failure]) -> Option<Failure> {
    let first = failures.first()?;
    let reason = failures.iter().fold(first.reason, |gravest, other| Failure::graver(gravest, other.reason));
    let messages: Vec<_> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Some(Failure::on(Side::Sender, reason, messages.join("; ")))
}

/// A source that the user wrote as `given`; the peer learns the name it is sent under.
fn place_of(source: &Path, given: &str) -> Place {
    let name = source.file_name().map(|name| printable(name.as_bytes()));
    Place::new(given, name.unwrap_or_else(|| "a source".to_owned()))
}

fn unreadable(place: &Place, error: io::Error) -> Failure {
    failed("open", place.clone(), error).failure(Side::Sender, Reason::SourceUnreadable)
}

/// A source, or part of it, that cannot be sent.
pub(super) fn unusable(place: &Place, why: impl fmt::Display) -> Failure {
    let sentence = |path: &str| format!("cannot send {path}: {why}");
    Failure::about(Side::Sender, Reason::SourceUnreadable, place, sentence)
}
