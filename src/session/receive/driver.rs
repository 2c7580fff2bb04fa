//! The receiving driver: manifest, parcels, commits and the control stream, around the receiver's machine.

// Long because it is one driver: all that its loop comes upon is dealt with beside it.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::event::{ActiveFile, Event, Summary};
use crate::protocol::engine::bottleneck::{Bottleneck, ReceiverSnapshot};
use crate::protocol::engine::receiver::{Action, Committed, Existing, Exists, Found, Receiver};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::not_kept::{Aspect, NotKept};
use crate::protocol::path::RelPath;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta};
use crate::protocol::wire::message::Message;
use crate::session::clock::Clock;
use crate::session::lanes::{Lane, is_fast};
use crate::session::messages::{MessageReader, Outbox};
use crate::session::observe::gauge::Gauge;
use crate::session::observe::observer::Observer;
use crate::session::observe::progress::{ACTIVE_FILES_MAX, Teller};
use crate::session::observe::tally::Tally;
use crate::session::receive::parcel::{ParcelFailure, receive_parcel};
use crate::session::send::driver::joined;
use crate::session::throttle::Throttle;
use crate::session::{
    CLOSE_DONE, Context, Joining, Link, PROGRESS_EVERY, ROOTS_AT_ONCE, next_roots, prune, stalled, started,
    transport_failure,
};
use crate::storage::block::BlockPool;
use crate::storage::{self, Admission, Commit, Final, OnConflict, StorageError, Target};
use crate::transport::{Connection, RecvStream, TransportError};

/// How long removing what is staged may take after a failure.
const CLEAR_UP: Duration = Duration::from_secs(10);
/// Entries looked at, committed or left in one step.
const BATCH: usize = 1024;

/// What the sender offers.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Random number of the transfer.
    pub transfer: [u8; 16],
    /// Chunk size as a power of two.
    pub chunk_log2: u8,
}

/// Waits for what the sender offers, for the time-out of `context` at most, or until this process is asked to stop.
///
/// # Errors
///
/// The peer has not been told.
pub async fn offer<C: Connection>(link: &mut Link<C>, context: &Context) -> Result<Offer, Failure> {
    let mut stopping = context.clone();
    let message = tokio::select! {
        message = timeout(context.patience.timeout, link.control_in.expect()) => message,
        failure = stopping.stopped() => return Err(failure.or_side(Side::Receiver)),
    };
    let message = message.unwrap_or_else(|_| {
        Err(stalled("the sender offered nothing", context.patience.timeout, Bottleneck::Network))
    });
    match message.map_err(|failure| failure.heard_by(Side::Receiver, false))? {
        Message::Offer { transfer, chunk_log2 } => {
            context.reporter.report(started(Side::Receiver, transfer));
            Ok(Offer { transfer, chunk_log2 })
        }
        other => Err(Failure::protocol(format!("the sender began with {}", other.name()))),
    }
}

/// Receives everything into `target`, shown to people as `target_name`. Returns when all of it is durable under
/// final names and the sender has been told, but for the entries that the summary counts as failed.
///
/// # Errors
///
/// Whatever ends the transfer as a whole. The peer has been told, and staging removed, by then.
pub async fn run<C: Connection, T: Target>(
    link: Link<C>,
    offer: Offer,
    target: Arc<T>,
    target_name: String,
    exists: Exists,
    context: Context,
) -> Result<Summary, Failure> {
    let connection = link.connection.clone();
    let mut driver = Driver::start(link, offer, Arc::clone(&target), target_name, exists, context);
    let result = driver.run().await.map_err(|failure| failure.heard_by(Side::Receiver, false));
    match &result {
        Ok(_) => connection.close(CLOSE_DONE, b""),
        Err(failure) => crate::session::close_with(&connection, failure),
    }
    let disk_hangs = driver.disk_hangs;
    // Not before: streams that are dropped would tell the peer less than the close does.
    drop(driver);
    if disk_hangs {
        // Whatever removes staging would hang as well, also when the target is dropped. The next receiver removes it.
        mem::forget(target);
    } else if result.is_err() && timeout(CLEAR_UP, target.abort()).await.is_err() {
        // The same, of a disk that has not hung for long enough to be called so.
        mem::forget(target);
    }
    result
}

