//! Giving staged entries their final names.
//!
//! The order protects the user when the host stops at any point: the data of the whole batch is synced, then the
//! names appear, then the directories are synced.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::dirs::{Blocked, Dirs};
use super::lacks::Lacks;
use super::names_made::Folding;
use super::naming::{NotNamed, StagedName};
use super::pending_set::PendingSet;
use super::read_back::root_on_device;
use super::set_steps::{Taken, free_number};
use super::staged_files::{Complete, StagedFile};
use super::sys::volume::is_fuse;
use super::target_disk::TargetDisk;
use super::volumes::{FSYNC_MAX, Synced, Volume};
use super::watch::{Call, Subject};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists};
use crate::protocol::not_kept::Aspect;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::EntryId;
use crate::storage::error::{Result, StorageError, failed};
use crate::storage::target::{Commit, Final};

/// A commit in progress.
enum CommitStep {
    /// Complete in staging; open when it must be synced by itself.
    Staged(Option<Arc<StagedFile>>),
    /// Under its final name in this directory of the batch; `Some` for a name other than the requested one.
    Named { directory: usize, other_name: Option<RelPath> },
    /// Part of a set that gets its names later; `Some` for a name other than the requested one.
    Added { other_name: Option<RelPath> },
    /// Finished, with or without success.
    Settled(Result<Committed>),
}

struct CommitItem {
    commit: Commit,
    volume: Arc<Volume>,
    step: CommitStep,
    /// Its data is durable already.
    is_synced: bool,
    lacks: Lacks,
}

/// A directory in which names of the batch appeared.
struct Changed {
    path: Option<RelPath>,
    volume: Arc<Volume>,
    /// Open, unless there are too many to sync one by one.
    fd: Option<Arc<OwnedFd>>,
}

/// Commits a batch; a failed entry does not stop the others.
pub(super) fn commit_batch(disk: &TargetDisk, commits: Vec<Commit>) -> Vec<Result<Committed>> {
    let is_few = disk.sync && commits.len() <= FSYNC_MAX;
    let call = disk.watch.begin("complete", Subject::Top);
    let staging = |commit: Commit| {
        call.step("complete", Subject::Path(commit.path.clone()));
        stage(disk, commit, is_few)
    };
    let mut items: Vec<CommitItem> = commits.into_iter().map(staging).collect();
    if disk.sync {
        // Links, and files already closed, cannot be synced by themselves.
        let can_sync = |item: &CommitItem| item.is_synced || !matches!(item.step, CommitStep::Staged(None));
        let one_by_one = is_few && items.iter().all(can_sync);
        sync_data(disk, &call, &mut items, one_by_one);
    }
    if disk.incoming.verify {
        read_back(disk, &call, &mut items);
    }
    if let Some(set) = &disk.set {
        add_all(disk, set, &call, &mut items);
        return items.into_iter().map(|item| settle(disk, item)).collect();
    }
    let mut dirs = if disk.sync { Dirs::for_sync() } else { Dirs::for_lookup() };
    let changed = name_all(disk, &call, &mut dirs, &mut items);
    if disk.sync {
        sync_directories(disk, &call, &mut dirs, &mut items, &changed);
    }
    items.into_iter().map(|item| settle(disk, item)).collect()
}

fn stage(disk: &TargetDisk, commit: Commit, keep_open: bool) -> CommitItem {
    let volume = disk.volumes.of(commit.id);
    let staged = disk.staging(commit.id).and_then(|staging| match &commit.kind {
        Final::File { size } => staging.complete(commit.id, *size, &commit.meta, keep_open),
        Final::Symlink { target } => staging.link(commit.id, target, &commit.meta),
    });
    match staged {
        Ok(Complete { file, lacks, is_synced }) => {
            // Mode and time are left to the volume's last sync, if it has one.
            let is_synced = is_synced && !volume.lacks_syncfs();
            let step = CommitStep::Staged(file.filter(|_| keep_open));
            CommitItem { commit, volume, step, is_synced, lacks }
        }
        Err(error) => {
            let step = CommitStep::Settled(not_staged(disk, &commit, error));
            CommitItem { commit, volume, step, is_synced: false, lacks: Lacks::new() }
        }
    }
}

