//! Giving an entry the owner, the mode and the attributes that its sender has announced. What cannot be kept is noted,
//! and the content stays.
//!
//! The order matters. A new owner takes set-id bits and capabilities away, so they come after it. An extended attribute
//! may need the permission to write, so the mode comes after it. An ACL changes the mode of the group, so the mode comes
//! after that too. Times come last of all, and are not set here.

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::acl::{self, ACCESS, DEFAULT};
use super::attributes::{MODE_BITS, SPECIAL_BITS};
use super::ids::Ids;
use super::incoming::Incoming;
use super::lacks::{Cause, Lacks, lack};
use super::sys::handle::Handle;
use crate::protocol::not_kept::Aspect;
use crate::protocol::wire::attributes::{Acl, Attributes, Owner, Xattr, XattrName, Xattrs};
use crate::protocol::wire::entry::Meta;

/// The one privileged attribute that a file loses when its content changes.
const CAPABILITY: &[u8] = b"security.capability";
/// The permission of the owner to write.
const OWNER_WRITES: u32 = 0o200;
/// The permissions of the group.
const GROUP_BITS: u32 = 0o070;
/// The sticky bit, which everybody may set.
const STICKY: u8 = 1;
const SET_GROUP_ID: u8 = 2;
const SET_USER_ID: u8 = 4;

/// Sets attributes of entries, as far as the sender may.
pub(super) struct Keeper {
    /// The sender may set owners, set-id bits and privileged extended attributes.
    is_privileged: bool,
    ids: Ids,
}

/// One entry.
struct Keeping<'a> {
    keeper: &'a Keeper,
    at: Handle<'a>,
    /// Nothing but the system has set anything of it yet.
    is_new: bool,
    kind: FileType,
    /// The permission bits that it gets.
    mode: u32,
    lacks: &'a mut Lacks,
    has_changed: bool,
}

impl Keeper {
    pub(super) fn new(incoming: &Incoming) -> Self {
        Self { is_privileged: incoming.privileged, ids: Ids::default() }
    }

    /// Sets everything but times, where it differs. Returns whether anything did. An error is that of a disk.
    pub(super) fn set(
        &self,
        at: Handle<'_>,
        meta: &Meta,
        attributes: &Attributes,
        is_new: bool,
        lacks: &mut Lacks,
    ) -> Result<bool, Errno> {
        let stat = at.stat()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = meta.mode & MODE_BITS;
        let mut keeping = Keeping { keeper: self, at, is_new, kind, mode, lacks, has_changed: false };
        if let Some(owner) = &attributes.owner {
            keeping.owner(&stat, owner)?;
        }
        if let Some(xattrs) = &attributes.xattrs {
            keeping.xattrs(xattrs)?;
        }
        if kind != FileType::Symlink {
            if let Some(acls) = &attributes.acls {
                keeping.access_acl(acls.access.as_ref())?;
                if kind == FileType::Directory {
                    keeping.default_acl(acls.default.as_ref())?;
                }
            }
            keeping.mode(attributes.special_bits, attributes.owner.as_ref())?;
        }
        if let Some(xattrs) = &attributes.xattrs {
            xattrs
                .iter()
                .filter(|one| one.name.as_bytes() == CAPABILITY)
                .try_for_each(|one| keeping.xattr(one))?;
        }
        Ok(keeping.has_changed)
    }
}