/// What all streams of a transfer share.
pub(in crate::session) struct Shared<T> {
    machine: Mutex<Receiver>,
    /// The machine may have something to do, or room for more entries.
    changed: Notify,
    room: Notify,
    /// A record was written or cut.
    pub(in crate::session) released: Notify,
    control_out: Outbox,
    pub(in crate::session) target: Arc<T>,
    pub(in crate::session) pool: BlockPool,
    pub(in crate::session) throttle: Arc<Throttle>,
    clock: Clock,
    /// What the sender said of itself last.
    peer_activity: Mutex<Activity>,
    /// Bytes of files that have come.
    pub(in crate::session) came_bytes: AtomicU64,
    /// Parcels that wait for the disk.
    pub(in crate::session) writing: Gauge,
    /// Waiting for bytes.
    pub(in crate::session) starving: Gauge,
}

impl<T> Shared<T> {
    pub(in crate::session) fn machine(&self) -> MutexGuard<'_, Receiver> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the manifest may be read on. Of a sender that reads no answers nothing more is taken that has to be
    /// answered.
    fn takes_entries(&self) -> bool {
        self.control_out.has_room() && self.machine().takes_entries()
    }

    /// Changes the machine and wakes the driver.
    pub(in crate::session) fn with_machine<R>(&self, change: impl FnOnce(&mut Receiver) -> R) -> R {
        let result = change(&mut self.machine());
        self.changed.notify_one();
        result
    }

    /// Something came from the sender.
    pub(in crate::session) fn heard(&self) {
        self.machine().heard(self.clock.now());
    }
}

enum Job {
    Admitted(Vec<(EntryId, Admission)>),
    Roots(Vec<(EntryId, storage::Result<blake3::Hash>)>),
    Committed(Vec<(EntryId, storage::Committed)>),
    Updated(Vec<(EntryId, storage::Result<bool>)>),
    DirsFinished(Vec<(EntryId, storage::Result<()>)>),
    Discarded,
    Finished(storage::Result<Vec<NotKept>>),
}

/// Waiting work of one kind, done in batches, one at a time.
struct Queue<I> {
    waiting: VecDeque<I>,
    running: bool,
}

impl<I> Queue<I> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), running: false }
    }

    fn next_batch(&mut self) -> Option<Vec<I>> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        let n = self.waiting.len().min(BATCH);
        Some(self.waiting.drain(..n).collect())
    }
}

/// What the next stream of a connection came to.
type Accepted<C> = (Lane<C>, Result<(<C as Connection>::Send, <C as Connection>::Recv), TransportError>);

struct Driver<C: Connection, T: Target> {
    connection: C,
    joining: Joining<C>,
    lanes: Vec<Lane<C>>,
    accepting: JoinSet<Accepted<C>>,
    shared: Arc<Shared<T>>,
    exists: Exists,
    context: Context,
    /// Read the control and manifest streams, and write the former.
    streams_at_work: JoinSet<Result<(), Failure>>,
    parcels: JoinSet<Result<(), ParcelFailure>>,
    /// Of the parcel that failed, kept until the connection is closed.
    streams: Option<Box<dyn Any + Send>>,
    jobs: JoinSet<Job>,
    admits: Queue<(EntryId, Entry)>,
    discards: Queue<EntryId>,
    commits: Queue<Commit>,
    updates: Queue<(EntryId, Entry)>,
    dirs: Queue<(EntryId, (RelPath, Option<Meta>))>,
    /// Files to hash for a comparison, and their sizes.
    roots: VecDeque<((EntryId, RelPath), u64)>,
    roots_running: usize,
    tally: Tally,
    /// What the disk does not keep, when all else has ended.
    not_kept: Vec<NotKept>,
    /// A call to the disk does not return.
    disk_hangs: bool,
    observer: Observer,
    /// Bytes that had come by the last tick.
    last_came: u64,
    teller: Teller,
}

