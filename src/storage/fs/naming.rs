//! Giving one staged file or link its final name.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::attributes::identity_of;
use super::numbered::last_taken;
use super::sys::disk::{linkat, renameat, unlinkat};
use super::sys::rename;
use crate::protocol::final_name::Exists;
use crate::protocol::path::RelPath;
use crate::protocol::wire::limits::RENAME_TRIES_MAX;

/// Why an entry did not get its name.
pub(super) enum NotNamed {
    /// The name is taken.
    Exists,
    Error(Errno),
}

impl From<Errno> for NotNamed {
    fn from(errno: Errno) -> Self {
        match errno {
            // The last two mean that a directory has the name of a file.
            Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY => Self::Exists,
            errno => Self::Error(errno),
        }
    }
}

/// A staged entry: a name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct StagedName<'a> {
    pub(super) dir: &'a OwnedFd,
    pub(super) name: &'a str,
}

impl StagedName<'_> {
    /// Moves it to the name of `path` in `holder`; returns `Some` for another name than that.
    pub(super) fn give(
        self,
        holder: &OwnedFd,
        path: &RelPath,
        exists: Exists,
    ) -> Result<Option<RelPath>, NotNamed> {
        match exists {
            Exists::Refuse | Exists::Skip => self.give_new(holder, path.name())?,
            Exists::Replace => renameat(self.dir, self.name, holder, path.name())?,
            Exists::Rename => match self.give_new(holder, path.name()) {
                Ok(()) => {}
                Err(Errno::EXIST) => return self.give_free(holder, path).map(Some),
                Err(errno) => return Err(errno.into()),
            },
        }
        Ok(None)
    }

    /// Moves it to the first free one of the other names.
    pub(super) fn give_free(self, holder: &OwnedFd, path: &RelPath) -> Result<RelPath, NotNamed> {
        for number in last_taken(holder, path)? + 1..=RENAME_TRIES_MAX {
            // The only possible error: the number makes the name too long.
            let other = path.numbered(number).map_err(|_| NotNamed::Error(Errno::NAMETOOLONG))?;
            match self.give_new(holder, other.name()) {
                Ok(()) => return Ok(other),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(NotNamed::Exists)
    }

    /// Moves it to a name that must be free.
    fn give_new(self, holder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match rename::rename_new(self.dir, self.name, holder, name) {
            // When the call itself is not permitted, the next one shows whether the directory is the reason.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
            renamed => return renamed,
        }
        self.link_new(holder, name)
    }

    /// The same for file systems without such a rename. It makes a link, which fails if the name is taken.
    fn link_new(self, holder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match linkat(self.dir, self.name, holder, name, AtFlags::empty()) {
            Ok(()) => return unlinkat(self.dir, self.name, AtFlags::empty()),
            Err(Errno::EXIST) => return Err(Errno::EXIST),
            // File systems without links report that in many ways, FUSE even with EIO. The rename reports any other
            // error too.
            Err(_) => {}
        }
        // There are no links either: look first. A file that appears in between is replaced; no call prevents it.
        match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(self.dir, self.name, holder, name),
            Err(errno) => Err(errno),
        }
    }

    /// Whether `name` in `holder` is this very file: a process was stopped between the two steps of
    /// [`Self::link_new`].
    pub(super) fn is_also(self, holder: &OwnedFd, name: &[u8]) -> bool {
        let identity =
            |dir, name| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| identity_of(&stat));
        identity(holder, name).is_ok_and(|there| identity(self.dir, self.name.as_bytes()) == Ok(there))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    #[test]
    fn a_link_takes_the_place_of_a_rename_that_is_not_supported() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("0"), b"new").unwrap();
        symlink("nowhere", at("1")).unwrap();
        fs::write(at("taken"), b"old").unwrap();
        let dir = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();

        let at_dir = |name| StagedName { dir: &dir, name };
        assert_eq!(at_dir("0").link_new(&dir, b"taken"), Err(Errno::EXIST));
        assert_eq!(fs::read(at("taken")).unwrap(), b"old");
        at_dir("0").link_new(&dir, b"free").unwrap();
        at_dir("1").link_new(&dir, b"link").unwrap();
        assert_eq!(fs::read(at("free")).unwrap(), b"new");
        assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("nowhere"));
        assert!(!at("0").exists() && !at("1").is_symlink());
    }
}
