//! Where a target is: a directory that was named on this side, or one inside of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::open::open_dir;
use super::sys::disk::mkdirat;
use super::sys::open::LOOKUP;

/// Where a target is. Peers may write to `top`, so no link is followed below it.
#[derive(Debug, Clone)]
pub struct TargetDir {
    top: PathBuf,
    /// Relative to `top`; empty for `top` itself.
    inside: PathBuf,
}

/// What failed, and why.
pub(super) type Unreachable = (&'static str, io::Error);

impl<T: AsRef<Path> + ?Sized> From<&T> for TargetDir {
    fn from(dir: &T) -> Self {
        Self { top: dir.as_ref().to_owned(), inside: PathBuf::new() }
    }
}

impl TargetDir {
    /// The directory `own` in `top`, or anywhere if it is absolute.
    pub fn inside(top: &Path, own: &Path) -> Self {
        if own.is_absolute() {
            return own.into();
        }
        Self { top: top.to_owned(), inside: own.to_owned() }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.top.join(&self.inside)
    }

    /// Opens it, and makes it before if it is missing.
    pub(super) fn make(&self) -> Result<OwnedFd, Unreachable> {
        fs::create_dir_all(&self.top).map_err(|error| ("create", error))?;
        self.reach(|holder, name| match mkdirat(holder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(("create", errno.into())),
        })
    }

    /// Opens it if it is there.
    pub(super) fn open(&self) -> Result<OwnedFd, Unreachable> {
        self.reach(|_, _| Ok(()))
    }

    /// Goes down from `top`, each time after `before`.
    fn reach(
        &self,
        before: impl Fn(&OwnedFd, &[u8]) -> Result<(), Unreachable>,
    ) -> Result<OwnedFd, Unreachable> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = |access| openat(CWD, &self.top, access | flags, Mode::empty());
        let mut dir = listed(top)?;
        for component in self.inside.components() {
            let name = match component {
                Component::Normal(name) => name.as_bytes(),
                Component::ParentDir => b"..",
                _ => continue,
            };
            before(&dir, name)?;
            dir = listed(|access| open_dir(&dir, name, access))?;
        }
        Ok(dir)
    }
}

/// A directory that may not be listed can still be written to.
fn listed(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Unreachable> {
    let opened = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => open(LOOKUP),
        opened => opened,
    };
    opened.map_err(|errno| ("open", errno.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn attack_2_no_link_that_a_peer_has_left_leads_out_of_the_target() {
        let temp = tempfile::tempdir().unwrap();
        let (top, outside) = (temp.path().join("inbox"), temp.path().join("outside"));
        fs::create_dir_all(top.join("real")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, top.join("laptop")).unwrap();
        symlink("real", top.join("near")).unwrap();
        for own in ["laptop", "laptop/deep", "near", "near/deep"] {
            let dir = TargetDir::inside(&top, Path::new(own));
            assert!(dir.make().is_err() && dir.open().is_err(), "{own}");
        }
        assert_eq!(
            fs::read_dir(&outside).unwrap().count() + fs::read_dir(top.join("real")).unwrap().count(),
            0
        );
        let dir = TargetDir::inside(&top, Path::new("real/./a/b"));
        assert!(dir.open().is_err());
        dir.make().unwrap();
        assert!(dir.open().is_ok() && top.join("real/a/b").is_dir());
        // Whoever runs the receiver may name any place.
        symlink(&outside, temp.path().join("elsewhere")).unwrap();
        let named = temp.path().join("elsewhere/laptop");
        TargetDir::inside(&top, &named).make().unwrap();
        assert!(outside.join("laptop").is_dir());
    }
}