impl<C: Connection, T: Target> Driver<C, T> {
    fn start(
        link: Link<C>,
        offer: Offer,
        target: Arc<T>,
        target_name: String,
        exists: Exists,
        context: Context,
    ) -> Self {
        let Link { connection, control_out, control_in, joining, .. } = link;
        let clock = Clock::start();
        let started = clock.started();
        let machine = Receiver::new(offer.chunk_log2, exists, target_name, context.patience, Duration::ZERO)
            .with_open_entries(context.budget.open_entries());
        let (control_out, writing) = Outbox::new(control_out);
        let shared = Arc::new(Shared {
            machine: Mutex::new(machine),
            changed: Notify::new(),
            room: Notify::new(),
            released: Notify::new(),
            control_out,
            target,
            pool: BlockPool::new(context.budget.receiver_blocks(joining.max())),
            throttle: Arc::clone(&context.throttle),
            clock,
            peer_activity: Mutex::new(Activity::Waiting),
            came_bytes: AtomicU64::new(0),
            writing: Gauge::default(),
            starving: Gauge::default(),
        });
        let observer = Observer::new(Side::Receiver, context.processor_use);
        let mut streams_at_work = JoinSet::new();
        streams_at_work.spawn(writing);
        streams_at_work.spawn(read_control(Arc::clone(&shared), control_in));
        streams_at_work.spawn(read_manifest(Arc::clone(&shared), connection.clone()));
        let mut driver = Self {
            joining,
            lanes: Vec::new(),
            accepting: JoinSet::new(),
            connection: connection.clone(),
            shared,
            exists,
            context,
            streams_at_work,
            parcels: JoinSet::new(),
            streams: None,
            jobs: JoinSet::new(),
            admits: Queue::new(),
            discards: Queue::new(),
            commits: Queue::new(),
            updates: Queue::new(),
            dirs: Queue::new(),
            roots: VecDeque::new(),
            roots_running: 0,
            tally: Tally::default(),
            not_kept: Vec::new(),
            disk_hangs: false,
            observer,
            last_came: 0,
            teller: Teller::new(started),
        };
        driver.accept_from(Lane::new(0, connection));
        driver
    }

    /// Parcels come over `lane`.
    fn accept_from(&mut self, lane: Lane<C>) {
        debug!(lane = lane.number, peer = %lane.connection.remote_address(), "parcels are accepted");
        self.lanes.push(lane.clone());
        self.accept(lane);
    }

    fn accept(&mut self, lane: Lane<C>) {
        self.accepting.spawn(async move {
            let streams = lane.connection.accept_bi().await;
            (lane, streams)
        });
    }

    fn on_accepted(&mut self, (lane, streams): Accepted<C>) -> Result<(), Failure> {
        let (answer, parcel) = match streams {
            Ok(streams) => streams,
            Err(error) if lane.is_lost() => {
                debug!(lane = lane.number, %error, "an extra connection is gone");
                return Ok(());
            }
            Err(error) => return Err(transport_failure(error)),
        };
        debug!(lane = lane.number, on_the_way = self.parcels.len() + 1, "a parcel begins");
        self.accept(lane.clone());
        let shared = Arc::clone(&self.shared);
        self.parcels.spawn(async move {
            let end = receive_parcel::<C, T>(shared, answer, parcel).await;
            // What was on it comes again over another connection.
            if lane.is_lost() { Ok(()) } else { end }
        });
        Ok(())
    }

    async fn run(&mut self) -> Result<Summary, Failure> {
        let mut tick = interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connection = self.connection.clone();
        let closed = connection.closed();
        tokio::pin!(closed);
        let shared = Arc::clone(&self.shared);
        loop {
            self.act();
            self.begin_work();
            if self.shared.machine().is_done() {
                break;
            }
            tokio::select! {
                biased;
                _ = tick.tick() => self.on_tick()?,
                failure = self.context.stopped() => return Err(failure.or_side(Side::Receiver)),
                () = shared.changed.notified() => {}
                Some(end) = self.streams_at_work.join_next() => joined(end)??,
                () = shared.control_out.drained() => {}
                Some(end) = self.parcels.join_next() => self.on_parcel(joined(end)?)?,
                Some(job) = self.jobs.join_next() => self.on_job(joined(job)?)?,
                Some(accepted) = self.accepting.join_next() => self.on_accepted(joined(accepted)?)?,
                Some(lane) = self.joining.next() => self.accept_from(lane),
                error = &mut closed => return Err(transport_failure(error)),
            }
        }
        Ok(self.farewell().await)
    }

