//! Names of partial files: what an attempt leaves of a file lies in `.towline` under a name that the next attempt finds
//! again, with its journal beside it.
//!
//! Whoever uses or removes a partial file holds the lock of its journal, and looks after taking it whether the journal
//! still has its name. The journal is made first and removed last, so a file without one is nobody's.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, statat};
use rustix::io::Errno;

use super::attributes::identity_of;
use super::descriptors::patiently;
use super::sys::disk::{openat, unlinkat};
use crate::auth::Fingerprint;
use crate::protocol::path::RelPath;

const DATA_SUFFIX: &str = ".part";
const JOURNAL_SUFFIX: &str = ".journal";
/// Hexadecimal digits of a name, without its suffix.
const DIGITS: usize = 40;
/// Attempts to lock a journal that others lock or remove meanwhile.
const ATTEMPTS_MAX: u32 = 5;
/// Between two of them.
const LOCK_STEP: Duration = Duration::from_millis(2);
/// Partial files of one directory that are looked at.
const FOUND_MAX: usize = 64 * 1024;

/// What a partial file is named by: its sender and its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PartialName(String);

impl PartialName {
    pub(super) fn new(sender: &Fingerprint, path: &RelPath) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"towline partial file");
        hasher.update(sender.as_bytes());
        hasher.update(path.as_bytes());
        Self(hasher.finalize().to_hex()[..DIGITS].to_owned())
    }

    /// The name of a partial file or a journal, without its suffix.
    fn parse(name: &[u8]) -> Option<Self> {
        let digits = [DATA_SUFFIX, JOURNAL_SUFFIX].iter().find_map(|s| name.strip_suffix(s.as_bytes()))?;
        let is_name = digits.len() == DIGITS && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        Some(Self(std::str::from_utf8(digits).ok().filter(|_| is_name)?.to_owned()))
    }

    pub(super) fn data(&self) -> String {
        format!("{}{DATA_SUFFIX}", self.0)
    }

    pub(super) fn journal(&self) -> String {
        format!("{}{JOURNAL_SUFFIX}", self.0)
    }

    /// Whether there is a file under this name in `hub`, whole or not.
    pub(super) fn is_there(&self, hub: impl AsFd) -> bool {
        let is_there = |name: String| statat(&hub, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        is_there(self.journal()) || is_there(self.data())
    }

    /// Opens and locks the journal, which is made if `make`. `None` if another process has locked it, or if it is
    /// missing.
    ///
    /// Fails where locks are not supported: without one, two receivers could write to one file.
    pub(super) fn lock(&self, hub: &OwnedFd, make: bool) -> Result<Option<File>, Errno> {
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        flags.set(OFlags::CREATE, make);
        let mut is_taken = false;
        for _ in 0..ATTEMPTS_MAX {
            let open = || openat(hub, self.journal(), flags, Mode::RUSR | Mode::WUSR);
            let journal = match patiently(open, || ()) {
                Ok(journal) => journal,
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(errno) => return Err(errno),
            };
            let opened = fstat(&journal)?;
            if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL);
            }
            match flock(&journal, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // It may be that it is only being looked at.
                Err(Errno::WOULDBLOCK) => {
                    is_taken = true;
                    thread::sleep(LOCK_STEP);
                    continue;
                }
                Err(errno) => return Err(errno),
            }
            match statat(hub, self.journal(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if identity_of(&named) == identity_of(&opened) => {
                    return Ok(Some(File::from(journal)));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        if is_taken { Ok(None) } else { Err(Errno::AGAIN) }
    }

    /// Removes the file, then its journal, whose lock the caller holds.
    pub(super) fn remove(&self, hub: &OwnedFd) -> Result<(), Errno> {
        for name in [self.data(), self.journal()] {
            match unlinkat(hub, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// The names of all partial files in `hub`, in order.
pub(super) fn find_partials(hub: &OwnedFd) -> Result<Vec<PartialName>, Errno> {
    let dir = patiently(|| Dir::read_from(hub), || ())?;
    let names = dir.flatten().filter_map(|entry| PartialName::parse(entry.file_name().to_bytes()));
    let mut names: Vec<PartialName> = names.take(2 * FOUND_MAX).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_sender_and_path_alone() {
        let (one, other) = (Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
        let path = |path: &[u8]| RelPath::new(path).unwrap();
        let name = PartialName::new(&one, &path(b"d/\xff \n"));
        assert_eq!(name, PartialName::new(&one, &path(b"d/\xff \n")));
        for different in [PartialName::new(&other, &path(b"d/\xff \n")), PartialName::new(&one, &path(b"d"))]
        {
            assert_ne!(name, different);
        }
        assert_eq!(PartialName::parse(name.data().as_bytes()), Some(name.clone()));
        assert_eq!(PartialName::parse(name.journal().as_bytes()), Some(name.clone()));
        let foreign = [name.0.clone(), format!("x{}", name.data()), format!("{}.part", &name.0[1..])];
        for foreign in foreign {
            assert_eq!(PartialName::parse(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
