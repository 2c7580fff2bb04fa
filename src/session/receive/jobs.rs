//! Disk jobs of the receiver: look-ups, comparisons, commits and the like.

use std::io;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::engine::receiver::{Existing, Receiver, ReceiverAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::request::Treatment;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::session::queues::{BatchQueue, RootsQueue};
use crate::session::receive::extras::{ExtrasDone, extras_job};
use crate::session::receive::shared::{Receiving, storage_failure};
use crate::storage::{self, Commit, Final, StorageError, Target, look_and_prepare};

/// Maximum entries of one checkpoint. Each sync may take seconds on a slow disk, and the sender hears about none of
/// them before the last has ended.
const CHECKPOINT_BATCH: usize = 16;

/// A finished job.
pub(super) enum DiskJob {
    Admitted(Vec<(EntryId, storage::Result<Lookup>)>),
    Recalled(Vec<(EntryId, ChunkSet, Option<u64>)>),
    Roots(Vec<(EntryId, storage::Result<blake3::Hash>)>),
    Checkpointed(Vec<(EntryId, storage::Result<bool>)>),
    Committed(Vec<(EntryId, storage::Result<Committed>)>),
    Updated(Vec<(EntryId, storage::Result<bool>)>),
    Named(Vec<(EntryId, storage::Result<Option<RelPath>>)>),
    Extras(storage::Result<ExtrasDone>),
    DirsFinished(Vec<(EntryId, storage::Result<()>)>),
    Dropped,
    Finished(storage::Result<Vec<NotKept>>),
}

/// Running jobs, and those waiting for their turn.
pub(super) struct DiskJobs<T> {
    shared: Arc<Receiving<T>>,
    treatment: Treatment,
    chunk_log2: u8,
    running: JoinSet<DiskJob>,
    /// A checkpoint is running that no complete entry waits for.
    has_background: bool,
    recalls: BatchQueue<(EntryId, Entry)>,
    admits: BatchQueue<(EntryId, Entry)>,
    /// Staged entries to drop, and whether a later transfer may resume them.
    drops: BatchQueue<(EntryId, bool)>,
    checkpoints: BatchQueue<EntryId>,
    commits: BatchQueue<Commit>,
    updates: BatchQueue<(EntryId, Entry)>,
    names: BatchQueue<(EntryId, RelPath)>,
    dirs: BatchQueue<(EntryId, (RelPath, Option<Meta>))>,
    roots: RootsQueue<(EntryId, RelPath)>,
}

impl<T: Target> DiskJobs<T> {
    pub(super) fn new(shared: Arc<Receiving<T>>, treatment: Treatment, chunk_log2: u8) -> Self {
        Self {
            shared,
            treatment,
            chunk_log2,
            running: JoinSet::new(),
            has_background: false,
            recalls: BatchQueue::new(),
            admits: BatchQueue::new(),
            drops: BatchQueue::new(),
            checkpoints: BatchQueue::with_batches_of(CHECKPOINT_BATCH),
            commits: BatchQueue::new(),
            updates: BatchQueue::new(),
            names: BatchQueue::new(),
            dirs: BatchQueue::new(),
            roots: RootsQueue::new(),
        }
    }

    /// Number of running jobs that the transfer waits for.
    pub(super) fn running(&self) -> usize {
        self.running.len() - usize::from(self.has_background)
    }

    /// Whether any job runs.
    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next finished job; `None` when none is running.
    pub(super) async fn next(&mut self) -> Option<Result<DiskJob, JoinError>> {
        self.running.join_next().await
    }

    /// Takes an action of the machine that concerns the disk. Returns any other action to the caller.
    pub(super) fn take(&mut self, action: ReceiverAction) -> Option<ReceiverAction> {
        match action {
            // The sender may give up entries that are still waiting.
            ReceiverAction::Admit(id, entry) => {
                let machine = self.shared.machine();
                self.admits.prune(|(id, _)| machine.entry(*id).is_some());
                self.admits.push((id, entry));
            }
            ReceiverAction::Recall(id, entry) => {
                let machine = self.shared.machine();
                self.recalls.prune(|(id, _)| machine.entry(*id).is_some());
                self.recalls.push((id, entry));
            }
            ReceiverAction::Root(id, path, size) => {
                let machine = self.shared.machine();
                self.roots.push((id, path), size, |(id, _)| machine.entry(*id).is_some());
            }
            ReceiverAction::Checkpoint(id) => self.checkpoints.push(id),
            ReceiverAction::Commit(id, entry) => {
                let exists = match self.treatment.exists {
                    // The new file under the name may have the same content.
                    Exists::Rename => Exists::Refuse,
                    other => other,
                };
                let root = self.shared.machine().committed_root(id);
                self.commits.push(commit(id, entry, root, exists));
            }
            ReceiverAction::CommitBeside(id, entry) => {
                let root = self.shared.machine().committed_root(id);
                self.commits.push(commit(id, entry, root, Exists::Rename));
            }
            ReceiverAction::Update(id, entry) => self.updates.push((id, entry)),
            ReceiverAction::Top(meta) => self.shared.target.set_top(meta),
            ReceiverAction::FindName(id, path) => self.names.push((id, path)),
            ReceiverAction::FinishDir(id, path, meta) => self.dirs.push((id, (path, meta))),
            ReceiverAction::Discard(id) => self.drops.push((id, false)),
            ReceiverAction::GiveUp(id) => self.drops.push((id, true)),
            extras @ (ReceiverAction::FindExtras(_)
            | ReceiverAction::NoteExtras(_)
            | ReceiverAction::RemoveExtras(_)) => {
                let shared = Arc::clone(&self.shared);
                self.running.spawn(async move { DiskJob::Extras(extras_job(&*shared.target, extras).await) });
            }
            ReceiverAction::Finish if self.treatment.is_dry => {
                self.running.spawn(async { DiskJob::Finished(Ok(Vec::new())) });
            }
            ReceiverAction::Finish => {
                let shared = Arc::clone(&self.shared);
                self.running.spawn(async move { DiskJob::Finished(shared.target.finish().await) });
            }
            other => return Some(other),
        }
        None
    }

    /// Starts all jobs that may run.
    pub(super) fn begin(&mut self) {
        if let Some(batch) = self.drops.next_batch() {
            let target = Arc::clone(&self.shared.target);
            self.running.spawn(async move {
                for (id, is_for_later) in batch {
                    match is_for_later {
                        true => target.give_up(id).await,
                        false => target.discard(id).await,
                    }
                }
                DiskJob::Dropped
            });
        }
        if let Some(batch) = self.admits.next_batch() {
            let shared = Arc::clone(&self.shared);
            let treatment = self.treatment.clone();
            self.running.spawn(async move {
                let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
                let found = look_and_prepare(&*shared.target, batch, treatment).await;
                DiskJob::Admitted(ids.into_iter().zip(found).collect())
            });
        }
        if let Some(batch) = self.recalls.next_batch() {
            let (shared, exists, chunk_log2) =
                (Arc::clone(&self.shared), self.treatment.exists, self.chunk_log2);
            self.running.spawn(async move {
                let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
                let paths = batch.iter().map(|(_, entry)| entry.path.clone()).collect();
                let old = match exists {
                    Exists::Replace => shared.target.old(paths).await,
                    _ => vec![None; ids.len()],
                };
                let held = shared.target.held(batch, chunk_log2).await;
                DiskJob::Recalled(
                    ids.into_iter().zip(held).zip(old).map(|((id, held), old)| (id, held, old)).collect(),
                )
            });
        }
        if let Some(ids) = self.checkpoints.next_batch() {
            self.begin_checkpoint(&ids);
        }
        if let Some(commits) = self.commits.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let ids: Vec<_> = commits.iter().map(|commit| commit.id).collect();
                let done = shared.target.commit(commits).await;
                DiskJob::Committed(ids.into_iter().zip(done).collect())
            });
        }
        if let Some(batch) = self.updates.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let (ids, entries): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                DiskJob::Updated(ids.into_iter().zip(shared.target.update(entries).await).collect())
            });
        }
        self.begin_paths();
        while let Some(files) = self.roots.next_job() {
            let (ids, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let roots = shared.target.roots(paths, shared.pool.acquire().await).await;
                DiskJob::Roots(ids.into_iter().zip(roots).collect())
            });
        }
    }

    /// Jobs about names and directories.
    fn begin_paths(&mut self) {
        if let Some(batch) = self.dirs.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let (ids, dirs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                DiskJob::DirsFinished(ids.into_iter().zip(shared.target.finish_dirs(dirs).await).collect())
            });
        }
        if let Some(batch) = self.names.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let (ids, paths): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                DiskJob::Named(ids.into_iter().zip(shared.target.free_names(paths).await).collect())
            });
        }
    }

    fn begin_checkpoint(&mut self, ids: &[EntryId]) {
        let shared = Arc::clone(&self.shared);
        let entries: Vec<_> = {
            let mut machine = shared.machine();
            self.has_background = !ids.iter().any(|id| machine.awaits_checkpoint(*id));
            ids.iter().filter_map(|id| Some((*id, machine.begin_checkpoint(*id)?))).collect()
        };
        self.running.spawn(async move {
            let ids: Vec<_> = entries.iter().map(|(id, _)| *id).collect();
            let done = shared.target.checkpoint(entries).await;
            DiskJob::Checkpointed(ids.into_iter().zip(done).collect())
        });
    }

    /// Reports a finished job to the machine. Attributes not kept are known only when everything else is done.
    pub(super) fn done(&mut self, job: DiskJob) -> Result<Option<Vec<NotKept>>, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut machine = shared.machine();
        match job {
            DiskJob::Admitted(batch) => {
                self.admits.batch_done();
                for (id, found) in batch {
                    machine.admitted(id, found.map_err(|error| storage_failure(&error))?);
                }
            }
            DiskJob::Roots(roots) => {
                self.roots.job_done();
                for (id, root) in roots {
                    let existing = match root {
                        Ok(root) => Existing::Root(root),
                        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                            Existing::Unreadable
                        }
                        Err(error) => return Err(storage_failure(&error)),
                    };
                    machine.hashed(id, existing);
                }
            }
            DiskJob::Checkpointed(batch) => {
                self.checkpoints.batch_done();
                self.has_background = false;
                checkpointed(&shared, &mut machine, batch)?;
                shared.released.notify_waiters();
            }
            DiskJob::Recalled(batch) => {
                self.recalls.batch_done();
                for (id, held, old_bytes) in batch {
                    machine.has_old(id, old_bytes.unwrap_or(0));
                    machine.held(id, held);
                }
            }
            DiskJob::Committed(batch) => {
                self.commits.batch_done();
                for (id, committed) in batch {
                    machine.committed(id, committed.map_err(|error| storage_failure(&error))?);
                }
            }
            DiskJob::Updated(batch) => {
                self.updates.batch_done();
                for (id, result) in batch {
                    machine.updated(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            DiskJob::Named(batch) => {
                self.names.batch_done();
                for (id, name) in batch {
                    machine.other_name(id, name.map_err(|error| storage_failure(&error))?);
                }
            }
            DiskJob::Extras(done) => done.map_err(|error| storage_failure(&error))?.tell(&mut machine),
            DiskJob::DirsFinished(batch) => {
                self.dirs.batch_done();
                for (id, result) in batch {
                    machine.dir_finished(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            DiskJob::Dropped => self.drops.batch_done(),
            DiskJob::Finished(result) => return result.map(Some).map_err(|error| last_failure(&error)),
        }
        Ok(None)
    }
}

fn commit(id: EntryId, entry: Entry, root: Option<blake3::Hash>, exists: Exists) -> Commit {
    let kind = match entry.kind {
        Kind::Symlink { target } => Final::Symlink { target },
        Kind::File { size } => Final::File { size },
        // The machine commits only files of known size, and links.
        Kind::OpenEnded | Kind::Dir | Kind::DirEnd => Final::File { size: 0 },
    };
    Commit { id, path: entry.path, kind, meta: entry.meta, root, exists }
}

/// Checkpoints have ended.
fn checkpointed<T: Target>(
    shared: &Receiving<T>,
    machine: &mut Receiver,
    batch: Vec<(EntryId, storage::Result<bool>)>,
) -> Result<(), Failure> {
    for (id, is_durable) in batch {
        // What was given up meanwhile may have been removed under it.
        if machine.entry(id).is_some() {
            match is_durable.map_err(|error| named(shared, machine, id, error)) {
                Ok(is_durable) => machine.checkpointed(id, is_durable),
                Err(error) if error.is_of_one_entry() => machine.write_failed(id, storage_failure(&error)),
                Err(error) => return Err(storage_failure(&error)),
            }
        }
    }
    Ok(())
}

/// The error of a staged entry, about its final name.
fn named<T: Target>(
    shared: &Receiving<T>,
    machine: &Receiver,
    id: EntryId,
    error: StorageError,
) -> StorageError {
    match machine.entry(id) {
        Some(entry) => StorageError { place: shared.target.place(&entry.path), ..error },
        None => error,
    }
}

/// The receiver's disk failed at the end, or a name of a set has been taken.
fn last_failure(error: &StorageError) -> Failure {
    match error.source.kind() {
        io::ErrorKind::AlreadyExists => error.failure(Side::Receiver, Reason::TargetExists),
        _ => storage_failure(error),
    }
}

/// The receiver's disk failed for one entry.
fn entry_failure(error: &StorageError) -> Failure {
    if error.is_refusal() { error.refusal() } else { storage_failure(error) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::engine::patience::Patience;
    use crate::protocol::wire::message::Message;
    use crate::session::schedule::Schedule;
    use crate::session::throttle::Throttle;
    use crate::storage::block::{BlockCount, BlockPool};
    use crate::testing::disk::MemoryTarget;

    #[tokio::test]
    async fn a_checkpoint_of_many_entries_is_told_in_steps() {
        let patience = Patience { timeout: Duration::from_secs(30), disk_timeout: Duration::from_secs(600) };
        let mut machine = Receiver::new(20, Exists::Refuse, "to".into(), patience, Duration::ZERO);
        let kind = Kind::File { size: 2 << 20 };
        let entry = Entry { path: RelPath::new(b"f").unwrap(), meta: Meta::default(), kind, hole_bytes: 0 };
        for id in (0..1000).map(EntryId) {
            machine.on_manifest(Message::Entry(entry.clone())).unwrap();
            machine.admitted(id, Lookup::Free);
            machine.held(id, ChunkSet::default());
            machine.begin_record(id, 0, 1 << 20).unwrap();
            machine.record_written(id, 0, 1 << 20, [0; 32]).unwrap();
        }
        let throttle = Arc::new(Throttle::new(Schedule::default(), || Duration::ZERO));
        let pool = BlockPool::new(1, BlockCount::default());
        let target = Arc::new(MemoryTarget::new());
        let shared = Arc::new(Receiving::new(machine, Default::default(), target, pool, throttle));
        let mut jobs = DiskJobs::new(shared, Exists::Refuse.into(), 20);
        for id in 0..1000 {
            assert!(jobs.take(ReceiverAction::Checkpoint(EntryId(id))).is_none());
        }
        let mut told = 0;
        while told < 1000 {
            jobs.begin();
            match jobs.next().await {
                Some(Ok(DiskJob::Checkpointed(batch))) => {
                    assert!((1..=32).contains(&batch.len()), "{} at once", batch.len());
                    told += batch.len();
                }
                _ => panic!("nothing else was to be done"),
            }
            jobs.checkpoints.batch_done();
        }
    }
}
