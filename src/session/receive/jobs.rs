//! The work that the receiver's disk does: looking up names, comparing, committing, and so on.

use std::io;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use crate::protocol::engine::receiver::{Existing, ReceiverAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::session::queues::{BatchQueue, RootsQueue};
use crate::session::receive::shared::{Receiving, storage_failure};
use crate::storage::{self, Admission, Commit, Final, OnConflict, StorageError, Target};

/// A job that is done.
pub(super) enum DiskJob {
    Admitted(Vec<(EntryId, Admission)>),
    Roots(Vec<(EntryId, storage::Result<blake3::Hash>)>),
    Checkpointed(Vec<(EntryId, storage::Result<bool>)>),
    Committed(Vec<(EntryId, storage::Committed)>),
    Updated(Vec<(EntryId, storage::Result<bool>)>),
    DirsFinished(Vec<(EntryId, storage::Result<()>)>),
    Discarded,
    Finished(storage::Result<Vec<NotKept>>),
}

/// Jobs that run, and those that wait for their turn.
pub(super) struct DiskJobs<T> {
    shared: Arc<Receiving<T>>,
    exists: Exists,
    running: JoinSet<DiskJob>,
    admits: BatchQueue<(EntryId, Entry)>,
    discards: BatchQueue<EntryId>,
    checkpoints: BatchQueue<EntryId>,
    commits: BatchQueue<Commit>,
    updates: BatchQueue<(EntryId, Entry)>,
    dirs: BatchQueue<(EntryId, (RelPath, Option<Meta>))>,
    roots: RootsQueue<(EntryId, RelPath)>,
}

impl<T: Target> DiskJobs<T> {
    pub(super) fn new(shared: Arc<Receiving<T>>, exists: Exists) -> Self {
        Self {
            shared,
            exists,
            running: JoinSet::new(),
            admits: BatchQueue::new(),
            discards: BatchQueue::new(),
            checkpoints: BatchQueue::new(),
            commits: BatchQueue::new(),
            updates: BatchQueue::new(),
            dirs: BatchQueue::new(),
            roots: RootsQueue::new(),
        }
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// The next job that is done; `None` when none runs.
    pub(super) async fn next(&mut self) -> Option<Result<DiskJob, JoinError>> {
        self.running.join_next().await
    }

    /// Takes what the disk has to do for the machine. Gives back what somebody else has to do.
    pub(super) fn take(&mut self, action: ReceiverAction) -> Option<ReceiverAction> {
        match action {
            // The sender may give entries up whose turn has not come.
            ReceiverAction::Admit(id, entry) => {
                let machine = self.shared.machine();
                self.admits.prune(|(id, _)| machine.entry(*id).is_some());
                self.admits.push((id, entry));
            }
            ReceiverAction::Root(id, path, size) => {
                let machine = self.shared.machine();
                self.roots.push((id, path), size, |(id, _)| machine.entry(*id).is_some());
            }
            ReceiverAction::Checkpoint(id) => self.checkpoints.push(id),
            ReceiverAction::Commit(id, entry) => {
                let on_conflict = match on_conflict(self.exists) {
                    // Something that has appeared may be the same.
                    OnConflict::Rename => OnConflict::Keep,
                    other => other,
                };
                self.commits.push(commit(id, entry, on_conflict));
            }
            ReceiverAction::CommitBeside(id, entry) => {
                self.commits.push(commit(id, entry, OnConflict::Rename))
            }
            ReceiverAction::Update(id, entry) => self.updates.push((id, entry)),
            ReceiverAction::FinishDir(id, path, meta) => self.dirs.push((id, (path, meta))),
            ReceiverAction::Discard(id) => self.discards.push(id),
            ReceiverAction::Finish => {
                let shared = Arc::clone(&self.shared);
                self.running.spawn(async move { DiskJob::Finished(shared.target.finish().await) });
            }
            other => return Some(other),
        }
        None
    }

    /// Begins what may run.
    pub(super) fn begin(&mut self) {
        if let Some(batch) = self.discards.next_batch() {
            let target = Arc::clone(&self.shared.target);
            self.running.spawn(async move {
                for id in batch {
                    target.discard(id).await;
                }
                DiskJob::Discarded
            });
        }
        if let Some(batch) = self.admits.next_batch() {
            let shared = Arc::clone(&self.shared);
            let on_conflict = on_conflict(self.exists);
            self.running.spawn(async move {
                let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
                DiskJob::Admitted(
                    ids.into_iter().zip(shared.target.admit(batch, on_conflict).await).collect(),
                )
            });
        }
        if let Some(ids) = self.checkpoints.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let done = shared.target.checkpoint(ids.clone()).await;
                DiskJob::Checkpointed(ids.into_iter().zip(done).collect())
            });
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
        if let Some(batch) = self.dirs.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let (ids, dirs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                DiskJob::DirsFinished(ids.into_iter().zip(shared.target.finish_dirs(dirs).await).collect())
            });
        }
        while let Some(files) = self.roots.next_job() {
            let (ids, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let roots = shared.target.roots(paths, shared.pool.acquire().await).await;
                DiskJob::Roots(ids.into_iter().zip(roots).collect())
            });
        }
    }

    /// Tells the machine what came of a job. What the disk does not keep is known when all else is done.
    pub(super) fn done(&mut self, job: DiskJob) -> Result<Option<Vec<NotKept>>, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut machine = shared.machine();
        match job {
            DiskJob::Admitted(batch) => {
                self.admits.batch_done();
                for (id, admission) in batch {
                    machine.admitted(id, found(admission)?);
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
                for (id, is_durable) in batch {
                    machine.checkpointed(id, is_durable.map_err(|error| storage_failure(&error))?);
                }
            }
            DiskJob::Committed(batch) => {
                self.commits.batch_done();
                for (id, committed) in batch {
                    machine.committed(id, committed_as(committed)?);
                }
            }
            DiskJob::Updated(batch) => {
                self.updates.batch_done();
                for (id, result) in batch {
                    machine.updated(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            DiskJob::DirsFinished(batch) => {
                self.dirs.batch_done();
                for (id, result) in batch {
                    machine.dir_finished(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            DiskJob::Discarded => self.discards.batch_done(),
            DiskJob::Finished(result) => return Ok(Some(result.map_err(|e| storage_failure(&e))?)),
        }
        Ok(None)
    }
}

fn found(admission: Admission) -> Result<Lookup, Failure> {
    Ok(match admission {
        Admission::Free => Lookup::Free,
        Admission::Same { number, is_current } => Lookup::Same { number, is_current },
        Admission::SameSize { numbers, is_current } => Lookup::SameSize { numbers, is_current },
        Admission::Conflict => Lookup::Conflict,
        Admission::Refused(error) => Lookup::Refused(refusal(&error)),
        Admission::Denied(error) => Lookup::Denied(storage_failure(&error)),
        Admission::Failed(error) => return Err(storage_failure(&error)),
    })
}

fn committed_as(committed: storage::Committed) -> Result<Committed, Failure> {
    Ok(match committed {
        storage::Committed::Done(renamed) => Committed::Done(renamed),
        storage::Committed::Exists => Committed::Exists,
        storage::Committed::Refused(error) => Committed::Refused(refusal(&error)),
        storage::Committed::Denied(error) => Committed::Denied(storage_failure(&error)),
        storage::Committed::NotKept => Committed::NotKept,
        storage::Committed::Failed(error) => return Err(storage_failure(&error)),
    })
}

fn on_conflict(exists: Exists) -> OnConflict {
    match exists {
        Exists::Refuse | Exists::Skip => OnConflict::Keep,
        Exists::Replace => OnConflict::Replace,
        Exists::Rename => OnConflict::Rename,
    }
}

fn commit(id: EntryId, entry: Entry, on_conflict: OnConflict) -> Commit {
    let kind = match entry.kind {
        Kind::Symlink { target } => Final::Symlink { target },
        Kind::File { size } => Final::File { size },
        // The machine commits files and links only.
        Kind::Dir | Kind::DirEnd => Final::File { size: 0 },
    };
    Commit { id, path: entry.path, kind, meta: entry.meta, on_conflict }
}

/// The receiver's disk failed for one entry.
fn entry_failure(error: &StorageError) -> Failure {
    if error.is_refusal() { refusal(error) } else { storage_failure(error) }
}

/// The receiver's disk does not take a name.
fn refusal(error: &StorageError) -> Failure {
    error.failure(Side::Receiver, Reason::Refused)
}
