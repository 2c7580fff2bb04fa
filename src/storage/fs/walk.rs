//! The walk over the sources: depth first, lazy, one open directory for each level.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::attributes::{allocated_of, may_be_wrong, meta_of, size_of};
use super::descriptors::patiently;
use super::moving::{Found, Version};
use super::open::{open_dir, open_file};
use super::origin::{Origin, unusable};
use super::watch::{Call, Subject};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::{PathError, RelPath, printable};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, Kind, Meta};
use crate::protocol::wire::limits::{LINK_TARGET_BYTES_MAX, SMALL_FILE_BYTES_MAX};
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
}

/// A directory that is being read.
struct Level {
    origin: usize,
    path: RelPath,
    meta: Meta,
    version: Version,
    names: Dir,
}

/// The result of looking at one name.
struct Looked {
    found: Walked,
    /// The file or link found.
    version: Option<Version>,
    /// The directory found.
    level: Option<Level>,
}

impl From<Walked> for Looked {
    fn from(found: Walked) -> Self {
        Self { found, version: None, level: None }
    }
}

impl TreeWalk {
    /// A walk that first reports the sources that cannot be sent.
    pub(super) fn behind(missing: &[(String, Failure)]) -> Self {
        let ready = missing.iter().cloned().map(|(path, failure)| Walked::Skipped { path, failure });
        Self { ready: ready.collect(), ..Self::default() }
    }

    /// The next few entries, at most `max`; empty at the end.
    pub(super) fn next(
        &mut self,
        origins: &[Origin],
        notes: Option<&Found>,
        max: usize,
        call: &Call<'_>,
    ) -> Vec<Walked> {
        let mut batch = Vec::new();
        while batch.len() < max {
            if let Some(found) = self.ready.pop_front() {
                batch.push(found);
                continue;
            }
            let looked = if let Some(level) = self.stack.last_mut() {
                call.step("list", Subject::Path(level.path.clone()));
                level.next(&origins[level.origin])
            } else if let Some(origin) = origins.get(self.next_origin) {
                self.next_origin += 1;
                call.step("look at", Subject::Path(origin.path.clone()));
                Some(look_at_origin(self.next_origin - 1, origin))
            } else {
                break;
            };
            match looked {
                Some(Looked { found, version, level }) => {
                    if let (Some(notes), Some(version), Walked::Entry(entry)) = (notes, version, &found) {
                        notes.note(entry.path.clone(), version);
                    }
                    self.ready.push_back(found);
                    self.stack.extend(level);
                }
                None => {
                    let ended = self.stack.pop();
                    if let (Some(notes), Some(level)) = (notes, &ended) {
                        notes.note_dir(&level.path, level.version);
                    }
                    self.ready.extend(ended.map(Level::end));
                }
            }
        }
        batch
    }
}

impl Level {
    /// Looks at the next name; `None` when there is no other.
    fn next(&mut self, origin: &Origin) -> Option<Looked> {
        let names = &mut self.names;
        let name = loop {
            match names.read()? {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => break entry.file_name().to_owned(),
                // The rest of the directory is lost; `Dir` returns nothing after an error.
                Err(errno) => return Some(unreadable(origin, &self.path, "list", errno).into()),
            }
        };
        let name = name.to_bytes();
        let path = match self.path.join(name) {
            Ok(path) => path,
            Err(error) => return Some(not_allowed(origin, &self.path, name, error).into()),
        };
        match names.fd() {
            Ok(holder) => Some(look(self.origin, origin, holder, name, path)),
            Err(errno) => Some(unreadable(origin, &path, "read", errno).into()),
        }
    }

    fn end(self) -> Walked {
        Walked::Entry(Entry { path: self.path, meta: self.meta, kind: Kind::DirEnd, hole_bytes: 0 })
    }
}

fn look_at_origin(index: usize, origin: &Origin) -> Looked {
    match origin.place() {
        Ok((base, name)) => look(index, origin, base.as_fd(), name, origin.path.clone()),
        Err(errno) => unreadable(origin, &origin.path, "open", errno).into(),
    }
}

fn look(index: usize, origin: &Origin, holder: BorrowedFd<'_>, name: &[u8], path: RelPath) -> Looked {
    let stat = match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => return unreadable(origin, &path, "read", errno).into(),
    };
    let meta = meta_of(&stat);
    let version = Version::of(&stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => match file_kind(origin, holder, name, &path, &stat) {
            Ok(kind) => {
                let hole_bytes = hole_bytes(&kind, &stat);
                let found = Walked::Entry(Entry { path, meta, kind, hole_bytes });
                Looked { found, version: Some(version), level: None }
            }
            Err(failure) => skipped(&origin.entry(&path), failure).into(),
        },
        FileType::Directory => look_into(origin, holder, name, (index, path, meta, version)),
        FileType::Symlink => {
            let found = look_at_link(origin, holder, name, path, meta);
            Looked { found, version: Some(version), level: None }
        }
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

fn look_into(
    origin: &Origin,
    holder: BorrowedFd<'_>,
    name: &[u8],
    (index, path, meta, version): (usize, RelPath, Meta, Version),
) -> Looked {
    match open_dir(holder, name, OFlags::RDONLY).and_then(Dir::new) {
        Ok(names) => {
            let found = Walked::Entry(Entry { path: path.clone(), meta, kind: Kind::Dir, hole_bytes: 0 });
            let level = Level { origin: index, path, meta, version, names };
            Looked { found, version: None, level: Some(level) }
        }
        // An empty directory in its place would look complete.
        Err(errno) => unreadable(origin, &path, "open", errno).into(),
    }
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

fn unreadable(origin: &Origin, path: &RelPath, op: &'static str, errno: Errno) -> Walked {
    skipped(&origin.entry(path), origin.failure(op, path, errno))
}

fn not_allowed(origin: &Origin, dir: &RelPath, name: &[u8], error: PathError) -> Walked {
    let (dir, name) = (origin.entry(dir), printable(name));
    let place = Place::new(format!("{}/{name}", dir.own()), format!("{}/{name}", dir.told()));
    skipped(&place, unusable(&place, error))
}

fn skipped(place: &Place, failure: Failure) -> Walked {
    Walked::Skipped { path: place.own().to_owned(), failure }
}
