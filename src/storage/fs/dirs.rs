//! Opening directories below an open one, component by component, never through a link.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::protocol::path::RelPath;

/// Directories that are kept open; deeper trees than this are only slower.
const OPEN_MAX: usize = 64;

/// Directories opened for one batch of work, the least recently used closed first.
///
/// They are not kept from one batch to the next: a directory that was moved away or swapped for a link in between
/// is then noticed, and costs one `openat` a batch where it was not.
pub(super) struct Dirs {
    access: OFlags,
    open: HashMap<Box<[u8]>, Opened>,
    clock: u64,
}

struct Opened {
    fd: Arc<OwnedFd>,
    used: u64,
}

/// A directory on the way that cannot be opened: a link, a file, missing, not permitted.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Its path, components joined by `/`.
    pub(super) dir: Vec<u8>,
    pub(super) errno: Errno,
}

impl Dirs {
    /// For looking up names only: needs no permission to list the directories.
    pub(super) fn for_lookup() -> Self {
        Self::with_access(OFlags::PATH)
    }

    /// For what needs a real descriptor: sync, mode and times.
    pub(super) fn for_sync() -> Self {
        Self::with_access(OFlags::RDONLY)
    }

    fn with_access(access: OFlags) -> Self {
        Self { access, open: HashMap::new(), clock: 0 }
    }

    /// The directory that holds `path`, and the name of `path` in it. The first component lies in `base`.
    pub(super) fn parent<'p>(
        &mut self,
        base: &Arc<OwnedFd>,
        path: &'p RelPath,
    ) -> Result<(Arc<OwnedFd>, &'p [u8]), Blocked> {
        self.split(base, path.as_bytes())
    }

    fn split<'p>(
        &mut self,
        base: &Arc<OwnedFd>,
        path: &'p [u8],
    ) -> Result<(Arc<OwnedFd>, &'p [u8]), Blocked> {
        match path.iter().rposition(|b| *b == b'/') {
            Some(at) => Ok((self.open(base, &path[..at])?, &path[at + 1..])),
            None => Ok((Arc::clone(base), path)),
        }
    }

    /// Goes up to the deepest directory that is open and down from there: as deep as a path has components.
    fn open(&mut self, base: &Arc<OwnedFd>, dir: &[u8]) -> Result<Arc<OwnedFd>, Blocked> {
        self.clock += 1;
        if let Some(opened) = self.open.get_mut(dir) {
            opened.used = self.clock;
            return Ok(Arc::clone(&opened.fd));
        }
        let (holder, name) = self.split(base, dir)?;
        let fd =
            open_dir(&holder, name, self.access).map_err(|errno| Blocked { dir: dir.to_vec(), errno })?;
        let fd = Arc::new(fd);
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, opened)| opened.used).map(|(dir, _)| dir.clone());
            oldest.and_then(|dir| self.open.remove(&dir));
        }
        self.open.insert(dir.into(), Opened { fd: Arc::clone(&fd), used: self.clock });
        Ok(fd)
    }
}

/// Opens the directory `name` of `holder`; fails when it is a link.
pub(super) fn open_dir(holder: impl AsFd, name: &[u8], access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(holder, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

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
        assert_eq!(dirs.open.len(), OPEN_MAX);

        let blocked = dirs.open(&base, b"link/d").unwrap_err();
        assert_eq!((blocked.dir.as_slice(), blocked.errno), (&b"link"[..], Errno::NOTDIR));
        assert_eq!(dirs.open(&base, b"file/d").unwrap_err().errno, Errno::NOTDIR);
        assert_eq!(dirs.open(&base, b"none/d").unwrap_err().errno, Errno::NOENT);
    }
}
