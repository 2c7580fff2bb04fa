//! The walk over the sources: depth first, lazy, one open directory for each level.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::attributes::{allocated_of, may_be_wrong, meta_of, size_of};
use super::descriptors::patiently;
use super::moving::{Found, Version};
use super::open::{open_dir, open_file};
use super::origin::{Origin, unusable};
use super::read_attributes::{AttributeReader, Read, Unsent};
use super::selection::{IgnoreFiles, Listed, Selection};
use super::watch::{Call, Subject};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::{PathError, RelPath, printable};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::limits::{ATTRIBUTE_BYTES_MAX, LINK_TARGET_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::storage::error::failed;
use crate::storage::source::Walked;

/// Bytes per read when counting the bytes of a file.
const PROBE_BYTES: usize = 4096;

/// The position of a walk. Its memory is bounded by the depth of a path and the number of sources.
#[derive(Default)]
pub(super) struct TreeWalk {
    next_origin: usize,
    stack: Vec<Level>,
    /// Results not handed out yet: missing sources first, later one entry at most.
    ready: VecDeque<Walked>,
    /// Paths of the user's list that were not found yet; `None` before the walk begins.
    unseen: Option<BTreeSet<RelPath>>,
}

/// What a walk works with.
pub(super) struct WalkContext<'a> {
    pub(super) origins: &'a [Origin],
    pub(super) selection: &'a Selection,
    pub(super) attributes: &'a AttributeReader,
    pub(super) notes: Option<&'a Found>,
    /// Counts what the selection leaves out.
    pub(super) left_out: &'a AtomicU64,
}

/// A directory that is being read.
struct Level {
    origin: usize,
    /// `None` for a source of which the contents are sent.
    path: Option<RelPath>,
    /// Without attributes: those are read at the end.
    meta: Meta,
    version: Version,
    /// `None` if nothing in it is sent; then its attributes are here.
    attributes: Read,
    /// `None` if nothing in it is sent.
    names: Option<Dir>,
    /// All that is in it is sent, as far as a list of paths is concerned.
    is_whole: bool,
    ignore_files: IgnoreFiles,
}

/// The result of looking at one name.
struct Looked {
    /// `None` if it is left out.
    found: Option<Walked>,
    /// What is missing of it.
    lack: Option<Walked>,
    /// The file or link found.
    version: Option<Version>,
    /// The directory found.
    level: Option<Level>,
}

impl From<Walked> for Looked {
    fn from(found: Walked) -> Self {
        Self { found: Some(found), lack: None, version: None, level: None }
    }
}

/// The selection leaves it out.
const LEFT_OUT: Looked = Looked { found: None, lack: None, version: None, level: None };

impl TreeWalk {
    /// A walk that first reports the sources that cannot be sent.
    pub(super) fn behind(missing: &[(String, Failure)]) -> Self {
        let ready = missing.iter().cloned().map(|(path, failure)| Walked::Skipped { path, failure });
        Self { ready: ready.collect(), ..Self::default() }
    }

    /// The next few entries, at most `max`; empty at the end.
    pub(super) fn next(&mut self, context: &WalkContext<'_>, max: usize, call: &Call<'_>) -> Vec<Walked> {
        let WalkContext { origins, selection, attributes, notes, left_out } = *context;
        let unseen = self.unseen.get_or_insert_with(|| selection.only().cloned().unwrap_or_default());
        let (mut batch, mut attribute_bytes) = (Vec::new(), 0);
        while batch.len() < max && attribute_bytes < ATTRIBUTE_BYTES_MAX {
            if let Some(found) = self.ready.pop_front() {
                attribute_bytes += attribute_bytes_of(&found);
                batch.push(found);
                continue;
            }
            let looked = if let Some((level, above)) = self.stack.split_last_mut() {
                call.step("list", level.path.clone().map_or(Subject::Top, Subject::Path));
                let origin = &origins[level.origin];
                let looking = Looking { index: level.origin, origin, selection, attributes };
                level.next(&looking, above, unseen)
            } else if let Some(origin) = origins.get(self.next_origin) {
                self.next_origin += 1;
                call.step("look at", origin.path.clone().map_or(Subject::Top, Subject::Path));
                let looking = Looking { index: self.next_origin - 1, origin, selection, attributes };
                Some(look_at_origin(&looking))
            } else if let (Some(missing), Some(origin)) = (unseen.pop_first(), origins.first()) {
                Some(not_found(origin, &missing).into())
            } else {
                break;
            };
            match looked {
                Some(Looked { found: None, level: None, .. }) => {
                    left_out.fetch_add(1, Relaxed);
                }
                Some(Looked { found, lack, version, level }) => {
                    // What is on another file system.
                    left_out.fetch_add(u64::from(level.as_ref().is_some_and(|l| l.names.is_none())), Relaxed);
                    if let (Some(notes), Some(version), Some(Walked::Entry(entry))) = (notes, version, &found)
                    {
                        notes.note(entry.path.clone(), version);
                    }
                    self.ready.extend(found.into_iter().chain(lack));
                    self.stack.extend(level);
                }
                None => {
                    let ended = self.stack.pop();
                    if let (Some(notes), Some(Level { path: Some(path), version, .. })) = (notes, &ended) {
                        notes.note_dir(path, *version);
                    }
                    if let Some(level) = ended {
                        let origin = &origins[level.origin];
                        self.ready.extend(level.end(origin, attributes).into_iter().flatten());
                    }
                }
            }
        }
        batch
    }
}

