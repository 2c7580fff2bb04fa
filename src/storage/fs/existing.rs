//! Existing files: whether one may be the same as an incoming entry, and its new attributes if it is.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, Stat, fchmod, fstat, futimens, readlinkat, statat, utimensat};
use rustix::io::Errno;

use super::attributes::{MODE_BITS, meta_of, timestamps};
use super::descriptors::patiently;
use super::kept_time::{has_time, is_settled};
use super::lacks::{Lacks, unless_lacking};
use super::numbered::{alike, is_file_of};
use super::open::open_file;
use super::read_attributes::Opened;
use super::set_attributes::Keeper;
use super::sys::handle::Handle;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, Kind};

/// Looks for the same file of `size` bytes (any size if unknown), under its name and the names that a rename would
/// give.
pub(super) fn look_at_file(
    holder: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    size: Option<u64>,
    exists: Exists,
) -> Result<Lookup, Errno> {
    let Some(stat) = look(holder, name)? else { return Ok(Lookup::Free) };
    let mut numbers = VecDeque::new();
    let is_alike = is_file_of(&stat, size);
    if is_alike {
        numbers.push_back(0);
    }
    if exists == Exists::Rename {
        numbers.extend(alike(holder, &entry.path, |_, stat| is_file_of(stat, size))?);
    }
    if numbers.is_empty() {
        return Ok(conflict(&stat));
    }
    let has_time = is_alike && has_time(holder, &stat, entry.meta.mtime);
    // Attributes are compared when they are set.
    let is_current = has_time && meta_of(&stat).mode == entry.meta.mode && entry.meta.attributes.is_none();
    let is_unchanged = has_time && size.is_some() && is_settled(entry.meta.mtime, SystemTime::now());
    Ok(Lookup::SameSize { numbers, is_current, is_unchanged })
}

/// The same for a link to `target`.
pub(super) fn look_at_link(
    holder: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    target: &[u8],
    exists: Exists,
) -> Result<Lookup, Errno> {
    let Some(stat) = look(holder, name)? else { return Ok(Lookup::Free) };
    if leads_to(holder, name, &stat, target) {
        // Links have no mode.
        let is_current = meta_of(&stat).mtime == entry.meta.mtime && entry.meta.attributes.is_none();
        return Ok(Lookup::Same { number: 0, is_current });
    }
    if exists == Exists::Rename {
        let is_alike = |path: &RelPath, stat: &Stat| leads_to(holder, path.name(), stat, target);
        if let Some(number) = alike(holder, &entry.path, is_alike)?.first() {
            return Ok(Lookup::Same { number: *number, is_current: true });
        }
    }
    Ok(conflict(&stat))
}

fn conflict(stat: &Stat) -> Lookup {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Lookup::Directory,
        _ => Lookup::Conflict,
    }
}

/// Sets permission bits, attributes and time of `entry` on the existing file. Returns whether that changed anything. `lacks`
/// collects what cannot be kept.
pub(super) fn update(
    keeper: &Keeper,
    holder: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    lacks: &mut Lacks,
) -> io::Result<bool> {
    let (meta, times) = (&entry.meta, timestamps(entry.meta.mtime));
    let mut has_changed = false;
    if matches!(entry.kind, Kind::Symlink { .. }) {
        let before = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(attributes) = &meta.attributes {
            let link = Opened::open(holder, name, FileType::Symlink)?;
            has_changed = keeper.set(link.handle(), meta, attributes, false, lacks)?;
        }
        let set = utimensat(holder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
        unless_lacking(set, Aspect::Time, lacks)?;
        let now = statat(holder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(has_changed || meta_of(&before) != meta_of(&now));
    }
    let file = patiently(|| open_file(holder, name), || ())?;
    let before = fstat(&file)?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it was replaced"));
    }
    if let Some(attributes) = &meta.attributes {
        has_changed = keeper.set(Handle::Open(file.as_fd()), meta, attributes, false, lacks)?;
    } else if before.st_mode & MODE_BITS != meta.mode & MODE_BITS {
        let set = fchmod(&file, Mode::from_raw_mode(meta.mode & MODE_BITS));
        unless_lacking(set, Aspect::Mode, lacks)?;
    }
    unless_lacking(futimens(&file, &times), Aspect::Time, lacks)?;
    Ok(has_changed || meta_of(&before) != meta_of(&fstat(&file)?))
}

fn look(holder: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn leads_to(holder: &OwnedFd, name: &[u8], stat: &Stat, target: &[u8]) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
        && readlinkat(holder, name, Vec::new()).is_ok_and(|there| there.as_bytes() == target)
}
