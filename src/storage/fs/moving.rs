//! Removes sources that have arrived: only what the walk found, by the directory that holds it, never through a link.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Stat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::attributes::{identity_of, meta_of, size_of};
use super::dirs::Dirs;
use super::origin::Origins;
use super::watch::{DiskWatch, Subject};
use crate::protocol::path::RelPath;
use crate::protocol::wire::limits::PATH_BYTES_MAX;

/// Directories that did not arrive and are remembered by name. Above this, no directory is removed.
const KEPT_DIRS_MAX: usize = 16 * 1024;

/// A file or link as the walk found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, u32),
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        let ((device, inode), mtime) = (identity_of(stat), meta_of(stat).mtime);
        Self { device, inode, size: size_of(stat), mtime: (mtime.seconds, mtime.nanos) }
    }

    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// Sources that were not removed: for each cause, one of them and how many there are.
#[derive(Debug, Default)]
pub struct Remaining(BTreeMap<String, (String, u64)>);

impl Remaining {
    /// Counts the source `path`.
    pub fn note(&mut self, cause: String, path: String) {
        self.0.entry(cause).or_insert((path, 0)).1 += 1;
    }

    /// Adds those of `other`.
    pub fn merge(&mut self, other: Self) {
        for (cause, (path, count)) in other.0 {
            self.0.entry(cause).or_insert((path, 0)).1 += count;
        }
    }

    /// Cause, example and number.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0.iter().map(|(cause, (path, count))| (cause.as_str(), path.as_str(), *count))
    }
}

/// What the walk has found.
pub(super) struct Found {
    /// Files and links that have not ended yet.
    open: Mutex<HashMap<RelPath, Version>>,
    dirs: Mutex<FoundDirs>,
}

/// Directories in the order in which they can be removed: contents first. They are kept in a file without a name.
struct FoundDirs {
    list: BufWriter<File>,
    error: Option<io::Error>,
    /// Did not arrive.
    kept: HashSet<RelPath>,
}

impl Found {
    pub(super) fn new() -> io::Result<Self> {
        let list = BufWriter::new(tempfile::tempfile()?);
        let dirs = FoundDirs { list, error: None, kept: HashSet::new() };
        Ok(Self { open: Mutex::default(), dirs: Mutex::new(dirs) })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<RelPath, Version>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dirs(&self) -> MutexGuard<'_, FoundDirs> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a file or link.
    pub(super) fn note(&self, path: RelPath, version: Version) {
        self.open().insert(path, version);
    }

    /// Notes a directory whose contents are all noted.
    pub(super) fn note_dir(&self, path: &RelPath, version: Version) {
        let mut dirs = self.dirs();
        if dirs.error.is_none() {
            dirs.error = put(&mut dirs.list, path, version).err();
        }
    }

    /// Whether a file that is being read is not the one that the walk found.
    pub(super) fn differs(&self, path: &RelPath, stat: &Stat) -> bool {
        self.open().get(path).is_some_and(|version| version.identity() != identity_of(stat))
    }

    pub(super) fn take(&self, path: &RelPath) -> Option<Version> {
        self.open().remove(path)
    }

    pub(super) fn keep_dir(&self, path: &RelPath) {
        let mut dirs = self.dirs();
        if dirs.kept.len() < KEPT_DIRS_MAX {
            dirs.kept.insert(path.clone());
        } else {
            dirs.error.get_or_insert(io::Error::other("too many directories did not arrive"));
        }
    }

    /// Removes directories that arrived and are empty. Returns how many, and those that could not be removed.
    pub(super) fn remove_dirs(&self, origins: &Origins, watch: &DiskWatch) -> io::Result<(u64, Remaining)> {
        let mut found = self.dirs();
        if let Some(error) = found.error.take() {
            return Err(error);
        }
        found.list.flush()?;
        found.list.get_mut().rewind()?;
        let FoundDirs { list, kept, .. } = &mut *found;
        let mut list = BufReader::new(list.get_mut());
        let (mut removed, mut remaining) = (0, Remaining::default());
        let call = watch.begin("remove", Subject::Top);
        // Not kept open: each directory is removed soon after its contents.
        while let Some((path, identity)) = get(&mut list)? {
            call.step("remove", Subject::Path(path.clone()));
            if kept.contains(&path) {
                continue;
            }
            match remove_dir(origins, &path, identity) {
                Ok(is_removed) => removed += u64::from(is_removed),
                Err(cause) => remaining.note(cause, origins.shown(&path)),
            }
        }
        Ok((removed, remaining))
    }
}

/// Removes one file or link if it is still `version`; otherwise the cause.
pub(super) fn remove_file(
    origins: &Origins,
    dirs: &mut Dirs,
    path: &RelPath,
    version: Version,
) -> Result<(), String> {
    let (holder, name) = holder(origins, dirs, path)?;
    let now = statat(&holder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
    let current = Version::of(&now);
    if current.identity() != version.identity() {
        return Err("something else has its name".to_owned());
    }
    if current != version {
        let how = if current.size > version.size { "it has grown" } else { "it changed after it was sent" };
        return Err(how.to_owned());
    }
    unlinkat(&holder, &name, AtFlags::empty()).map_err(cause)
}

/// Whether the directory was removed; one that still holds something stays.
fn remove_dir(origins: &Origins, path: &RelPath, identity: (u64, u64)) -> Result<bool, String> {
    let (holder, name) = holder(origins, &mut Dirs::for_lookup(), path)?;
    let now = statat(&holder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(cause)?;
    let is_dir = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
    if !is_dir || identity_of(&now) != identity {
        return Err("something else has its name".to_owned());
    }
    match unlinkat(&holder, &name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(cause(errno)),
    }
}

/// The directory that holds an entry, and the entry's name there.
fn holder(origins: &Origins, dirs: &mut Dirs, path: &RelPath) -> Result<(Arc<OwnedFd>, Vec<u8>), String> {
    let origin = origins.of(path).map_err(|failure| failure.message)?;
    if origin.is_link {
        return Err("the source was named by a symbolic link".to_owned());
    }
    let (base, name) = origin.place().map_err(cause)?;
    let (holder, name) =
        dirs.parent_below(origin.top(&base, name), path).map_err(|blocked| cause(blocked.errno))?;
    Ok((holder, name.to_vec()))
}

fn cause(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "it is gone already".to_owned(),
        errno => io::Error::from(errno).to_string(),
    }
}

fn put(list: &mut impl Write, path: &RelPath, version: Version) -> io::Result<()> {
    let len = u32::try_from(path.as_bytes().len()).map_err(io::Error::other)?;
    list.write_all(&len.to_le_bytes())?;
    list.write_all(path.as_bytes())?;
    list.write_all(&version.device.to_le_bytes())?;
    list.write_all(&version.inode.to_le_bytes())
}

/// The next directory of the list, and its device and inode.
fn get(list: &mut impl Read) -> io::Result<Option<(RelPath, (u64, u64))>> {
    let mut len = [0; 4];
    match list.read_exact(&mut len) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut path = vec![0; usize::try_from(u32::from_le_bytes(len)).unwrap_or(0).min(PATH_BYTES_MAX)];
    list.read_exact(&mut path)?;
    let path = RelPath::new(&path).map_err(io::Error::other)?;
    let mut numbers = [[0; 8]; 2];
    for number in &mut numbers {
        list.read_exact(number)?;
    }
    let [device, inode] = numbers.map(u64::from_le_bytes);
    Ok(Some((path, (device, inode))))
}
