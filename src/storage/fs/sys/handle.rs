//! Owners, modes and extended attributes of what is open.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Uid, XattrFlags, chmod, chownat, fchmod, fgetxattr, flistxattr,
    flistxattr_query, fremovexattr, fsetxattr, fstat, getxattr, listxattr, listxattr_query, removexattr,
    setxattr,
};
use rustix::io::Errno;

/// Bytes of the longest value (`XATTR_SIZE_MAX`).
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most values are short.
const SHORT_BYTES: usize = 256;

/// An entry whose attributes are read or set.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// What cannot be opened, by a descriptor made with `O_PATH`. Some calls do not take such a one; they go through
    /// /proc, which leads to this very entry and never further.
    Place(BorrowedFd<'a>),
}

impl Handle<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) | Self::Place(fd) => *fd,
        }
    }

    fn path(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        fstat(self.fd())
    }

    /// Sets owner and group, as far as given.
    pub(crate) fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> Result<(), Errno> {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(self.fd().as_fd(), "", user, group, AtFlags::EMPTY_PATH)
    }

    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Place(fd) => chmod(Self::path(*fd), mode),
        }
    }

    /// The names of all extended attributes.
    pub(crate) fn xattr_names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        loop {
            let len = match self {
                Self::Open(fd) => flistxattr_query(fd)?,
                Self::Place(fd) => listxattr_query(Self::path(*fd))?,
            };
            if len == 0 {
                return Ok(Vec::new());
            }
            let mut list = vec![0; len];
            let listed = match self {
                Self::Open(fd) => flistxattr(fd, &mut list[..]),
                Self::Place(fd) => listxattr(Self::path(*fd), &mut list[..]),
            };
            match listed {
                Ok(len) => {
                    let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                    return Ok(names.map(<[u8]>::to_vec).collect());
                }
                // There are more of them by now.
                Err(Errno::RANGE) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The value of one; `None` if there is none of that name.
    pub(crate) fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let read = |value: &mut [u8]| match self {
            Self::Open(fd) => fgetxattr(fd, name, value),
            Self::Place(fd) => getxattr(Self::path(*fd), name, value),
        };
        let mut value = vec![0; SHORT_BYTES];
        let mut len = read(&mut value);
        if len == Err(Errno::RANGE) {
            value = vec![0; VALUE_BYTES_MAX];
            len = read(&mut value);
        }
        match len {
            Ok(len) => {
                value.truncate(len);
                value.shrink_to_fit();
                Ok(Some(value))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Place(fd) => setxattr(Self::path(*fd), name, value, XattrFlags::empty()),
        }
    }

    pub(crate) fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Place(fd) => removexattr(Self::path(*fd), name),
        }
    }
}