/// The outcome of an entry that cannot be made.
fn not_staged(disk: &TargetDisk, commit: &Commit, error: io::Error) -> Result<Committed> {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let failed = |error| failed("complete", disk.place(&commit.path), error);
    match (&commit.kind, errno) {
        (Final::File { .. }, Some(Errno::FBIG | Errno::INVAL)) => {
            Ok(Committed::Refused(failed(error).refusal()))
        }
        (Final::Symlink { .. }, Some(errno)) if holds_no_link(disk, commit.id, errno) => {
            disk.note(Aspect::Link, &commit.path.to_string(), errno);
            Ok(Committed::NotKept)
        }
        (_, Some(Errno::ACCESS | Errno::IO)) => Ok(Committed::Denied(failed(error).of_target())),
        _ => Err(failed(error)),
    }
}

/// Whether the file system does not support links, or not this one. The staging directory is our own, so EPERM is not
/// about permissions.
fn holds_no_link(disk: &TargetDisk, id: EntryId, errno: Errno) -> bool {
    match errno {
        Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOENT | Errno::NAMETOOLONG => {
            true
        }
        // FUSE daemons answer this to unsupported calls; from a disk it is a failure.
        Errno::IO => disk.volumes.of(id).made_staging().is_some_and(|staging| is_fuse(staging.dir())),
        _ => false,
    }
}

fn sync_data(disk: &TargetDisk, call: &Call<'_>, items: &mut [CommitItem], one_by_one: bool) {
    // One call syncs the whole volume, where there is such a call.
    let mut volumes: Vec<(Arc<Volume>, std::result::Result<Synced, Errno>)> = Vec::new();
    for item in items {
        let CommitStep::Staged(open) = &item.step else { continue };
        if item.is_synced {
            continue;
        }
        call.step("sync", Subject::Path(item.commit.path.clone()));
        let known = volumes.iter().find(|(volume, _)| Arc::ptr_eq(volume, &item.volume));
        let synced = match (open, known) {
            (Some(file), _) if one_by_one => {
                let synced = item.volume.sync(file);
                item.note_own_sync(disk, synced);
                continue;
            }
            (_, Some((_, synced))) => *synced,
            (_, None) => {
                let synced = item.volume.sync_all();
                volumes.push((Arc::clone(&item.volume), synced));
                synced
            }
        };
        match synced {
            Ok(Synced::Lacking(errno)) if !one_by_one => {
                let synced = sync_again(disk, item, errno);
                item.note_own_sync(disk, synced);
            }
            synced => item.note_sync(disk, synced),
        }
    }
}

/// Syncs one entry whose volume cannot be synced as a whole; `errno` says why.
fn sync_again(disk: &TargetDisk, item: &CommitItem, errno: Errno) -> std::result::Result<Synced, Errno> {
    match (&item.step, &item.commit.kind) {
        // A link's target is synced with its directory.
        (_, Final::Symlink { .. }) => Ok(Synced::Yes),
        (CommitStep::Staged(Some(file)), _) => item.volume.sync(file),
        _ => {
            let Ok(staging) = disk.staging(item.commit.id) else { return Ok(Synced::Lacking(errno)) };
            match staging.reopen(item.commit.id) {
                Ok(file) => item.volume.sync(file),
                // Its permissions are set already, and no longer let this process open it.
                Err(Errno::ACCESS) => Ok(Synced::Lacking(errno)),
                Err(errno) => Err(errno),
            }
        }
    }
}

/// Reads the staged files back from their device. One that has other bytes than those that were verified gets no name.
fn read_back(disk: &TargetDisk, call: &Call<'_>, items: &mut [CommitItem]) {
    for item in items {
        let (Final::File { size }, Some(root)) = (&item.commit.kind, item.commit.root) else { continue };
        if !matches!(item.step, CommitStep::Staged(_)) {
            continue;
        }
        let (id, path) = (item.commit.id, &item.commit.path);
        let step = || call.step("read back", Subject::Path(path.clone()));
        let found = match disk.staging(id) {
            Ok(staging) => {
                let (dir, name) = staging.place(id);
                root_on_device(dir, &name, *size, step)
            }
            Err(error) => Err(error),
        };
        let place = disk.place(path);
        let differs = match found {
            Ok(Some(found)) if found == root => continue,
            Ok(_) => {
                let differs = |path: &str| {
                    format!("{path}: the disk returns other bytes than were written to it; it was not saved")
                };
                Committed::Differs(Failure::about(Side::Receiver, Reason::Verification, &place, differs))
            }
            Err(error) => Committed::Denied(failed("read back", place, error).of_target()),
        };
        // The next attempt would take what is recorded for right, without reading it.
        disk.discard(id);
        item.step = CommitStep::Settled(Ok(differs));
    }
}

