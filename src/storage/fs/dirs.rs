//! Opening directories below an open one, component by component, never through a link.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::descriptors::{OpenFiles, patiently, share};
use super::open::{open_dir, try_open_dir};
use super::sys::open::LOOKUP;
use super::volumes::{Volume, Volumes};
use crate::protocol::path::{RelPath, printable};

/// Directories kept open; deeper trees are only slower. Each batch of work has its own.
const OPEN_MAX: usize = 32;
/// Directories whose volume is remembered.
const VOLUMES_MAX: usize = 1024;

/// Directories opened for one batch of work, the least recently used closed first.
///
/// They are not kept between batches. So a directory that was moved or swapped for a link in between is noticed, at
/// the cost of one `openat` a batch.
pub(super) struct Dirs {
    access: OFlags,
    open: OpenFiles<Box<[u8]>, OwnedFd>,
    /// The volumes of directories that were asked about.
    volumes: HashMap<Box<[u8]>, Arc<Volume>>,
}

/// Where paths start.
#[derive(Clone, Copy)]
pub(super) struct Top<'b, 'n> {
    /// The directory that holds their first component.
    pub(super) base: &'b Arc<OwnedFd>,
    /// The name of the first component in `base`, if it differs from the one in the path.
    pub(super) name: Option<&'n [u8]>,
}

/// A directory on the path that cannot be opened: a link, a file, missing, not permitted.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Its path, components joined by `/`.
    pub(super) dir: Vec<u8>,
    pub(super) errno: Errno,
}

impl Dirs {
    /// For look-ups only: needs no permission to list the directories.
    pub(super) fn for_lookup() -> Self {
        Self::with_access(LOOKUP)
    }

    /// For calls that need a real descriptor where possible: sync, mode and times.
    pub(super) fn for_sync() -> Self {
        Self::with_access(OFlags::RDONLY)
    }

    fn with_access(access: OFlags) -> Self {
        Self { access, open: OpenFiles::new(share(OPEN_MAX)), volumes: HashMap::new() }
    }

