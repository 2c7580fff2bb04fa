//! The sending driver: the walk, the manifest, parcels, and the control stream, around the sender's machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::event::{ActiveFile, Advice, Event, Summary};
use crate::protocol::engine::bottleneck::{Bottleneck, SenderSnapshot};
use crate::protocol::engine::sender::{Parcel, ReceiverEnd, Sender, SenderAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::not_kept::Aspect;
use crate::protocol::place::Place;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::protocol::wire::limits::FILE_BYTES_MAX;
use crate::protocol::wire::message::Message;
use crate::session::clock::{Clock, TICK_EVERY};
use crate::session::closing::{CLOSE_DONE, close_with, joined, stalled, transport_failure};
use crate::session::context::{Context, started};
use crate::session::handshake::welcomed;
use crate::session::lanes::Lanes;
use crate::session::link::{Link, connected};
use crate::session::observe::bottleneck::BottleneckMeter;
use crate::session::observe::progress::{ACTIVE_FILES_MAX, Teller};
use crate::session::observe::tally::Tally;
use crate::session::outbox::Outbox;
use crate::session::queues::RootsQueue;
use crate::session::send::parcel::{ParcelEnd, send_parcel};
use crate::session::send::shared::{FileHandle, Sending};
use crate::storage::{Source, Walk, Walked, source_roots};
use crate::transport::{Connection, SendStream};

/// Entries that one step of the walk brings.
const WALK_BATCH: usize = 256;
/// The manifest goes before parcels, behind the control stream.
const MANIFEST_PRIORITY: i32 = 1;
/// Batches of control messages that wait for the driver.
const CONTROL_BATCHES: usize = 2;

/// Work beside the streams.
enum SendJob<W> {
    Walked(W, Vec<Walked>),
    Roots(Vec<(EntryId, Result<blake3::Hash, Failure>)>),
    /// Whether it has only grown.
    Verified(EntryId, Result<bool, Failure>),
}

/// Sends everything that `source` walks over, also before a listening receiver has welcomed this side. Returns when the
/// receiver has all of it under final names, except for the entries that the summary counts as failed.
///
/// # Errors
///
/// Whatever ends the transfer as a whole. The peer has been told by then.
pub async fn run<C: Connection, S: Source>(
    link: Link<C>,
    source: Arc<S>,
    chunk_log2: u8,
    transfer: [u8; 16],
    context: Context,
) -> Result<Summary, Failure> {
    let connection = link.connection.clone();
    let mut stopping = context.clone();
    let result = tokio::select! {
        result = SendDriver::start(link, source, chunk_log2, transfer, context) => result,
        failure = stopping.stopped() => Err(failure.or_side(Side::Sender)),
    };
    let (result, _driver) = match result {
        Ok(mut driver) => {
            let result = driver.run().await;
            (result.map_err(|failure| failure.heard_by(Side::Sender, driver.awaits_welcome)), Some(driver))
        }
        Err(failure) => (Err(failure.heard_by(Side::Sender, true)), None),
    };
    // Before the streams are dropped, which would tell the receiver less.
    match &result {
        Ok(_) => connection.close(CLOSE_DONE, b""),
        Err(failure) => close_with(&connection, failure),
    }
    result
}

struct SendDriver<C: Connection, S: Source> {
    connection: C,
    transfer: [u8; 16],
    lanes: Lanes<C>,
    sending: Arc<Sending<S>>,
    machine: Sender,
    context: Context,
    clock: Clock,
    control_out: Outbox,
    control_in: mpsc::Receiver<Result<Vec<Message>, Failure>>,
    manifest_out: Outbox,
    writers: JoinSet<Result<(), Failure>>,
    parcels: JoinSet<ParcelEnd>,
    jobs: JoinSet<SendJob<S::Walk>>,
    /// Where the walk over the source stands; nothing while a job takes the next step.
    walk: Option<S::Walk>,
    /// Files to hash for a comparison.
    roots: RootsQueue<EntryId>,
    files: HashMap<EntryId, Arc<FileHandle<S::File>>>,
    tally: Tally,
    /// The first message is to be `Welcome`.
    awaits_welcome: bool,
    peer_activity: Activity,
    meter: BottleneckMeter,
    teller: Teller,
    /// Why the connection is gone, once it is.
    closed: Option<Failure>,
}

impl<C: Connection, S: Source> SendDriver<C, S> {
    async fn start(
        link: Link<C>,
        source: Arc<S>,
        chunk_log2: u8,
        transfer: [u8; 16],
        context: Context,
    ) -> Result<Self, Failure> {
        let Link { connection, agent, control_out, mut control_in, joining } = link;
        let mut writers = JoinSet::new();
        let (control_out, writing) = Outbox::new(control_out);
        writers.spawn(writing);
        control_out.send(&Message::Offer { transfer, chunk_log2 });
        let wait = context.patience.timeout;
        let manifest = timeout(wait, connection.open_uni()).await;
        let manifest =
            manifest.map_err(|_| stalled("no manifest stream was given", wait, Bottleneck::Credits))?;
        let manifest = manifest.map_err(transport_failure)?;
        manifest.set_priority(MANIFEST_PRIORITY);
        let (manifest_out, writing) = Outbox::new(manifest);
        writers.spawn(writing);
        let (tx, rx) = mpsc::channel(CONTROL_BATCHES);
        tokio::spawn(async move {
            loop {
                let batch = match control_in.next_batch().await {
                    Ok(batch) if batch.is_empty() => return,
                    other => other,
                };
                let failed = batch.is_err();
                if tx.send(batch).await.is_err() || failed {
                    return;
                }
            }
        });
        let walk = source.walk();
        let clock = Clock::start();
        let meter = BottleneckMeter::new(Side::Sender, context.processor_use);
        Ok(Self {
            sending: Arc::new(Sending::new(
                source,
                context.budget.sender_blocks(joining.max()),
                Arc::clone(&context.throttle),
            )),
            lanes: Lanes::new(connection.clone(), joining),
            machine: Sender::new(chunk_log2, context.patience, Duration::ZERO)
                .with_open_entries(context.budget.open_entries()),
            connection,
            context,
            transfer,
            teller: Teller::new(clock.started()),
            clock,
            control_out,
            control_in: rx,
            manifest_out,
            writers,
            closed: None,
            parcels: JoinSet::new(),
            jobs: JoinSet::new(),
            walk: Some(walk),
            roots: RootsQueue::new(),
            files: HashMap::new(),
            tally: Tally::default(),
            awaits_welcome: agent.is_none(),
            peer_activity: Activity::Waiting,
            meter,
        })
    }

    async fn run(&mut self) -> Result<Summary, Failure> {
        if !self.awaits_welcome {
            self.report(started(Side::Sender, self.transfer));
        }
        let mut tick = interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connection = self.connection.clone();
        let closed = connection.closed();
        tokio::pin!(closed);
        loop {
            self.act();
            self.begin_work();
            if let Some(end) = self.machine.finished().cloned() {
                return Ok(self.finish(end));
            }
            if let Some(failure) = self.closed.take_if(|_| self.parcels.is_empty()) {
                return Err(failure);
            }
            tokio::select! {
                // What has come counts before the news that nothing more will.
                biased;
                _ = tick.tick() => self.on_tick()?,
                failure = self.context.stopped() => return Err(failure.or_side(Side::Sender)),
                batch = self.control_in.recv(), if !self.machine.has_heard_the_end() => self.on_control(batch)?,
                Some(end) = self.parcels.join_next() => self.on_parcel(joined(end)?).await?,
                Some(job) = self.jobs.join_next() => self.on_job(joined(job)?),
                Some(()) = self.lanes.next() => {}
                Some(end) = self.writers.join_next() => joined(end)??,
                () = self.manifest_out.drained() => {}
                () = self.control_out.drained() => {}
                error = &mut closed, if self.closed.is_none() => self.on_closed(transport_failure(error)).await?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn report(&self, event: Event) {
        self.context.reporter.report(event);
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                SenderAction::Control(message) => {
                    self.control_out.send(&message);
                }
                SenderAction::Root(id) => {
                    let size = self.machine.entry(id).map_or(0, Entry::size);
                    // The receiver may give entries up whose turn has not come.
                    self.roots.push(id, size, |id| self.machine.entry(*id).is_some());
                }
                SenderAction::Verify(id, root) => self.verify(id, root),
                SenderAction::Grew(entry) => {
                    let warning = self.tally.grew(&entry);
                    self.report(warning);
                }
                SenderAction::Settled(settled) => {
                    self.files.remove(&settled.id);
                    if let Some(event) = self.tally.settled(settled) {
                        self.report(event);
                    }
                }
            }
        }
    }

    fn verify(&mut self, id: EntryId, root: blake3::Hash) {
        let Some(handle) = self.files.get(&id).cloned() else { return };
        let sending = Arc::clone(&self.sending);
        self.jobs.spawn(async move { SendJob::Verified(id, handle.verify(&sending, root).await) });
    }

    fn begin_work(&mut self) {
        if self.closed.is_some() {
            return;
        }
        // A receiver that reads nothing must not make this side keep what it does not take.
        let has_room = self.manifest_out.has_room() && self.control_out.has_room();
        if has_room
            && self.machine.can_announce()
            && let Some(mut walk) = self.walk.take()
        {
            self.jobs.spawn(async move {
                let walked = walk.next(WALK_BATCH).await;
                SendJob::Walked(walk, walked)
            });
        }
        while let Some(ids) = self.roots.next_job() {
            let (ids, entries): (Vec<_>, Vec<_>) =
                ids.into_iter().filter_map(|id| Some((id, self.machine.entry(id)?.clone()))).unzip();
            let sending = Arc::clone(&self.sending);
            self.jobs.spawn(async move {
                let roots = match entries.is_empty() {
                    true => Vec::new(),
                    false => source_roots(&*sending.source, entries, sending.pool.acquire().await).await,
                };
                SendJob::Roots(ids.into_iter().zip(roots).collect())
            });
        }
        let parcels =
            self.context.throttle.parcels_at_once(self.context.budget.streams(), self.machine.chunk_bytes());
        while self.parcels.len() < parcels
            && let Some(parcel) = self.machine.next_parcel()
        {
            self.begin_parcel(parcel);
        }
    }

    fn begin_parcel(&mut self, parcel: Parcel) {
        let entries = match &parcel {
            Parcel::Chunk { id, .. } => {
                self.machine.entry(*id).map(|entry| (*id, entry.clone())).into_iter().collect()
            }
            Parcel::Files(ids) => {
                ids.iter().filter_map(|id| Some((*id, self.machine.entry(*id)?.clone()))).collect::<Vec<_>>()
            }
        };
        let handle = match (&parcel, entries.first()) {
            (Parcel::Chunk { id, .. }, Some((_, entry))) => Some(Arc::clone(
                self.files.entry(*id).or_insert_with(|| Arc::new(FileHandle::new(entry.clone()))),
            )),
            _ => None,
        };
        let (lanes, sending) = (self.lanes.in_use(), Arc::clone(&self.sending));
        self.parcels.spawn(send_parcel(lanes, sending, parcel, entries, handle));
    }

    fn on_control(&mut self, batch: Option<Result<Vec<Message>, Failure>>) -> Result<(), Failure> {
        let Some(batch) = batch else {
            return Err(Failure::protocol("the receiver ended the control stream before the transfer"));
        };
        let now = self.now();
        for message in batch? {
            if std::mem::take(&mut self.awaits_welcome) {
                let (agent, ports) = welcomed(message)?;
                let kept_for = self.lanes.extra_max();
                self.lanes.offered(ports);
                self.take_back_blocks(kept_for);
                self.report(connected(&self.connection, agent));
                self.report(started(Side::Sender, self.transfer));
                continue;
            }
            if let Message::Heartbeat(activity) = message {
                self.peer_activity = activity;
            }
            self.machine.on_control(message, now)?;
        }
        Ok(())
    }

    /// Memory was kept for `kept_for` extra connections, and the listener has offered fewer.
    fn take_back_blocks(&self, kept_for: u32) {
        let budget = &self.context.budget;
        let blocks = budget.sender_blocks(self.lanes.extra_max());
        self.sending.pool.grow(blocks.saturating_sub(budget.sender_blocks(kept_for)));
        debug!(blocks = self.sending.pool.available(), extra = self.lanes.extra_max(), "welcomed");
    }

    /// The connection is gone. A receiver closes it when everything is durable, and what it said before may be unread.
    async fn on_closed(&mut self, failure: Failure) -> Result<(), Failure> {
        self.hear_out().await?;
        if !self.machine.has_heard_the_end() {
            return Err(failure);
        }
        self.closed = Some(failure);
        Ok(())
    }

    /// Takes what came on the control stream before the connection was gone.
    async fn hear_out(&mut self) -> Result<(), Failure> {
        while !self.machine.has_heard_the_end()
            && let Some(Ok(batch)) = self.control_in.recv().await
        {
            self.on_control(Some(Ok(batch)))?;
        }
        Ok(())
    }

    async fn on_parcel(&mut self, end: ParcelEnd) -> Result<(), Failure> {
        if end.result.is_err() && self.connection.is_closed() {
            self.hear_out().await?;
        }
        let now = self.now();
        for (id, failure) in end.abandoned {
            self.machine.abandon(id, failure);
        }
        end.grown.into_iter().for_each(|id| self.machine.grew(id));
        if let Some(lane) = end.lost {
            debug!(lane, "a parcel is sent again over another connection");
            if self.lanes.forget(lane) {
                self.control_out.send(&Message::Left(lane));
            }
            return self.machine.parcel_lost(end.parcel, &end.values);
        }
        match end.result {
            Ok(()) => {
                if let Parcel::Chunk { id, len, .. } = &end.parcel
                    && let Some(handle) = self.files.get(id)
                {
                    handle.acked_bytes.fetch_add(*len, Relaxed);
                }
                self.machine.parcel_acked(&end.parcel, &end.values, now)
            }
            // Its files are durable: only the ack is lost, and no ack says more than the last word.
            Err(failure) if self.machine.has_heard_the_end() && failure.reason == Reason::ConnectionLost => {
                self.machine.parcel_lost(end.parcel, &end.values)
            }
            Err(failure) => self.machine.parcel_failed(&end.parcel, failure),
        }
    }

    fn on_job(&mut self, job: SendJob<S::Walk>) {
        let now = self.now();
        match job {
            SendJob::Walked(walk, walked) => {
                self.walk = Some(walk);
                self.walked(walked, now);
            }
            SendJob::Roots(roots) => {
                self.roots.job_done();
                for (id, root) in roots {
                    match root {
                        Ok(root) => self.machine.hashed(id, root, now),
                        Err(failure) => self.machine.abandon(id, failure),
                    }
                }
            }
            SendJob::Verified(id, Ok(is_grown)) => self.machine.verified(id, is_grown),
            SendJob::Verified(id, Err(failure)) => self.machine.abandon(id, failure),
        }
    }

    fn walked(&mut self, found: Vec<Walked>, now: Duration) {
        self.machine.note_progress(now);
        let ended = found.is_empty();
        for found in found {
            match found {
                Walked::Entry(entry) if entry.size() > FILE_BYTES_MAX => {
                    let sentence = |path: &str| format!("{path} is larger than {FILE_BYTES_MAX} bytes");
                    let place = Place::from(&entry.path);
                    let failure = Failure::about(Side::Sender, Reason::SourceUnreadable, &place, sentence);
                    self.skip(entry.path.to_string(), failure);
                }
                Walked::Entry(entry) => {
                    let message = self.machine.announce(entry, now);
                    self.announce(&message);
                }
                Walked::Skipped { path, failure } => self.skip(path, failure),
            }
        }
        if ended {
            let message = self.machine.walk_ended(now);
            self.announce(&message);
            self.manifest_out.end();
        }
    }

    fn announce(&self, message: &Message) {
        self.manifest_out.send(message);
    }

    fn skip(&mut self, path: String, failure: Failure) {
        self.tally.count_failure(failure.reason);
        self.announce(&Message::Omitted(failure.reason, failure.for_peer().to_owned()));
        self.report(Event::Warning {
            path: Some(path),
            reason: Some(failure.reason),
            message: failure.message,
        });
    }

    fn on_tick(&mut self) -> Result<(), Failure> {
        self.clock.tick();
        let now = self.now();
        if let Some(failure) = self.sending.source.hanging(self.context.patience.disk_timeout) {
            return Err(failure);
        }
        // What waits for its own limit, or for its own disk, does not wait for the peer.
        let at_disk = !self.jobs.is_empty() || self.sending.reading.now() > 0;
        if at_disk || self.context.throttle.waiting.now() > 0 {
            self.machine.note_progress(now);
        }
        self.machine.note_sent(self.sending.offered_bytes.load(Relaxed), now);
        let by_network = self.observe();
        self.machine.check_stall(self.meter.bottleneck(), now)?;
        self.lanes.judge(now, self.sending.sent_bytes.load(Relaxed), by_network);
        self.tell_progress();
        Ok(())
    }

    /// Looks at what holds the transfer; true when it is a full congestion window, and not for want of a processor at
    /// the receiver.
    fn observe(&mut self) -> bool {
        let look = self.meter.look();
        let full = self.lanes.window_full();
        let (sending, at_disk) = (&self.sending, self.jobs.len());
        let snapshot = SenderSnapshot {
            limited: self.context.throttle.waiting.now() > 0,
            processor: look.processor,
            window_full: self.meter.window_was_full(&look, full),
            reading: sending.reading.now() + at_disk as u64,
            opening: sending.opening.now(),
            allocating: sending.allocating.now(),
            writing: sending.writing.now(),
            acking: sending.acking.now(),
        };
        if let Some(activity) = self.meter.count(&look, snapshot.activity(), self.peer_activity) {
            self.control_out.beat(&[Message::Heartbeat(activity)]);
        }
        snapshot.window_full && self.meter.bottleneck() == Bottleneck::Network
    }

    fn tell_progress(&mut self) {
        // Not before it is known to whom.
        if self.awaits_welcome {
            return;
        }
        let sent_bytes = self.sending.sent_bytes.load(Relaxed);
        let (totals, walked) = (self.machine.totals(), self.machine.is_walked());
        let (active, bottleneck) = (self.active(), self.meter.bottleneck());
        if let Some(event) = self.teller.tell(totals, walked, sent_bytes, active, bottleneck) {
            self.report(event);
        }
    }

    fn active(&self) -> Vec<ActiveFile> {
        let mut active: Vec<_> = self.files.iter().collect();
        active.sort_by_key(|(id, _)| **id);
        let active = active.into_iter().take(ACTIVE_FILES_MAX).map(|(id, handle)| ActiveFile {
            id: id.0,
            path: handle.entry.path.clone(),
            size: handle.entry.size(),
            sent_bytes: handle.sent_bytes.load(Relaxed),
            written_bytes: handle.acked_bytes.load(Relaxed),
        });
        active.collect()
    }

    fn finish(&mut self, end: ReceiverEnd) -> Summary {
        self.teller.insist();
        self.tell_progress();
        end.not_kept.iter().for_each(|one| self.report(Event::NotKept(one.clone())));
        if self.context.synced && !end.synced && !end.not_kept.iter().any(|one| one.aspect == Aspect::Sync) {
            self.report(Event::Advice(Advice::ReceiverDoesNotSync));
        }
        let shares = self.meter.shares();
        if let Some(advice) = self.meter.advice(&self.context.budget) {
            self.report(Event::Advice(advice));
        }
        debug!(?shares, stats = ?self.connection.stats(), "finished");
        self.tally.summary(Side::Sender, self.clock.started().elapsed(), shares, end.synced, end.not_kept)
    }
}