/// Gives all staged entries their names; returns the changed directories.
fn name_all(disk: &TargetDisk, call: &Call<'_>, dirs: &mut Dirs, items: &mut [CommitItem]) -> Vec<Changed> {
    let mut changed: Vec<Changed> = Vec::new();
    // Index in `changed`, by directory.
    let mut known: HashMap<Option<RelPath>, usize> = HashMap::new();
    let mut folding = Folding::default();
    for item in items {
        if !matches!(item.step, CommitStep::Staged(_)) {
            continue;
        }
        call.step("rename to", Subject::Path(item.commit.path.clone()));
        let holder = match dirs.parent(&disk.root, &item.commit.path) {
            Ok((holder, _)) => holder,
            Err(blocked) => {
                item.step = CommitStep::Settled(not_named(disk.blocked(blocked)));
                continue;
            }
        };
        let path = &item.commit.path;
        let replaces = item.commit.exists == Exists::Replace;
        let mut may_be_one = || replaces && folding.concerns(&disk.root, dirs, &holder, path);
        if may_be_one() && disk.names_made.has(&holder, path) {
            item.step = CommitStep::Settled(Ok(Committed::Refused(made_already(disk, path))));
            continue;
        }
        item.step = match name_one(disk, &item.commit, &holder) {
            Ok(other_name) => {
                if may_be_one() {
                    disk.names_made.note(&holder, path);
                }
                let path = path.parent();
                let directory = *known.entry(path.clone()).or_insert_with(|| {
                    // Directories beyond the limit are opened again if they must be synced one by one.
                    let fd = (changed.len() <= FSYNC_MAX).then_some(holder);
                    changed.push(Changed { path, volume: Arc::clone(&item.volume), fd });
                    changed.len() - 1
                });
                CommitStep::Named { directory, other_name }
            }
            Err(NotNamed::Exists) => CommitStep::Settled(Ok(Committed::Exists)),
            Err(NotNamed::Error(errno)) => {
                let error = failed("rename to", disk.place(&item.commit.path), errno);
                CommitStep::Settled(not_named(error))
            }
        };
    }
    changed
}

/// Adds all staged entries to a set that gets its names later.
fn add_all(disk: &TargetDisk, set: &PendingSet, call: &Call<'_>, items: &mut [CommitItem]) {
    let mut dirs = Dirs::for_lookup();
    for item in items {
        if !matches!(item.step, CommitStep::Staged(_)) {
            continue;
        }
        let path = &item.commit.path;
        call.step("complete", Subject::Path(path.clone()));
        let number = match dirs.parent(&disk.root, path) {
            Ok((holder, _)) => {
                free_number(&holder, &item.commit).map_err(|errno| failed("look up", disk.place(path), errno))
            }
            // It is made with the names.
            Err(Blocked { errno: Errno::NOENT, .. }) => Ok(Ok(None)),
            Err(blocked) => Err(disk.blocked(blocked)),
        };
        item.step = match number {
            Err(error) => CommitStep::Settled(not_named(error)),
            Ok(Err(Taken)) => CommitStep::Settled(Ok(Committed::Exists)),
            Ok(Ok(number)) => match disk.add_name(set, &item.volume, &item.commit, number) {
                Ok(()) => {
                    let other_name = number.and_then(|number| path.numbered(number).ok());
                    CommitStep::Added { other_name }
                }
                Err(error) => CommitStep::Settled(Err(failed("stage", disk.place(path), error))),
            },
        };
    }
}