/// Whose entries are looked at, and which of them are sent.
struct Looking<'a> {
    index: usize,
    origin: &'a Origin,
    selection: &'a Selection,
    attributes: &'a AttributeReader,
}

impl Level {
    /// Looks at the next name; `None` when there is no other.
    fn next(
        &mut self,
        looking: &Looking<'_>,
        above: &[Self],
        unseen: &mut BTreeSet<RelPath>,
    ) -> Option<Looked> {
        let Looking { origin, selection, .. } = looking;
        let names = self.names.as_mut()?;
        let name = loop {
            match names.read()? {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => break entry.file_name().to_owned(),
                // The rest of the directory is lost; `Dir` returns nothing after an error.
                Err(errno) => return Some(unreadable_dir(origin, self.path.as_ref(), "list", errno).into()),
            }
        };
        let name = name.to_bytes();
        let path = match self.path.as_ref().map_or_else(|| RelPath::new(name), |dir| dir.join(name)) {
            Ok(path) => path,
            Err(error) => return Some(not_allowed(origin, self.path.as_ref(), name, error).into()),
        };
        let mut is_whole = self.is_whole;
        if !is_whole {
            let below = &path.as_bytes()[origin.start()..];
            match selection.listed(below) {
                Listed::Whole => is_whole = true,
                Listed::Above => {}
                Listed::No => return Some(LEFT_OUT),
            }
            if let Ok(below) = RelPath::new(below) {
                unseen.remove(&below);
            }
        }
        let holder = match names.fd() {
            Ok(holder) => holder,
            Err(errno) => return Some(unreadable(origin, &path, "read", errno).into()),
        };
        let stat = match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return Some(unreadable(origin, &path, "read", errno).into()),
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_whole && !is_dir {
            return Some(LEFT_OUT);
        }
        let nearest = std::iter::once(&self.ignore_files).chain(above.iter().rev().map(|l| &l.ignore_files));
        if selection.leaves_out(path.as_bytes(), origin.start(), is_dir, nearest) {
            return Some(LEFT_OUT);
        }
        let is_other =
            selection.is_of_one_file_system() && is_dir && stat.st_dev != self.version.identity().0;
        Some(look(looking, holder, name, path, Seen { stat, is_whole, is_other }))
    }

    /// The end of the directory, and what is missing of its attributes.
    fn end(self, origin: &Origin, reader: &AttributeReader) -> [Option<Walked>; 2] {
        let Self { path, meta, names, attributes, .. } = self;
        let (attributes, unsent) = match names.as_ref().map(Dir::fd) {
            Some(Ok(dir)) => reader.read_dir(dir),
            _ => attributes,
        };
        let lack = unsent.map(|why| lacking(origin, path.as_ref(), why));
        let meta = Meta { attributes, ..meta };
        let end = match path {
            Some(path) => Some(Walked::Entry(Entry { path, meta, kind: Kind::DirEnd, hole_bytes: 0 })),
            None => reader.is_on().then_some(Walked::Top(meta)),
        };
        [end, lack]
    }
}

/// What is known of an entry that is looked at.
struct Seen {
    stat: Stat,
    /// A list of paths has it.
    is_whole: bool,
    /// It is a directory on another file system, and nothing in it is sent.
    is_other: bool,
}

