//! Giving staged entries their final names.
//!
//! The order is what a person relies on when the machine stops at any point: the data of the whole batch is
//! synced, then the names appear, then the directories are synced.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags, fsync, linkat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use super::dirs::Dirs;
use super::failed;
use super::staging::StagedFile;
use super::target::Shared;
use crate::protocol::entry::EntryId;
use crate::protocol::limits::RENAME_TRIES_MAX;
use crate::protocol::path::{PathError, RelPath};
use crate::storage::{Commit, Committed, Final, OnConflict, StorageError};

/// Up to so many files or directories are synced one by one, more of them by one sync of the file system.
const FSYNC_MAX: usize = 4;

/// A commit on its way.
enum Step {
    /// Complete in staging; open when it is to be synced by itself.
    Staged(Option<Arc<StagedFile>>),
    /// Under its final name in this directory of the batch; `Some` when that is another name than asked for.
    Named { directory: usize, other_name: Option<RelPath> },
    /// Done with, one way or the other.
    Settled(Committed),
}

struct Item {
    commit: Commit,
    step: Step,
}

/// Commits a batch; the failure of one entry does not keep the others.
pub(super) fn commit_batch(shared: &Shared, commits: Vec<Commit>) -> Vec<Committed> {
    let is_few = shared.sync && commits.len() <= FSYNC_MAX;
    let mut items: Vec<Item> = commits.into_iter().map(|commit| stage(shared, commit, is_few)).collect();
    if shared.sync {
        // Links, and files that are closed by now, cannot be synced by themselves.
        let one_by_one = is_few && items.iter().all(|item| !matches!(item.step, Step::Staged(None)));
        sync_data(shared, &mut items, one_by_one);
    }
    let directories = name_all(shared, &mut items);
    if shared.sync {
        sync_directories(shared, &mut items, &directories);
    }
    items.into_iter().map(|item| settle(shared, item)).collect()
}

fn stage(shared: &Shared, commit: Commit, keep_open: bool) -> Item {
    let staged = match &commit.kind {
        Final::File { size } => shared.staging.complete(commit.id, *size, &commit.meta, keep_open),
        Final::Symlink { target } => shared.staging.link(commit.id, target, commit.meta.mtime).map(|()| None),
    };
    let step = match staged {
        Ok(file) => Step::Staged(file.filter(|_| keep_open)),
        Err(error) => {
            let is_refused = is_not_taken(&commit.kind, &error);
            let error = failed("complete", shared.display(&commit.path), error);
            Step::Settled(if is_refused { Committed::Refused(error) } else { Committed::Failed(error) })
        }
    };
    Item { commit, step }
}

/// Whether the file system takes no such entry: a size or target that it cannot hold, or no links at all, which
/// it says with EPERM although the staging directory is our own.
fn is_not_taken(kind: &Final, error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match kind {
        Final::File { .. } => matches!(errno, Some(Errno::FBIG | Errno::INVAL)),
        Final::Symlink { .. } => matches!(
            errno,
            Some(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOENT | Errno::NAMETOOLONG)
        ),
    }
}

fn sync_data(shared: &Shared, items: &mut [Item], one_by_one: bool) {
    if one_by_one {
        for item in items {
            if let Step::Staged(Some(file)) = &item.step
                && let Err(errno) = fsync(file)
            {
                item.fail_sync(shared, errno);
            }
        }
        return;
    }
    if let Err(errno) = shared.sync_all() {
        for item in items.iter_mut().filter(|item| matches!(item.step, Step::Staged(_))) {
            item.fail_sync(shared, errno);
        }
    }
}

/// Gives all staged entries their names; returns the directories that were changed, up to one more than are
/// synced one by one.
fn name_all(shared: &Shared, items: &mut [Item]) -> Vec<Arc<OwnedFd>> {
    let mut dirs = if shared.sync { Dirs::for_sync() } else { Dirs::for_lookup() };
    let mut changed: Vec<(Option<RelPath>, Arc<OwnedFd>)> = Vec::new();
    for item in items {
        if !matches!(item.step, Step::Staged(_)) {
            continue;
        }
        let holder = match dirs.parent(&shared.root, &item.commit.path) {
            Ok((holder, _)) => holder,
            Err(blocked) => {
                let error = shared.blocked(blocked);
                item.step = Step::Settled(not_named(error));
                continue;
            }
        };
        item.step = match name_one(shared, &item.commit, &holder) {
            Ok(other_name) => {
                let parent = item.commit.path.parent();
                let known = changed.iter().position(|(path, _)| *path == parent);
                let directory = known.unwrap_or_else(|| {
                    // Those beyond are covered by one sync of the file system, so they need not stay open.
                    if changed.len() <= FSYNC_MAX {
                        changed.push((parent, holder));
                    }
                    changed.len() - 1
                });
                Step::Named { directory, other_name }
            }
            Err(NotNamed::Exists) => Step::Settled(Committed::Exists),
            Err(NotNamed::Error(errno)) => {
                let error = failed("rename to", shared.display(&item.commit.path), errno);
                Step::Settled(not_named(error))
            }
        };
    }
    changed.into_iter().map(|(_, fd)| fd).collect()
}

