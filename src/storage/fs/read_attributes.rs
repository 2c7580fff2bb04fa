//! What the sender reads of each entry beside its permission bits and time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::acl::{self, ACCESS, DEFAULT};
use super::attributes::{SPECIAL_BITS, identity_of};
use super::descriptors::patiently;
use super::ids::Ids;
use super::open::open_file;
use super::sys::handle::Handle;
use crate::protocol::wire::attributes::{Acl, Acls, Attributes, Owner, Xattr, XattrName, Xattrs};
use crate::protocol::wire::limits::ATTRIBUTE_BYTES_MAX;

/// What is kept of each entry beside its permission bits and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fidelity {
    /// Owner and group.
    pub owner: bool,
    /// Owners by number only, without their names.
    pub numeric_ids: bool,
    /// Set-id and sticky bits.
    pub special_bits: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

/// Reads what is to be kept.
#[derive(Default)]
pub(super) struct AttributeReader {
    fidelity: Fidelity,
    ids: Ids,
}

/// Why some attributes of an entry are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Reading them failed.
    Unreadable(Errno),
    /// They are too large.
    TooLarge,
}

/// The attributes of an entry, and why some are missing.
pub(super) type Read = (Option<Arc<Attributes>>, Option<Unsent>);

/// What is opened to read or set attributes.
pub(super) enum Opened {
    File(OwnedFd),
    Place(OwnedFd),
}

impl Opened {
    /// Opens `name`; what is not a regular file, or may not be read, as a place only.
    pub(super) fn open(holder: impl AsFd, name: &[u8], kind: FileType) -> Result<Self, Errno> {
        if kind == FileType::RegularFile {
            match patiently(|| open_file(&holder, name), || ()) {
                Ok(file) => return Ok(Self::File(file.into())),
                Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        patiently(|| openat(&holder, name, flags, Mode::empty()), || ()).map(Self::Place)
    }

    pub(super) fn handle(&self) -> Handle<'_> {
        match self {
            Self::File(fd) => Handle::Open(fd.as_fd()),
            Self::Place(fd) => Handle::Place(fd.as_fd()),
        }
    }
}

impl AttributeReader {
    pub(super) fn new(fidelity: Fidelity) -> Self {
        Self { fidelity, ids: Ids::default() }
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        let Fidelity { owner, numeric_ids: _, special_bits, acls, xattrs } = self.fidelity;
        owner || special_bits || acls || xattrs
    }

    /// Reads those of the entry `name`, which has `stat`.
    pub(super) fn read(&self, holder: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Read {
        self.gather(stat, |attributes| {
            let opened = Opened::open(holder, name, FileType::from_raw_mode(stat.st_mode))?;
            let handle = opened.handle();
            // Another file under the name has other attributes.
            if identity_of(&handle.stat()?) != identity_of(stat) {
                return Err(Errno::STALE);
            }
            self.read_from(handle, attributes)
        })
    }

    /// The same for a directory that is open.
    pub(super) fn read_dir(&self, dir: BorrowedFd<'_>) -> Read {
        match Handle::Open(dir).stat() {
            Ok(stat) => self.gather(&stat, |attributes| self.read_from(Handle::Open(dir), attributes)),
            Err(errno) => (None, self.is_on().then_some(Unsent::Unreadable(errno))),
        }
    }

    fn gather(&self, stat: &Stat, read: impl FnOnce(&mut Attributes) -> Result<bool, Errno>) -> Read {
        if !self.is_on() {
            return (None, None);
        }
        let mut attributes = self.of_stat(stat);
        let unsent = match self.fidelity.acls || self.fidelity.xattrs {
            true => match read(&mut attributes) {
                Ok(true) => (attributes.encoded().len() > ATTRIBUTE_BYTES_MAX).then_some(Unsent::TooLarge),
                Ok(false) => Some(Unsent::TooLarge),
                Err(errno) => Some(Unsent::Unreadable(errno)),
            },
            false => None,
        };
        if unsent.is_some() {
            attributes = self.of_stat(stat);
        }
        (Some(Arc::new(attributes)), unsent)
    }

    fn of_stat(&self, stat: &Stat) -> Attributes {
        let Fidelity { owner, numeric_ids, special_bits, .. } = self.fidelity;
        let owner = owner
            .then(|| {
                let user = self.ids.user(stat.st_uid, !numeric_ids)?;
                Some(Owner { user, group: self.ids.group(stat.st_gid, !numeric_ids)? })
            })
            .flatten();
        let special_bits =
            special_bits.then(|| u8::try_from((stat.st_mode & SPECIAL_BITS) >> 9).unwrap_or(0));
        Attributes { owner, special_bits, ..Attributes::default() }
    }

    /// Reads ACLs and extended attributes. False if there are too many.
    fn read_from(&self, handle: Handle<'_>, attributes: &mut Attributes) -> Result<bool, Errno> {
        let names = match handle.xattr_names() {
            // The file system has none.
            Err(Errno::OPNOTSUPP) => Vec::new(),
            names => names?,
        };
        if self.fidelity.acls {
            let acl = |name: &[u8]| match names.iter().any(|there| there == name) {
                true => self.read_acl(handle, name),
                false => Ok(None),
            };
            attributes.acls = Some(Acls { access: acl(ACCESS)?, default: acl(DEFAULT)? });
        }
        if !self.fidelity.xattrs {
            return Ok(true);
        }
        let (mut list, mut bytes) = (Vec::new(), 0);
        for name in names.iter().filter_map(|name| XattrName::new(name)) {
            let value = match handle.xattr(name.as_bytes()) {
                Ok(Some(value)) => value,
                // It has gone, or is not for this process: such a one is not lost by being copied.
                Ok(None) => continue,
                Err(errno) => return Err(errno),
            };
            bytes += value.len();
            if bytes > ATTRIBUTE_BYTES_MAX {
                return Ok(false);
            }
            list.push(Xattr { name, value: value.into() });
        }
        attributes.xattrs = Xattrs::new(list);
        Ok(attributes.xattrs.is_some())
    }

    fn read_acl(&self, handle: Handle<'_>, name: &[u8]) -> Result<Option<Acl>, Errno> {
        match handle.xattr(name) {
            Ok(Some(value)) => {
                acl::read(&value, &self.ids, !self.fidelity.numeric_ids).map(Some).ok_or(Errno::INVAL)
            }
            Ok(None) | Err(Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}