fn sync_directories(
    disk: &TargetDisk,
    call: &Call<'_>,
    dirs: &mut Dirs,
    items: &mut [CommitItem],
    changed: &[Changed],
) {
    let one_by_one = changed.len() <= FSYNC_MAX;
    let sync = |directory: &Changed, dirs: &mut Dirs| {
        if !one_by_one && !directory.volume.lacks_syncfs() {
            return directory.volume.sync_all();
        }
        match (&directory.fd, &directory.path) {
            (Some(fd), _) => directory.volume.sync(fd),
            (None, None) => directory.volume.sync(&disk.root),
            (None, Some(path)) => {
                let fd = dirs.dir(&disk.root, path).map_err(|blocked| blocked.errno)?;
                directory.volume.sync(fd)
            }
        }
    };
    let mut whole: Vec<(&Arc<Volume>, std::result::Result<Synced, Errno>)> = Vec::new();
    let mut synced = Vec::with_capacity(changed.len());
    for directory in changed {
        call.step("sync", directory.path.clone().map_or(Subject::Top, Subject::Path));
        let known = whole.iter().find(|(volume, _)| Arc::ptr_eq(volume, &directory.volume));
        synced.push(match known {
            Some((_, synced)) => *synced,
            None => {
                let synced = sync(directory, dirs);
                if !one_by_one && !directory.volume.lacks_syncfs() {
                    whole.push((&directory.volume, synced));
                }
                synced
            }
        });
    }
    for item in items {
        if let CommitStep::Named { directory, .. } = item.step {
            item.note_sync(disk, synced[directory]);
        }
    }
}

fn settle(disk: &TargetDisk, item: CommitItem) -> Result<Committed> {
    match item.step {
        CommitStep::Named { other_name, .. } => {
            let path = other_name.as_ref().unwrap_or(&item.commit.path).to_string();
            item.lacks.iter().for_each(|(aspect, cause)| disk.note(*aspect, &path, cause));
            disk.named(item.commit.id, &item.commit.path);
            Ok(Committed::Done(other_name))
        }
        CommitStep::Added { other_name } => {
            let path = other_name.as_ref().unwrap_or(&item.commit.path).to_string();
            item.lacks.iter().for_each(|(aspect, cause)| disk.note(*aspect, &path, cause));
            disk.old_files.close(item.commit.id);
            Ok(Committed::Done(other_name))
        }
        CommitStep::Settled(Ok(Committed::Exists)) => Ok(Committed::Exists),
        CommitStep::Settled(committed) => {
            disk.give_up(item.commit.id);
            committed
        }
        // `name_all` and `add_all` leave none in this state.
        CommitStep::Staged(_) => unreachable!("a staged entry was neither named nor given up"),
    }
}

impl CommitItem {
    /// An unsupported sync is reported at the end; a failed one fails the entry.
    fn note_sync(&mut self, disk: &TargetDisk, synced: std::result::Result<Synced, Errno>) {
        match synced {
            Ok(Synced::Yes) => {}
            Ok(Synced::Lacking(errno)) => {
                if !self.lacks.iter().any(|(aspect, _)| *aspect == Aspect::Sync) {
                    self.lacks.push((Aspect::Sync, errno.into()));
                }
            }
            Err(errno) => self.fail_sync(disk, errno),
        }
    }

    /// The sync was about this entry alone.
    fn note_own_sync(&mut self, disk: &TargetDisk, synced: std::result::Result<Synced, Errno>) {
        match synced {
            Err(errno) => {
                let error = failed("sync", disk.place(&self.commit.path), errno).about(self.commit.id);
                self.step = CommitStep::Settled(match error.is_of_one_entry() {
                    true => Ok(Committed::Denied(error.of_target())),
                    false => Err(error),
                });
            }
            synced => self.note_sync(disk, synced),
        }
    }

    fn fail_sync(&mut self, disk: &TargetDisk, errno: Errno) {
        let error = failed("sync", disk.place(&self.commit.path), errno);
        self.step = CommitStep::Settled(Err(error));
    }
}

fn made_already(disk: &TargetDisk, path: &RelPath) -> Failure {
    Failure::about(Side::Receiver, Reason::TargetExists, &disk.place(path), |path| {
        format!(
            "{path} would replace another file of this transfer: this file system takes both names for one"
        )
    })
}

fn not_named(error: StorageError) -> Result<Committed> {
    match &error {
        _ if error.is_refusal() => Ok(Committed::Refused(error.refusal())),
        _ if error.is_of_one_name() => Ok(Committed::Denied(error.of_target())),
        _ => Err(error),
    }
}

/// Moves one staged entry into `holder`; returns `Some` for a name other than its own.
fn name_one(
    disk: &TargetDisk,
    commit: &Commit,
    holder: &OwnedFd,
) -> std::result::Result<Option<RelPath>, NotNamed> {
    let staging = disk.volumes.of(commit.id).made_staging().ok_or(Errno::NOENT)?;
    let (dir, name) = staging.place(commit.id);
    StagedName { dir, name: &name }.give(holder, &commit.path, commit.exists)
}