fn sync_directories(shared: &Shared, items: &mut [Item], directories: &[Arc<OwnedFd>]) {
    let synced: Vec<Result<(), Errno>> = if directories.len() <= FSYNC_MAX {
        directories.iter().map(fsync).collect()
    } else {
        vec![shared.sync_all(); directories.len()]
    };
    for item in items {
        if let Step::Named { directory, .. } = item.step
            && let Err(errno) = synced[directory]
        {
            item.fail_sync(shared, errno);
        }
    }
}

fn settle(shared: &Shared, item: Item) -> Committed {
    match item.step {
        Step::Named { other_name, .. } => Committed::Done(other_name),
        Step::Settled(committed) => {
            shared.staging.discard(item.commit.id);
            committed
        }
        // `name_all` leaves none of these.
        Step::Staged(_) => unreachable!("a staged entry was neither named nor given up"),
    }
}

impl Item {
    fn fail_sync(&mut self, shared: &Shared, errno: Errno) {
        let error = failed("sync", shared.display(&self.commit.path), errno);
        self.step = Step::Settled(Committed::Failed(error));
    }
}

fn not_named(error: StorageError) -> Committed {
    match &error {
        _ if error.is_refusal() => Committed::Refused(error),
        _ if error.is_denial() => Committed::Denied(error),
        _ => Committed::Failed(error),
    }
}

/// Why an entry did not get its name.
enum NotNamed {
    /// Something is there.
    Exists,
    Error(Errno),
}

impl From<Errno> for NotNamed {
    fn from(errno: Errno) -> Self {
        match errno {
            // The last two say that a directory is where a file is to go.
            Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY => Self::Exists,
            errno => Self::Error(errno),
        }
    }
}

/// Moves one staged entry into `holder`; `Some` when under another name than its own.
fn name_one(shared: &Shared, commit: &Commit, holder: &OwnedFd) -> Result<Option<RelPath>, NotNamed> {
    let path = &commit.path;
    match commit.on_conflict {
        OnConflict::Keep => rename_new(shared, commit.id, holder, path.name())?,
        OnConflict::Replace => {
            let (staging, staged) = shared.staging.place(commit.id);
            renameat(staging, &staged, holder, path.name())?;
        }
        OnConflict::Rename => match rename_new(shared, commit.id, holder, path.name()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return rename_free(shared, commit, holder).map(Some),
            Err(errno) => return Err(errno.into()),
        },
    }
    Ok(None)
}

/// The first of the other names that is free.
fn rename_free(shared: &Shared, commit: &Commit, holder: &OwnedFd) -> Result<RelPath, NotNamed> {
    for number in 1..=RENAME_TRIES_MAX {
        // The number may make a name too long; nothing else can be wrong with it.
        let other = numbered(&commit.path, number).map_err(|_| NotNamed::Error(Errno::NAMETOOLONG))?;
        match rename_new(shared, commit.id, holder, other.name()) {
            Ok(()) => return Ok(other),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(NotNamed::Exists)
}

/// `name~1`, or `stem~1.ext`; a dot at the front begins no extension.
pub(crate) fn numbered(path: &RelPath, number: u32) -> Result<RelPath, PathError> {
    let name = path.name();
    let stem = match name.iter().rposition(|b| *b == b'.') {
        None | Some(0) => name.len(),
        Some(at) => at,
    };
    let other = [&name[..stem], format!("~{number}").as_bytes(), &name[stem..]].concat();
    path.with_name(&other)
}

/// Renames a staged entry to a name that must be free.
fn rename_new(shared: &Shared, id: EntryId, holder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let (staging, staged) = shared.staging.place(id);
    match renameat_with(staging, &staged, holder, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return renamed,
    }
    link_new(staging, &staged, holder, name)
}

/// The same where the file system cannot rename so: a link is made only where there is nothing.
fn link_new(staging: &OwnedFd, staged: &str, holder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match linkat(staging, staged, holder, name, AtFlags::empty()) {
        Ok(()) => return unlinkat(staging, staged, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
        Err(errno) => return Err(errno),
    }
    // Nor has it links: look first. Something that appears in between would be replaced; no call prevents it.
    match statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => renameat(staging, staged, holder, name),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    #[test]
    fn a_link_takes_the_place_of_a_rename_that_is_not_supported() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("0"), b"new").unwrap();
        symlink("nowhere", at("1")).unwrap();
        fs::write(at("taken"), b"old").unwrap();
        let dir = openat(CWD, temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();

        assert_eq!(link_new(&dir, "0", &dir, b"taken"), Err(Errno::EXIST));
        assert_eq!(fs::read(at("taken")).unwrap(), b"old");
        link_new(&dir, "0", &dir, b"free").unwrap();
        link_new(&dir, "1", &dir, b"link").unwrap();
        assert_eq!(fs::read(at("free")).unwrap(), b"new");
        assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("nowhere"));
        assert!(!at("0").exists() && !at("1").is_symlink());
    }

    #[test]
    fn other_names_keep_the_extension() {
        let cases = [
            ("a", "a~1"),
            ("a.txt", "a~1.txt"),
            ("d.x/a", "d.x/a~1"),
            (".bashrc", ".bashrc~1"),
            ("a.tar.gz", "a.tar~1.gz"),
            ("a.", "a~1."),
        ];
        for (path, want) in cases {
            let path = RelPath::new(path.as_bytes()).unwrap();
            assert_eq!(numbered(&path, 1).unwrap().as_bytes(), want.as_bytes());
        }
        assert!(numbered(&RelPath::new(&[b'x'; 255]).unwrap(), 1).is_err());
    }
}