    fn on_parcel(&mut self, end: Result<(), ParcelFailure>) -> Result<(), Failure> {
        end.map_err(|ParcelFailure { failure, streams }| {
            self.streams = Some(streams);
            failure
        })
    }

    /// Everything is safe. What happens to the connection now changes nothing about that.
    async fn farewell(&mut self) -> Summary {
        self.teller.insist();
        self.tell_progress();
        self.shared.control_out.end();
        // The sender may be slow to hear it; one that is gone is told by the transport.
        let _ = timeout(self.context.patience.timeout, self.connection.closed()).await;
        if let Some(message) = self.observer.advice(&self.context.budget) {
            self.report(Event::Warning { path: None, reason: None, message });
        }
        let elapsed = self.shared.clock.started().elapsed();
        let (synced, not_kept) = (self.is_synced(), std::mem::take(&mut self.not_kept));
        not_kept.iter().for_each(|one| self.report(Event::NotKept(one.clone())));
        self.tally.summary(Side::Receiver, elapsed, self.observer.shares(), synced, not_kept)
    }

    fn report(&self, event: Event) {
        self.context.reporter.report(event);
    }

    fn act(&mut self) {
        let actions: Vec<_> = {
            let mut machine = self.shared.machine();
            iter::from_fn(|| machine.poll()).collect()
        };
        for action in actions {
            match action {
                Action::Control(message) => self.shared.control_out.send(&message),
                // The sender may give entries up whose turn has not come.
                Action::Admit(id, entry) => {
                    let machine = self.shared.machine();
                    prune(&mut self.admits.waiting, |(id, _)| machine.entry(*id).is_some());
                    self.admits.waiting.push_back((id, entry));
                }
                Action::Root(id, path, size) => {
                    let machine = self.shared.machine();
                    prune(&mut self.roots, |((id, _), _)| machine.entry(*id).is_some());
                    self.roots.push_back(((id, path), size));
                }
                Action::Commit(id, entry) => {
                    let on_conflict = match on_conflict(self.exists) {
                        // Something that has appeared may be the same.
                        OnConflict::Rename => OnConflict::Keep,
                        other => other,
                    };
                    self.commits.waiting.push_back(commit(id, entry, on_conflict));
                }
                Action::CommitBeside(id, entry) => {
                    self.commits.waiting.push_back(commit(id, entry, OnConflict::Rename));
                }
                Action::Update(id, entry) => self.updates.waiting.push_back((id, entry)),
                Action::FinishDir(id, path, meta) => self.dirs.waiting.push_back((id, (path, meta))),
                Action::Discard(id) => self.discards.waiting.push_back(id),
                Action::Leave(number) => {
                    for lane in self.lanes.extract_if(.., |lane| lane.number == number) {
                        lane.connection.close(CLOSE_DONE, b"");
                    }
                }
                Action::Grew(entry) => {
                    let warning = self.tally.grew(&entry);
                    self.report(warning);
                }
                Action::Settled(settled) => {
                    if let Some(event) = self.tally.settled(settled) {
                        self.report(event);
                    }
                }
                Action::Omitted(reason, message) => {
                    self.tally.count_failure(reason);
                    self.report(Event::Warning { path: None, reason: Some(reason), message });
                }
                Action::Finish => {
                    let shared = Arc::clone(&self.shared);
                    self.jobs.spawn(async move { Job::Finished(shared.target.finish().await) });
                }
            }
        }
        if self.shared.takes_entries() {
            self.shared.room.notify_one();
        }
    }