fn look_at_origin(looking: &Looking<'_>) -> Looked {
    let Looking { origin, selection, .. } = looking;
    let fails = |op, errno: Errno| unreadable_dir(origin, origin.path.as_ref(), op, errno).into();
    let (base, name) = match origin.place() {
        Ok(place) => place,
        Err(errno) => return fails("open", errno),
    };
    let stat = match statat(&base, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => return fails("read", errno),
    };
    let seen = Seen { stat, is_whole: selection.only().is_none(), is_other: false };
    let Some(path) = origin.path.clone() else {
        return match open_level(looking, base.as_fd(), name, None, &seen) {
            Ok(level) => Looked { level: Some(level), ..LEFT_OUT },
            Err(error) => unreadable_dir(origin, None, "open", error).into(),
        };
    };
    // A directory that was named is sent; a file may match a pattern.
    let is_dir = FileType::from_raw_mode(seen.stat.st_mode) == FileType::Directory;
    if !is_dir && selection.leaves_out(path.as_bytes(), 0, is_dir, std::iter::empty()) {
        return LEFT_OUT;
    }
    look(looking, base.as_fd(), name, path, seen)
}

fn look(looking: &Looking<'_>, holder: BorrowedFd<'_>, name: &[u8], path: RelPath, seen: Seen) -> Looked {
    let (origin, stat) = (looking.origin, &seen.stat);
    let meta = meta_of(stat);
    let complete = |mut entry: Entry| {
        let (attributes, unsent) = looking.attributes.read(holder, name, stat);
        let lack = unsent.map(|why| lacking(origin, Some(&entry.path), why));
        entry.meta.attributes = attributes;
        Looked { found: Some(Walked::Entry(entry)), lack, version: Some(Version::of(stat)), level: None }
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => match file_kind(origin, holder, name, &path, stat) {
            Ok(Kind::File { size }) if looking.selection.leaves_out_size(size) => LEFT_OUT,
            Ok(kind) => {
                let hole_bytes = hole_bytes(&kind, stat);
                complete(Entry { path, meta, kind, hole_bytes })
            }
            Err(failure) => skipped(&origin.entry(&path), failure).into(),
        },
        FileType::Directory => match open_level(looking, holder, name, Some(&path), &seen) {
            Ok(level) => {
                let found = Walked::Entry(Entry { path, meta, kind: Kind::Dir, hole_bytes: 0 });
                Looked { found: Some(found), level: Some(level), ..LEFT_OUT }
            }
            // An empty directory in its place would look complete.
            Err(error) => unreadable_dir(origin, Some(&path), "open", error).into(),
        },
        FileType::Symlink => match look_at_link(origin, holder, name, path, meta) {
            Walked::Entry(entry) => complete(entry),
            skipped => Looked { version: Some(Version::of(stat)), ..skipped.into() },
        },
        other => {
            let what = match other {
                FileType::Fifo => "FIFO",
                FileType::Socket => "socket",
                FileType::CharacterDevice | FileType::BlockDevice => "device",
                _ => "special file",
            };
            let place = origin.entry(&path);
            let sentence = |path: &str| format!("skipping {what} {path}");
            skipped(&place, Failure::about(Side::Sender, Reason::SpecialFile, &place, sentence)).into()
        }
    }
}

/// Bytes of a file for which no space is allocated; 0 if its metadata is wrong.
fn hole_bytes(kind: &Kind, stat: &Stat) -> u64 {
    match kind {
        Kind::File { size } if *size == size_of(stat) => size.saturating_sub(allocated_of(stat)),
        _ => 0,
    }
}

/// The size of a file. If its metadata may be wrong, the file is read to find out; the size of a large one is known
/// only after sending.
fn file_kind(
    origin: &Origin,
    holder: BorrowedFd<'_>,
    name: &[u8],
    path: &RelPath,
    stat: &Stat,
) -> Result<Kind, Failure> {
    let size = size_of(stat);
    if !may_be_wrong(stat) {
        return Ok(Kind::File { size });
    }
    let read = || {
        let file = patiently(|| open_file(holder, name), || ())?;
        let (mut buffer, mut bytes) = ([0; PROBE_BYTES], 0);
        while bytes <= SMALL_FILE_BYTES_MAX {
            match file.read_at(&mut buffer, bytes)? {
                0 => break,
                n => bytes += n as u64,
            }
        }
        // An ordinary empty file may have been written to meanwhile.
        let now = size_of(&fstat(&file)?);
        Ok(match now == size {
            true if bytes > SMALL_FILE_BYTES_MAX => Kind::OpenEnded,
            true => Kind::File { size: bytes },
            false => Kind::File { size: now },
        })
    };
    read().map_err(|error: io::Error| origin.failure("read", path, error))
}