impl Keeping<'_> {
    /// Notes what could not be set, unless the disk has failed.
    fn note(&mut self, result: Result<(), Errno>, aspect: Aspect) -> Result<(), Errno> {
        match result {
            Ok(()) => self.has_changed = true,
            Err(Errno::IO) => return Err(Errno::IO),
            Err(errno) => lack(self.lacks, aspect, errno),
        }
        Ok(())
    }

    fn owner(&mut self, stat: &Stat, owner: &Owner) -> Result<(), Errno> {
        let ids = &self.keeper.ids;
        let (Some(user), Some(group)) = (ids.local_user(&owner.user), ids.local_group(&owner.group)) else {
            lack(self.lacks, Aspect::Owner, Cause::UnknownName);
            return Ok(());
        };
        if (stat.st_uid, stat.st_gid) == (user, group) {
            return Ok(());
        }
        if !self.keeper.is_privileged {
            lack(self.lacks, Aspect::Owner, Cause::NotAllowed);
            return Ok(());
        }
        let set = self.at.set_owner(Some(user), Some(group));
        // Who may not give a file away may still give it to a group of theirs.
        if set.is_err() && stat.st_gid != group {
            self.has_changed |= self.at.set_owner(None, Some(group)).is_ok();
        }
        self.note(set, Aspect::Owner)
    }

    fn xattrs(&mut self, wanted: &Xattrs) -> Result<(), Errno> {
        let there = if self.is_new { Ok(Vec::new()) } else { self.at.xattr_names() };
        for name in there.unwrap_or_default() {
            if XattrName::new(&name).is_some() && wanted.get(&name).is_none() && self.may_remove(&name) {
                let removed = self.able_to_write(|at| at.remove_xattr(&name));
                self.note(removed, Aspect::Xattr)?;
            }
        }
        wanted.iter().filter(|one| one.name.as_bytes() != CAPABILITY).try_for_each(|one| self.xattr(one))
    }

    /// Labels that this machine gives by itself stay.
    fn may_remove(&self, name: &[u8]) -> bool {
        name.starts_with(b"user.")
            || (self.keeper.is_privileged && (name.starts_with(b"trusted.") || name == CAPABILITY))
    }

    fn xattr(&mut self, Xattr { name, value }: &Xattr) -> Result<(), Errno> {
        let is_privileged = name.is_privileged();
        if (!self.is_new || is_privileged)
            && self.at.xattr(name.as_bytes()).is_ok_and(|there| there.as_deref() == Some(&value[..]))
        {
            return Ok(());
        }
        if is_privileged && !self.keeper.is_privileged {
            lack(self.lacks, Aspect::Xattr, Cause::NotAllowed);
            return Ok(());
        }
        let set = self.able_to_write(|at| at.set_xattr(name.as_bytes(), value));
        self.note(set, Aspect::Xattr)
    }

    /// Tries again as an owner who may write. The mode is set after that.
    fn able_to_write(&self, call: impl Fn(&Handle<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        match call(&self.at) {
            Err(Errno::ACCESS) if self.kind != FileType::Symlink => {
                let stat = self.at.stat()?;
                self.at.set_mode(stat.st_mode & (MODE_BITS | SPECIAL_BITS) | OWNER_WRITES)?;
                call(&self.at)
            }
            result => result,
        }
    }

    /// It decides about what local users make in the directory later.
    fn default_acl(&mut self, wanted: Option<&Acl>) -> Result<(), Errno> {
        if self.keeper.is_privileged {
            return self.acl(DEFAULT, wanted).map(drop);
        }
        if wanted.is_some() {
            lack(self.lacks, Aspect::Acl, Cause::NotAllowed);
        }
        Ok(())
    }

    /// The bits of the group in a mode are those of an ACL's mask. Where the ACL is not set, the group gets its own.
    fn access_acl(&mut self, wanted: Option<&Acl>) -> Result<(), Errno> {
        let is_there = matches!(self.at.xattr(ACCESS), Ok(Some(_)));
        if wanted.is_none() && is_there {
            // The mask stays as the bits of the group when the ACL goes.
            self.at.set_mode(self.mode)?;
        }
        if !self.acl(ACCESS, wanted)?
            && let Some(wanted) = wanted
        {
            self.mode = self.mode & !GROUP_BITS | acl::of_group(wanted) << 3;
        }
        Ok(())
    }

    /// Returns whether it is as wanted now.
    fn acl(&mut self, name: &[u8], wanted: Option<&Acl>) -> Result<bool, Errno> {
        let wanted = match wanted.map(|wanted| acl::value(wanted, &self.keeper.ids)) {
            None => None,
            Some(Some(value)) => Some(value),
            Some(None) => {
                lack(self.lacks, Aspect::Acl, Cause::UnknownName);
                return Ok(false);
            }
        };
        match self.at.xattr(name) {
            Ok(there) if there == wanted => return Ok(true),
            // The file system has no ACLs.
            Err(Errno::OPNOTSUPP) if wanted.is_none() => return Ok(true),
            _ => {}
        }
        let set = match &wanted {
            Some(value) => self.at.set_xattr(name, value),
            None => self.at.remove_xattr(name),
        };
        let is_set = set.is_ok();
        self.note(set, Aspect::Acl)?;
        Ok(is_set)
    }

    /// A program with a set-id bit runs as whoever owns it. So the bits are for the announced owner and group only.
    fn safe_bits(&self, stat: &Stat, owner: Option<&Owner>) -> u8 {
        let ids = &self.keeper.ids;
        let is_user = owner.is_some_and(|owner| ids.local_user(&owner.user) == Some(stat.st_uid));
        let is_group = owner.is_some_and(|owner| ids.local_group(&owner.group) == Some(stat.st_gid));
        STICKY | if is_user { SET_USER_ID } else { 0 } | if is_group { SET_GROUP_ID } else { 0 }
    }

    fn mode(&mut self, special_bits: Option<u8>, owner: Option<&Owner>) -> Result<(), Errno> {
        let (stat, mode) = (self.at.stat()?, self.mode);
        let now = stat.st_mode & (MODE_BITS | SPECIAL_BITS);
        let own = if self.kind == FileType::Directory { now & SPECIAL_BITS } else { 0 };
        let special = match special_bits {
            None if now & MODE_BITS == mode => now & SPECIAL_BITS,
            None => own,
            Some(bits) if self.keeper.is_privileged => {
                let safe = bits & self.safe_bits(&stat, owner);
                if safe != bits {
                    lack(self.lacks, Aspect::SpecialBits, Cause::OtherOwner);
                }
                u32::from(safe) << 9
            }
            Some(bits) => {
                let shared = u32::from(bits & STICKY) << 9 | own & !(u32::from(STICKY) << 9);
                if u32::from(bits) << 9 & !shared != 0 {
                    lack(self.lacks, Aspect::SpecialBits, Cause::NotAllowed);
                }
                shared
            }
        };
        if now == mode | special {
            return Ok(());
        }
        let set = self.at.set_mode(mode | special);
        let is_set = set.is_ok();
        self.note(set, Aspect::Mode)?;
        // The bit of a group that this process is not in is dropped without an error.
        if is_set && special & !self.at.stat()?.st_mode != 0 {
            lack(self.lacks, Aspect::SpecialBits, Errno::PERM);
        }
        Ok(())
    }
}
