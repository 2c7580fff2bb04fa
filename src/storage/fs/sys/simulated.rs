//! The calls of `disk.rs` over the disk of `simulated_disk.rs`. Without such a disk, all calls are those of the system.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fstat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

pub(crate) use super::simulated_disk::is_simulated;
use super::simulated_disk::{Call, Change, Node, Permit, SimulatedDisk, ask, with};

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

fn bytes_of(path: impl Arg) -> Vec<u8> {
    path.as_cow_c_str().unwrap().to_bytes().to_vec()
}

/// Changes a file, and notes it.
fn change(fd: impl AsFd, change: Change) -> Result<(), Errno> {
    let stat = fstat(fd)?;
    with(|disk| {
        let number = disk.node(&stat);
        disk.nodes[number].changes.push(change);
    });
    Ok(())
}

/// Notes that `name` in `dir` is something new.
fn note_new(dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let (dir, stat) = (fstat(&dir)?, statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?);
    with(|disk| {
        let (dir, node) = (disk.node(&dir), disk.node(&stat));
        disk.rename(vec![((dir, name.to_vec()), Some(node))]);
    });
    Ok(())
}

/// Writes all `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let Some(Permit { bytes: len, result }) = ask(Call::Write(bytes.len()), &offset.to_be_bytes()) else {
        return file.write_all_at(bytes, offset);
    };
    file.write_all_at(&bytes[..len], offset)?;
    if len > 0 {
        change(file, Change::Write(offset, bytes[..len].to_vec()))?;
    }
    Ok(result?)
}

pub(crate) fn ftruncate(fd: impl AsFd, len: u64) -> Result<(), Errno> {
    let Some(permit) = ask(Call::Change, &len.to_be_bytes()) else { return rustix::fs::ftruncate(fd, len) };
    permit.result?;
    rustix::fs::ftruncate(&fd, len)?;
    change(fd, Change::Len(len))
}

pub(crate) fn fallocate(fd: impl AsFd, mode: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
    let Some(permit) = ask(Call::Change, &offset.to_be_bytes()) else {
        return rustix::fs::fallocate(fd, mode, offset, len);
    };
    permit.result?;
    assert_eq!(mode, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE);
    rustix::fs::fallocate(&fd, mode, offset, len)?;
    change(fd, Change::Zeros(offset..offset + len))?;
    with(SimulatedDisk::made_zeros);
    Ok(())
}

pub(crate) fn fdatasync(fd: impl AsFd) -> Result<(), Errno> {
    if is_simulated() { fsync(fd) } else { rustix::fs::fdatasync(fd) }
}

pub(crate) fn fsync(fd: impl AsFd) -> Result<(), Errno> {
    let Some(permit) = ask(Call::Sync, b"sync") else { return rustix::fs::fsync(fd) };
    let stat = fstat(fd)?;
    with(|disk| {
        let number = disk.node(&stat);
        match permit.result {
            Ok(()) => disk.sync_node(number),
            Err(_) if disk.is_dead => {}
            Err(_) => disk.fail_sync(number),
        }
    });
    permit.result
}

pub(crate) fn syncfs(fd: impl AsFd) -> Result<(), Errno> {
    let Some(permit) = ask(Call::Sync, b"syncfs") else { return rustix::fs::syncfs(fd) };
    with(|disk| match permit.result {
        Ok(()) => {
            disk.nodes.iter_mut().for_each(Node::sync);
            disk.renames.clear();
            disk.synced_names = disk.names.clone();
        }
        Err(_) if disk.is_dead => {}
        Err(_) => (0..disk.nodes.len()).for_each(|number| disk.fail_sync(number)),
    });
    permit.result
}

pub(crate) fn openat(dir: impl AsFd, path: impl Arg, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if !flags.contains(OFlags::CREATE) || !is_simulated() {
        return rustix::fs::openat(dir, path, flags, mode);
    }
    let name = bytes_of(path);
    if statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return rustix::fs::openat(dir, &name[..], flags, mode);
    }
    with(|disk| disk.permit(Call::Make, &name)).result?;
    let file = rustix::fs::openat(&dir, &name[..], flags, mode)?;
    note_new(dir, &name)?;
    Ok(file)
}

pub(crate) fn mkdirat(dir: impl AsFd, path: impl Arg, mode: Mode) -> Result<(), Errno> {
    let name = bytes_of(path);
    match ask(Call::Make, &name) {
        None => rustix::fs::mkdirat(dir, &name[..], mode),
        Some(permit) => {
            permit.result?;
            rustix::fs::mkdirat(&dir, &name[..], mode)?;
            note_new(dir, &name)
        }
    }
}

