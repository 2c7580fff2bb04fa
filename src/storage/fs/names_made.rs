//! Names that this transfer has made in directories where different names are one, as `File` and `file` are on FAT.
//!
//! An existing file may be replaced. One that this transfer has made may not: it is another file of the source, and a
//! move would lose it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, statat};

use super::attributes::identity_of;
use super::dirs::Dirs;
use crate::protocol::path::{RelPath, STAGING_DIR};

/// Names that are remembered, with two numbers for each. When there are more, no existing file is replaced in such
/// directories.
const NAMES_MAX: usize = 1 << 19;

/// The names, as numbers.
#[derive(Default)]
pub(super) struct NamesMade {
    made: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// Which directories take different names for one. For one batch of work.
#[derive(Default)]
pub(super) struct Folding {
    dirs: HashMap<Option<RelPath>, bool>,
}

/// The names of a set whose top directory takes different names for one.
pub(super) struct Spellings {
    folds: bool,
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Spellings {
    /// Of a target that has a staging directory.
    pub(super) fn of(root: &OwnedFd) -> Self {
        let folds = has_other_case(root, STAGING_DIR.as_bytes()) == Some(true);
        Self { folds, seen: HashSet::new(), hasher: RandomState::new() }
    }

    /// Whether `path` may be a name that was asked about before, in another spelling.
    pub(super) fn is_again(&mut self, path: &RelPath) -> bool {
        let number = self.hasher.hash_one(lower_case(path));
        self.folds && (self.seen.len() >= 2 * NAMES_MAX || !self.seen.insert(number))
    }
}

impl NamesMade {
    /// Whether this transfer may have made the file that is now under a name, which may have been another one.
    pub(super) fn has(&self, holder: &OwnedFd, path: &RelPath) -> bool {
        let Ok(there) = statat(holder, path.name(), AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.len() >= 2 * NAMES_MAX
            || made.contains(&self.number(identity_of(&there)))
            || made.contains(&self.number(lower_case(path)))
    }

    /// Notes that a file has got its name.
    pub(super) fn note(&self, holder: &OwnedFd, path: &RelPath) {
        let there = statat(holder, path.name(), AtFlags::SYMLINK_NOFOLLOW);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() < 2 * NAMES_MAX {
            made.extend(there.map(|stat| self.number(identity_of(&stat))));
            // Not every file system keeps its inode numbers.
            made.insert(self.number(lower_case(path)));
        }
    }

    fn number(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }
}

impl Folding {
    /// Whether the name of `path` in `holder` is known to have other spellings, or that of a directory above it.
    pub(super) fn concerns(
        &mut self,
        root: &Arc<OwnedFd>,
        dirs: &mut Dirs,
        holder: &OwnedFd,
        path: &RelPath,
    ) -> bool {
        let parent = path.parent();
        if let Some(known) = self.dirs.get(&parent) {
            return *known;
        }
        let is_above = parent.as_ref().is_some_and(|parent| {
            let holder = dirs.parent(root, parent).map(|(holder, _)| holder);
            holder.is_ok_and(|holder| self.concerns(root, dirs, &holder, parent))
        });
        let folds = match has_other_case(holder, path.name()) {
            _ if is_above => true,
            Some(folds) => folds,
            // Such a name says nothing of the others in the directory.
            None => return false,
        };
        self.dirs.insert(parent, folds);
        folds
    }
}

/// Whether a name in the other case is the same file; `None` if there is no such name or no such file.
pub(super) fn has_other_case(holder: impl AsFd, name: &[u8]) -> Option<bool> {
    let other = other_case(name)?;
    let there = |name: &[u8]| statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let one = identity_of(&there(name)?);
    Some(there(&other).is_some_and(|other| identity_of(&other) == one))
}

fn other_case(name: &[u8]) -> Option<Vec<u8>> {
    let cases = match str::from_utf8(name) {
        Ok(text) => [text.to_uppercase().into_bytes(), text.to_lowercase().into_bytes()],
        Err(_) => [name.to_ascii_uppercase(), name.to_ascii_lowercase()],
    };
    cases.into_iter().find(|other| other != name)
}

fn lower_case(path: &RelPath) -> Vec<u8> {
    String::from_utf8_lossy(path.as_bytes()).to_lowercase().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::protocol::final_name::{Committed, Exists};
    use crate::protocol::wire::entry::{EntryId, Meta};
    use crate::storage::fs::commit::commit_batch;
    use crate::storage::fs::target_disk::TargetDisk;
    use crate::storage::target::{Commit, Final};
    use crate::testing::disk::{incoming, rel_path};

    /// Second names stand in for a file system that takes both spellings for one name.
    #[test]
    fn a_file_of_this_transfer_is_not_replaced_in_another_spelling() {
        let temp = tempfile::tempdir().unwrap();
        let disk = TargetDisk::open(&temp.path().into(), incoming(1, true)).unwrap();
        let commit = |id, path: &str, text: &str| {
            disk.staging(EntryId(id))
                .unwrap()
                .open(EntryId(id))
                .unwrap()
                .write_at(text.as_bytes(), 0, &disk.incoming)
                .unwrap();
            let kind = Final::File { size: text.len() as u64 };
            let (path, exists) = (rel_path(path), Exists::Replace);
            let commit = Commit {
                id: EntryId(id),
                path,
                kind,
                meta: Meta { mode: 0o600, ..Meta::default() },
                root: None,
                exists,
            };
            commit_batch(&disk, vec![commit]).remove(0).unwrap()
        };
        let at = |path: &str| temp.path().join(path);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("dir/old"), "old").unwrap();
        fs::hard_link(at("dir/old"), at("dir/OLD")).unwrap();
        assert_eq!(commit(0, "dir/old", "new"), Committed::Done(None), "it was there before");

        assert_eq!(commit(1, "dir/caf\u{e9}", "one"), Committed::Done(None));
        fs::hard_link(at("dir/caf\u{e9}"), at("dir/CAF\u{c9}")).unwrap();
        assert_eq!(
            commit(2, "dir/caf\u{e9}", "two"),
            Committed::Done(None),
            "nothing was known of the directory"
        );
        fs::remove_file(at("dir/CAF\u{c9}")).unwrap();
        fs::hard_link(at("dir/caf\u{e9}"), at("dir/CAF\u{c9}")).unwrap();
        let Committed::Refused(failure) = commit(3, "dir/CAF\u{c9}", "three") else {
            panic!("it was replaced")
        };
        let end = "dir/CAF\u{c9} would replace another file of this transfer: this file system takes both names for one";
        assert!(failure.message.ends_with(end), "{failure}");
        assert_eq!(fs::read_to_string(at("dir/caf\u{e9}")).unwrap(), "two");
    }
}