    fn begin_work(&mut self) {
        if let Some(batch) = self.discards.next_batch() {
            let target = Arc::clone(&self.shared.target);
            self.jobs.spawn(async move {
                for id in batch {
                    target.discard(id).await;
                }
                Job::Discarded
            });
        }
        if let Some(batch) = self.admits.next_batch() {
            let shared = Arc::clone(&self.shared);
            let on_conflict = on_conflict(self.exists);
            self.jobs.spawn(async move {
                let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
                Job::Admitted(ids.into_iter().zip(shared.target.admit(batch, on_conflict).await).collect())
            });
        }
        if let Some(commits) = self.commits.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.jobs.spawn(async move {
                let ids: Vec<_> = commits.iter().map(|commit| commit.id).collect();
                let done = shared.target.commit(commits).await;
                Job::Committed(ids.into_iter().zip(done).collect())
            });
        }
        if let Some(batch) = self.updates.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.jobs.spawn(async move {
                let (ids, entries): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                Job::Updated(ids.into_iter().zip(shared.target.update(entries).await).collect())
            });
        }
        if let Some(batch) = self.dirs.next_batch() {
            let shared = Arc::clone(&self.shared);
            self.jobs.spawn(async move {
                let (ids, dirs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                Job::DirsFinished(ids.into_iter().zip(shared.target.finish_dirs(dirs).await).collect())
            });
        }
        while self.roots_running < ROOTS_AT_ONCE && !self.roots.is_empty() {
            self.roots_running += 1;
            let (ids, paths): (Vec<_>, Vec<_>) = next_roots(&mut self.roots).into_iter().unzip();
            let shared = Arc::clone(&self.shared);
            self.jobs.spawn(async move {
                let roots = shared.target.roots(paths, shared.pool.acquire().await).await;
                Job::Roots(ids.into_iter().zip(roots).collect())
            });
        }
    }

    fn on_job(&mut self, job: Job) -> Result<(), Failure> {
        let mut machine = self.shared.machine();
        match job {
            Job::Admitted(batch) => {
                self.admits.running = false;
                for (id, admission) in batch {
                    let found = match admission {
                        Admission::Free => Found::Free,
                        Admission::Same { number, is_current } => Found::Same { number, is_current },
                        Admission::SameSize { numbers, is_current } => {
                            Found::SameSize { numbers, is_current }
                        }
                        Admission::Conflict => Found::Conflict,
                        Admission::Refused(error) => Found::Refused(refusal(&error)),
                        Admission::Denied(error) => Found::Denied(storage_failure(&error)),
                        Admission::Failed(error) => return Err(storage_failure(&error)),
                    };
                    machine.admitted(id, found);
                }
            }
            Job::Roots(roots) => {
                self.roots_running -= 1;
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
            Job::Committed(batch) => {
                self.commits.running = false;
                for (id, committed) in batch {
                    let committed = match committed {
                        storage::Committed::Done(renamed) => Committed::Done(renamed),
                        storage::Committed::Exists => Committed::Exists,
                        storage::Committed::Refused(error) => Committed::Refused(refusal(&error)),
                        storage::Committed::Denied(error) => Committed::Denied(storage_failure(&error)),
                        storage::Committed::NotKept => Committed::NotKept,
                        storage::Committed::Failed(error) => return Err(storage_failure(&error)),
                    };
                    machine.committed(id, committed);
                }
            }
            Job::Updated(batch) => {
                self.updates.running = false;
                for (id, result) in batch {
                    machine.updated(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            Job::DirsFinished(batch) => {
                self.dirs.running = false;
                for (id, result) in batch {
                    machine.dir_finished(id, result.map_err(|error| entry_failure(&error)));
                }
            }
            Job::Discarded => self.discards.running = false,
            Job::Finished(result) => {
                self.not_kept = result.map_err(|e| storage_failure(&e))?;
                machine.finished(self.is_synced(), self.not_kept.clone());
            }
        }
        Ok(())
    }

    /// Everything is durable.
    fn is_synced(&self) -> bool {
        self.context.synced && !self.not_kept.iter().any(|one| one.aspect == Aspect::Sync)
    }

    /// Fails when a call to the disk has not returned for `--disk-timeout`.
    fn check_disk(&mut self) -> Result<(), Failure> {
        let limit = self.context.patience.disk_timeout;
        let Some((mut error, id)) = self.shared.target.hanging(limit) else { return Ok(()) };
        let machine = self.shared.machine();
        if let Some(entry) = id.and_then(|id| machine.entry(id)) {
            error.place = self.shared.target.place(&entry.path);
        }
        self.disk_hangs = true;
        Err(storage_failure(&error))
    }

    fn disk_is_at_work(&self) -> bool {
        self.shared.writing.now() > 0 || !self.jobs.is_empty()
    }

    fn on_tick(&mut self) -> Result<(), Failure> {
        self.shared.clock.tick();
        self.check_disk()?;
        let busy = self.disk_is_at_work();
        let limited = self.shared.throttle.waiting.now() > 0;
        let now = self.shared.clock.now();
        let came = self.observe();
        {
            let mut machine = self.shared.machine();
            machine.came(came, now);
            if busy || limited {
                machine.note_progress(now);
            }
            machine.check_stall(now)?;
        }
        self.tell_progress();
        Ok(())
    }

    /// Looks at what holds the transfer; the bytes of files that have come since the last look.
    fn observe(&mut self) -> u64 {
        let (look, shared) = (self.observer.look(), &self.shared);
        let came = shared.came_bytes.load(Relaxed);
        let before = std::mem::replace(&mut self.last_came, came);
        if is_fast(came - before, look.time()) {
            self.joining.want();
        }
        let moment = ReceiverSnapshot {
            limited: shared.throttle.waiting.now() > 0,
            processor: look.processor,
            writing: shared.writing.now() + self.jobs.len() as u64,
            starving: shared.starving.now(),
            receiving: came != before,
        };
        let peers = *shared.peer_activity.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(activity) = self.observer.count(&look, moment.activity(), peers) {
            self.shared.control_out.beat(&[Message::Heartbeat(activity), Message::Came(came)]);
            debug!(?moment, blocks_free = self.shared.pool.available(), "heart-beat");
        }
        came - before
    }

    fn tell_progress(&mut self) {
        let came_bytes = self.shared.came_bytes.load(Relaxed);
        let (totals, walked, active) = {
            let machine = self.shared.machine();
            (machine.totals(), machine.is_walked(), active(&machine))
        };
        if let Some(event) = self.teller.tell(totals, walked, came_bytes, active, self.observer.bottleneck())
        {
            self.report(event);
        }
    }
}

fn active(machine: &Receiver) -> Vec<ActiveFile> {
    let active = machine.active(ACTIVE_FILES_MAX).into_iter().map(|(id, entry, written)| ActiveFile {
        id: id.0,
        path: entry.path.clone(),
        size: entry.size(),
        sent_bytes: written,
        written_bytes: written,
    });
    active.collect()
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

/// The receiver's disk failed.
pub(in crate::session) fn storage_failure(error: &StorageError) -> Failure {
    error.failure(Side::Receiver, Reason::Storage)
}

async fn read_control<T, R: RecvStream>(
    shared: Arc<Shared<T>>,
    mut control: MessageReader<R>,
) -> Result<(), Failure> {
    loop {
        let batch = control.next_batch().await?;
        if batch.is_empty() {
            return Ok(());
        }
        shared.heard();
        for message in &batch {
            if let Message::Heartbeat(activity) = message {
                *shared.peer_activity.lock().unwrap_or_else(PoisonError::into_inner) = *activity;
            }
        }
        shared
            .with_machine(|machine| batch.into_iter().try_for_each(|message| machine.on_control(message)))?;
    }
}

async fn read_manifest<T, C: Connection>(shared: Arc<Shared<T>>, connection: C) -> Result<(), Failure> {
    let stream = connection.accept_uni().await.map_err(transport_failure)?;
    let mut manifest = MessageReader::new(stream);
    loop {
        let batch = manifest.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        shared.heard();
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            while !shared.takes_entries() {
                shared.room.notified().await;
            }
            shared.with_machine(|machine| {
                while machine.takes_entries()
                    && let Some(message) = batch.next()
                {
                    machine.on_manifest(message)?;
                }
                Ok(())
            })?;
        }
    }
    if shared.machine().is_walked() {
        return Ok(());
    }
    Err(Failure::protocol("the manifest stream ended before the manifest"))
}