pub(crate) fn symlinkat(target: impl Arg, dir: impl AsFd, path: impl Arg) -> Result<(), Errno> {
    let name = bytes_of(path);
    match ask(Call::Make, &name) {
        None => rustix::fs::symlinkat(target, dir, &name[..]),
        Some(permit) => {
            permit.result?;
            rustix::fs::symlinkat(target, &dir, &name[..])?;
            note_new(dir, &name)
        }
    }
}

pub(crate) fn linkat(
    old_dir: impl AsFd,
    old: impl Arg,
    new_dir: impl AsFd,
    new: impl Arg,
    flags: AtFlags,
) -> Result<(), Errno> {
    let new = bytes_of(new);
    match ask(Call::Make, &new) {
        None => rustix::fs::linkat(old_dir, old, new_dir, &new[..], flags),
        Some(permit) => {
            permit.result?;
            rustix::fs::linkat(old_dir, old, &new_dir, &new[..], flags)?;
            note_new(new_dir, &new)
        }
    }
}

pub(crate) fn unlinkat(dir: impl AsFd, path: impl Arg, flags: AtFlags) -> Result<(), Errno> {
    let name = bytes_of(path);
    let Some(permit) = ask(Call::Change, &name) else { return rustix::fs::unlinkat(dir, &name[..], flags) };
    permit.result?;
    let (holder, stat) = (fstat(&dir)?, statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW)?);
    let (number, place, has_inside) = with(|disk| {
        let number = disk.node(&stat);
        let has_inside = disk.names.range((number, vec![])..(number + 1, vec![])).next().is_some();
        (number, disk.place(number), has_inside)
    });
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (is_dir, flags.contains(AtFlags::REMOVEDIR)) {
        (true, false) => return Err(Errno::ISDIR),
        (false, true) => return Err(Errno::NOTDIR),
        (true, true) if has_inside => return Err(Errno::NOTEMPTY),
        _ => {}
    }
    let key = (with(|disk| disk.node(&holder)), name.clone());
    with(|disk| disk.rename(vec![(key, None)]));
    put_away(&dir, &name, number, &place)
}

/// Takes a name from a file or directory, which is kept.
fn put_away(dir: impl AsFd, name: &[u8], number: usize, place: &Path) -> Result<(), Errno> {
    if with(|disk| disk.has_name(number)) || place.symlink_metadata().is_ok() {
        return rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    rustix::fs::renameat(dir, name, CWD, place)
}

pub(crate) fn renameat(
    old_dir: impl AsFd,
    old: impl Arg,
    new_dir: impl AsFd,
    new: impl Arg,
) -> Result<(), Errno> {
    renameat_with(old_dir, old, new_dir, new, RenameFlags::empty())
}

pub(crate) fn renameat_with(
    old_dir: impl AsFd,
    old: impl Arg,
    new_dir: impl AsFd,
    new: impl Arg,
    flags: RenameFlags,
) -> Result<(), Errno> {
    let (old, new) = (bytes_of(old), bytes_of(new));
    let Some(permit) = ask(Call::Change, &new) else {
        return rustix::fs::renameat_with(old_dir, &old[..], new_dir, &new[..], flags);
    };
    permit.result?;
    if !flags.is_empty() && with(|disk| disk.faults.lacks_rename) {
        return Err(Errno::INVAL);
    }
    let (from, to) = (fstat(&old_dir)?, fstat(&new_dir)?);
    let moved = statat(&old_dir, &old[..], AtFlags::SYMLINK_NOFOLLOW)?;
    let replaced = statat(&new_dir, &new[..], AtFlags::SYMLINK_NOFOLLOW).ok();
    if let Some(replaced) = replaced.filter(|_| flags.is_empty()) {
        if FileType::from_raw_mode(replaced.st_mode) == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        let (number, place) = with(|disk| {
            let (number, dir) = (disk.node(&replaced), disk.node(&to));
            disk.names.remove(&(dir, new.clone()));
            (number, disk.place(number))
        });
        put_away(&new_dir, &new, number, &place)?;
    }
    rustix::fs::renameat_with(&old_dir, &old[..], &new_dir, &new[..], flags)?;
    with(|disk| {
        let (from, to, moved) = (disk.node(&from), disk.node(&to), disk.node(&moved));
        disk.rename(vec![((from, old), None), ((to, new), Some(moved))]);
    });
    Ok(())
}

/// The text that identifies this start of the system.
pub(crate) fn boot_id() -> io::Result<String> {
    if is_simulated() {
        Ok(with(|disk| format!("{:032x}", disk.boot)))
    } else {
        fs::read_to_string(BOOT_ID_FILE)
    }
}

/// The mount that `dir` is on, by a number that no other mount gets before the next start of the system.
pub(crate) fn mount_of(dir: impl AsFd) -> Option<u64> {
    if is_simulated() { Some(1) } else { super::volume::unique_mount(dir) }
}
