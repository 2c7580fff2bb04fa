//! BLAKE3 roots of large existing files, so that a peer who announces the same name again and again does not have the
//! file read each time.

use std::collections::{HashMap, VecDeque};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Files that are remembered: about 100 bytes each. The oldest makes room.
const FILES_MAX: usize = 4096;
/// A file that changed so lately may change once more without another change time. Clocks of file systems tick as
/// seldom as this.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A file as it was when it was read. A change of its bytes changes the change time, which no program can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Reading {
    pub(super) fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether another change before `now` would have another change time.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = UNIX_EPOCH + Duration::new(seconds, nanos);
        now.duration_since(changed).is_ok_and(|age| age >= SETTLED_AFTER)
    }
}

#[derive(Default)]
pub(super) struct KnownRoots(Mutex<Roots>);

#[derive(Default)]
struct Roots {
    roots: HashMap<Reading, blake3::Hash>,
    oldest: VecDeque<Reading>,
}

impl KnownRoots {
    pub(super) fn get(&self, reading: &Reading) -> Option<blake3::Hash> {
        self.lock().roots.get(reading).copied()
    }

    /// Keeps the root of a file that was `before` when the reading began, at `now`, and is `after` at its end.
    pub(super) fn keep(&self, before: Reading, after: Reading, now: SystemTime, root: blake3::Hash) {
        if before != after || !before.is_settled(now) {
            return;
        }
        let mut known = self.lock();
        if known.roots.insert(before, root).is_some() {
            return;
        }
        known.oldest.push_back(before);
        if known.oldest.len() > FILES_MAX
            && let Some(oldest) = known.oldest.pop_front()
        {
            known.roots.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Roots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(inode: u64, changed: i64) -> Reading {
        Reading { device: 1, inode, size: 10, modified: (5, 0), changed: (changed, 0) }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_file_is_known_until_it_changes() {
        let known = KnownRoots::default();
        let root = blake3::hash(b"content");
        known.keep(reading(1, 100), reading(1, 100), at(102), root);
        assert_eq!(known.get(&reading(1, 100)), Some(root));
        assert_eq!(known.get(&reading(1, 101)), None);
        assert_eq!(known.get(&reading(2, 100)), None);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_or_changed_just_now_is_not_known() {
        let known = KnownRoots::default();
        let root = blake3::hash(b"content");
        known.keep(reading(1, 100), reading(1, 101), at(200), root);
        known.keep(reading(2, 100), reading(2, 100), at(101), root);
        known.keep(reading(3, 100), reading(3, 100), at(50), root);
        for inode in 1..=3 {
            assert_eq!(known.get(&reading(inode, 100)), None, "file {inode}");
        }
    }

    #[test]
    fn attack_16_the_number_of_known_files_is_limited() {
        let known = KnownRoots::default();
        let root = blake3::hash(b"content");
        for inode in 0..=FILES_MAX as u64 {
            known.keep(reading(inode, 100), reading(inode, 100), at(200), root);
        }
        assert_eq!(known.get(&reading(0, 100)), None);
        assert_eq!(known.get(&reading(1, 100)), Some(root));
        let roots = known.lock();
        assert_eq!((roots.roots.len(), roots.oldest.len()), (FILES_MAX, FILES_MAX));
    }
}