/// Opens a directory, to list it.
fn open_level(
    looking: &Looking<'_>,
    holder: BorrowedFd<'_>,
    name: &[u8],
    path: Option<&RelPath>,
    seen: &Seen,
) -> io::Result<Level> {
    let dir = open_dir(holder, name, OFlags::RDONLY)?;
    // Where the paths begin, relative to this directory.
    let start = path.map_or(0, |path| path.as_bytes().len() + 1);
    let ignore_files = match looking.selection.has_ignore_files() && !seen.is_other {
        true => IgnoreFiles::read(dir.as_fd(), start)?,
        false => IgnoreFiles::default(),
    };
    let attributes = match seen.is_other {
        true => looking.attributes.read_dir(dir.as_fd()),
        false => (None, None),
    };
    Ok(Level {
        origin: looking.index,
        path: path.cloned(),
        meta: meta_of(&seen.stat),
        version: Version::of(&seen.stat),
        attributes,
        names: if seen.is_other { None } else { Some(Dir::new(dir)?) },
        is_whole: seen.is_whole,
        ignore_files,
    })
}

fn look_at_link(origin: &Origin, holder: BorrowedFd<'_>, name: &[u8], path: RelPath, meta: Meta) -> Walked {
    match readlinkat(holder, name, Vec::new()) {
        Ok(target) if (1..=LINK_TARGET_BYTES_MAX).contains(&target.as_bytes().len()) => {
            let target = Bytes::from(target.into_bytes());
            Walked::Entry(Entry { path, meta, kind: Kind::Symlink { target }, hole_bytes: 0 })
        }
        Ok(target) => {
            let place = origin.entry(&path);
            let why = format!("the link's target has {} bytes", target.as_bytes().len());
            skipped(&place, unusable(&place, why))
        }
        Err(errno) => unreadable(origin, &path, "read", errno),
    }
}

/// Some attributes of an entry are not sent.
fn lacking(origin: &Origin, path: Option<&RelPath>, why: Unsent) -> Walked {
    let place = path.map_or_else(|| origin.own_place(), |path| origin.entry(path));
    let failure = Failure::about(Side::Sender, Reason::NotKept, &place, |path| match why {
        Unsent::TooLarge => {
            format!("{path} goes without its attributes: they have more than {ATTRIBUTE_BYTES_MAX} bytes")
        }
        Unsent::Unreadable(errno) => format!("{path} goes without its attributes: cannot read them: {errno}"),
    });
    skipped(&place, failure)
}

fn attribute_bytes_of(found: &Walked) -> usize {
    match found {
        Walked::Entry(entry) => {
            entry.meta.attributes.as_ref().map_or(0, |attributes| attributes.memory_bytes())
        }
        _ => 0,
    }
}

fn unreadable(origin: &Origin, path: &RelPath, op: &'static str, errno: Errno) -> Walked {
    skipped(&origin.entry(path), origin.failure(op, path, errno))
}

/// The same for a source too, of which the contents are sent.
fn unreadable_dir(
    origin: &Origin,
    path: Option<&RelPath>,
    op: &'static str,
    error: impl Into<io::Error>,
) -> Walked {
    match path {
        Some(path) => skipped(&origin.entry(path), origin.failure(op, path, error)),
        None => {
            let place = origin.own_place();
            skipped(&place, failed(op, place.clone(), error).failure(Side::Sender, Reason::SourceUnreadable))
        }
    }
}

fn not_allowed(origin: &Origin, dir: Option<&RelPath>, name: &[u8], error: PathError) -> Walked {
    let (dir, name) = (dir.map_or_else(|| origin.own_place(), |dir| origin.entry(dir)), printable(name));
    let place = Place::new(format!("{}/{name}", dir.own()), format!("{}/{name}", dir.told()));
    skipped(&place, unusable(&place, error))
}

/// A path of the user's list is not there.
fn not_found(origin: &Origin, below: &RelPath) -> Walked {
    let (dir, name) = (origin.own_place(), printable(below.as_bytes()));
    let place = Place::new(format!("{}/{name}", dir.own()), format!("{}/{name}", dir.told()));
    skipped(&place, unusable(&place, "it is in the list of files, and not there"))
}

fn skipped(place: &Place, failure: Failure) -> Walked {
    Walked::Skipped { path: place.own().to_owned(), failure }
}
