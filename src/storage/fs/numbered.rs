//! The names given by `--exists rename`: `name~1`, `name~2`, and so on.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use super::attributes::size_of;
use crate::protocol::path::RelPath;
use crate::protocol::wire::limits::{RENAME_COMPARED_MAX, RENAME_TRIES_MAX};

/// The number of the last taken name, 0 if none. Found by doubling and bisection, so thousands of names cost few
/// look-ups. Gaps in the numbers may be missed.
pub(super) fn last_taken(holder: &OwnedFd, path: &RelPath) -> Result<u32, Errno> {
    let (mut taken, mut free) = (0, 1);
    while free <= RENAME_TRIES_MAX && look(holder, path, free)?.is_some() {
        (taken, free) = (free, free * 2);
    }
    free = free.min(RENAME_TRIES_MAX + 1);
    while free - taken > 1 {
        let middle = taken.midpoint(free);
        match look(holder, path, middle)? {
            Some(_) => taken = middle,
            None => free = middle,
        }
    }
    Ok(taken)
}

/// The numbers of the latest names for which `is_alike` holds, the latest first.
pub(super) fn alike(
    holder: &OwnedFd,
    path: &RelPath,
    is_alike: impl Fn(&RelPath, &Stat) -> bool,
) -> Result<Vec<u32>, Errno> {
    let last = last_taken(holder, path)?;
    let mut numbers = Vec::new();
    for number in (1..=last).rev().take(RENAME_COMPARED_MAX) {
        if let Some((name, stat)) = look(holder, path, number)?
            && is_alike(&name, &stat)
        {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// Whether `stat` is a regular file of `size` bytes, or of any size if unknown.
pub(super) fn is_file_of(stat: &Stat, size: Option<u64>) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && size.is_none_or(|size| size_of(stat) == size)
}

/// The file under the name with this number.
fn look(holder: &OwnedFd, path: &RelPath, number: u32) -> Result<Option<(RelPath, Stat)>, Errno> {
    // A number can make the name too long; such a file cannot exist.
    let Ok(name) = path.numbered(number) else { return Ok(None) };
    match statat(holder, name.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((name, stat))),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    /// Part of fault 11: names were tried one after the other.
    #[test]
    fn fault_11_the_last_name_is_found_among_thousands() {
        let temp = tempfile::tempdir().unwrap();
        let dir = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let path = RelPath::new(b"d/a.txt").unwrap();
        for last in 0..70 {
            assert_eq!(last_taken(&dir, &path), Ok(last));
            fs::write(temp.path().join(format!("a~{}.txt", last + 1)), last.to_string()).unwrap();
        }
        let two_bytes = |_: &RelPath, stat: &Stat| is_file_of(stat, Some(2));
        let latest: Vec<u32> = (55..=70).rev().collect();
        assert_eq!(alike(&dir, &path, two_bytes), Ok(latest));
        assert_eq!(alike(&dir, &path, |_, stat| is_file_of(stat, Some(3))), Ok(vec![]));
        let long = RelPath::new(&[b'x'; 255]).unwrap();
        assert_eq!(last_taken(&dir, &long), Ok(0));
    }
}