    /// The directory that holds `path`, and the name of `path` in it. The first component lies in `base`.
    pub(super) fn parent<'p>(
        &mut self,
        base: &Arc<OwnedFd>,
        path: &'p RelPath,
    ) -> Result<(Arc<OwnedFd>, &'p [u8]), Blocked> {
        self.parent_below(Top { base, name: None }, path)
    }

    /// The same for a first component that may have a different name in `base` than in `path`.
    pub(super) fn parent_below<'p>(
        &mut self,
        top: Top<'_, 'p>,
        path: &'p RelPath,
    ) -> Result<(Arc<OwnedFd>, &'p [u8]), Blocked> {
        self.split(top, path.as_bytes())
    }

    /// Closes all directories.
    pub(super) fn release(&mut self) {
        self.open.clear();
    }

    fn split<'p>(&mut self, top: Top<'_, 'p>, path: &'p [u8]) -> Result<(Arc<OwnedFd>, &'p [u8]), Blocked> {
        match path.iter().rposition(|b| *b == b'/') {
            Some(at) => Ok((self.open(top, &path[..at])?, &path[at + 1..])),
            None => Ok((Arc::clone(top.base), top.name.unwrap_or(path))),
        }
    }

    /// Goes up to the deepest open directory and down from there, at most as deep as a path has components.
    fn open(&mut self, top: Top<'_, '_>, dir: &[u8]) -> Result<Arc<OwnedFd>, Blocked> {
        if let Some(fd) = self.open.get(dir) {
            return Ok(fd);
        }
        let (holder, name) = self.split(top, dir)?;
        let access = self.access;
        let opened = patiently(|| try_open_dir(&holder, name, access), || self.open.clear());
        let opened = match opened {
            // A directory that may not be listed can still be traversed and written to.
            Err(Errno::ACCESS) => open_dir(&holder, name, LOOKUP),
            opened => opened,
        };
        let fd = Arc::new(opened.map_err(|errno| Blocked { dir: dir.to_vec(), errno })?);
        self.open.insert(dir.into(), Arc::clone(&fd));
        Ok(fd)
    }

    /// The directory `path` itself.
    pub(super) fn dir(&mut self, base: &Arc<OwnedFd>, path: &RelPath) -> Result<Arc<OwnedFd>, Blocked> {
        self.open(Top { base, name: None }, path.as_bytes())
    }

    /// The volume of the directory that holds `path`. The first component lies in `base`, which is on the root of
    /// `volumes`.
    pub(super) fn volume(
        &mut self,
        base: &Arc<OwnedFd>,
        volumes: &Volumes,
        path: &RelPath,
    ) -> Result<Arc<Volume>, Blocked> {
        match path.as_bytes().iter().rposition(|b| *b == b'/') {
            Some(at) => self.volume_of(base, volumes, &path.as_bytes()[..at]),
            None => Ok(Arc::clone(volumes.root())),
        }
    }

    /// The same for a path whose directory may not be there yet: it will be on the volume of the nearest one that is.
    pub(super) fn nearest_volume(
        &mut self,
        base: &Arc<OwnedFd>,
        volumes: &Volumes,
        path: &RelPath,
    ) -> Result<Arc<Volume>, Blocked> {
        let mut nearest = path.clone();
        loop {
            match (self.volume(base, volumes, &nearest), nearest.parent()) {
                (Err(Blocked { errno: Errno::NOENT, .. }), Some(parent)) => nearest = parent,
                (found, _) => return found,
            }
        }
    }

    fn volume_of(
        &mut self,
        base: &Arc<OwnedFd>,
        volumes: &Volumes,
        dir: &[u8],
    ) -> Result<Arc<Volume>, Blocked> {
        if let Some(volume) = self.volumes.get(dir) {
            return Ok(Arc::clone(volume));
        }
        let above = match dir.iter().rposition(|b| *b == b'/') {
            Some(at) => self.volume_of(base, volumes, &dir[..at])?,
            None => Arc::clone(volumes.root()),
        };
        let fd = self.open(Top { base, name: None }, dir)?;
        let volume = volumes
            .find(&fd, &above, || format!("{}/", printable(dir)))
            .map_err(|errno| Blocked { dir: dir.to_vec(), errno })?;
        if self.volumes.len() >= VOLUMES_MAX {
            self.volumes.clear();
        }
        self.volumes.insert(dir.into(), Arc::clone(&volume));
        Ok(volume)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, openat};

    use super::*;

    fn path(bytes: &str) -> RelPath {
        RelPath::new(bytes.as_bytes()).unwrap()
    }

    #[test]
    fn deep_trees_open_within_the_limit_and_links_block() {
        let temp = tempfile::tempdir().unwrap();
        let deep = ["d"; 120].join("/");
        fs::create_dir_all(temp.path().join(&deep)).unwrap();
        fs::write(temp.path().join("file"), b"x").unwrap();
        symlink("d", temp.path().join("link")).unwrap();
        let base = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let base = Arc::new(base);

        let mut dirs = Dirs::for_lookup();
        let deep_file = path(&format!("{deep}/x"));
        let (_, name) = dirs.parent(&base, &deep_file).unwrap();
        assert_eq!(name, b"x");
        assert_eq!(dirs.open.len(), share(OPEN_MAX));

        let top = Top { base: &base, name: None };
        let blocked = dirs.open(top, b"link/d").unwrap_err();
        assert_eq!((blocked.dir.as_slice(), blocked.errno), (&b"link"[..], Errno::NOTDIR));
        assert_eq!(dirs.open(top, b"file/d").unwrap_err().errno, Errno::NOTDIR);
        assert_eq!(dirs.open(top, b"none/d").unwrap_err().errno, Errno::NOENT);
    }
}
