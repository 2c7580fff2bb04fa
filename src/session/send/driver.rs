//! The sending driver: the walk, the manifest, parcels, and the control stream, around the sender's machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::event::{Advice, Event, Summary};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::log::IncomingLog;
use crate::protocol::engine::sender::{Parcel, ReceiverEnd, Sender, SenderAction};
use crate::protocol::failure::{Failure, Side};
use crate::protocol::not_kept::Aspect;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::protocol::wire::message::{Message, Received};
use crate::session::carrier::{Attached, Carrier, CarrierEvent};
use crate::session::clock::{Clock, TICK_EVERY};
use crate::session::closing::{CLOSE_DONE, close_with, joined, transport_failure};
use crate::session::context::{Context, started};
use crate::session::handshake::welcomed;
use crate::session::lanes::Lanes;
use crate::session::link::{Link, connected};
use crate::session::messages::MessageReader;
use crate::session::observe::bottleneck::BottleneckMeter;
use crate::session::observe::progress::Teller;
use crate::session::observe::receipt::checked_receipt;
use crate::session::observe::tally::{Moved, Tally};
use crate::session::outbox::Outbox;
use crate::session::queues::RootsQueue;
use crate::session::retry::Retry;
use crate::session::send::announce::{send_attributes, send_top, too_large};
use crate::session::send::answer::AwaitedAnswer;
use crate::session::send::file_handle::{FileHandle, active_files};
use crate::session::send::job::SendJob;
use crate::session::send::judging::Judge;
use crate::session::send::level::LevelChoice;
use crate::session::send::parcel::{ParcelEnd, send_parcel};
use crate::session::send::path::PathMeter;
use crate::session::send::shared::{ChunkEnd, Sending};
use crate::session::send::streams::{Heard, read_control, write_manifest};
use crate::storage::{Source, Walk, Walked, source_roots};
use crate::transport::{Connection, TransportError};

/// Maximum entries per step of the walk.
const WALK_BATCH: usize = 256;
/// Maximum batches of control messages queued for the driver.
const CONTROL_BATCHES: usize = 2;

/// Sends everything `source` walks over, even before a listening receiver has welcomed this side. Returns when the
/// receiver has everything under its final names, except for the entries that the summary counts as failed.
///
/// # Errors
///
/// Any failure that ends the whole transfer. By then the peer has been told.
pub async fn run<C: Connection, S: Source>(
    link: Link<C>,
    source: Arc<S>,
    chunk_log2: u8,
    transfer: [u8; 16],
    context: Context,
) -> Result<Summary, Failure> {
    let mut driver = SendDriver::start(link, source, chunk_log2, transfer, context);
    let result = driver.run().await;
    let may_refuse = driver.control_log.received() == 0;
    let result = result.map_err(|failure| failure.heard_by(Side::Sender, may_refuse));
    // Closed before the streams are dropped: a dropped stream tells the receiver less.
    match &result {
        Ok(_) => driver.carrier.connection().close(CLOSE_DONE, b""),
        Err(failure) => close_with(driver.carrier.connection(), failure),
    }
    result
}

struct SendDriver<C: Connection, S: Source> {
    carrier: Carrier<C>,
    transfer: [u8; 16],
    lanes: Lanes<C>,
    sending: Arc<Sending<S>>,
    machine: Sender,
    context: Context,
    clock: Clock,
    control_out: Outbox,
    chunk_ends: mpsc::Receiver<ChunkEnd>,
    control_in: mpsc::Receiver<Heard>,
    /// Messages received on the control stream, and those confirmed to the receiver.
    control_log: IncomingLog,
    told: u64,
    manifest_out: Outbox,
    parcels: JoinSet<ParcelEnd>,
    jobs: JoinSet<SendJob<S::Walk>>,
    /// The walk over the source; none while a job takes its next step.
    walk: Option<S::Walk>,
    judge: Judge,
    /// Files to hash for a comparison.
    roots: RootsQueue<EntryId>,
    files: HashMap<EntryId, Arc<FileHandle<S::File>>>,
    tally: Tally,
    /// Whether the first message must be `Welcome`.
    awaits_welcome: bool,
    peer_activity: Activity,
    answer: AwaitedAnswer,
    meter: BottleneckMeter,
    path: PathMeter,
    teller: Teller,
    levels: LevelChoice,
    /// Why the connection is gone, after the receiver's last message.
    closed: Option<Failure>,
}

impl<C: Connection, S: Source> SendDriver<C, S> {
    fn start(link: Link<C>, source: Arc<S>, chunk_log2: u8, transfer: [u8; 16], context: Context) -> Self {
        let Link { connection, agent, control_out, control_in, control_log, joining, carried } = link;
        let walk = source.walk();
        let (chunk_ends, ends) = mpsc::channel(1);
        let (clock, wants_receipt, request) = (Clock::start(), context.receipt, context.request.clone());
        let answer = AwaitedAnswer::new(clock.started());
        let pool = context.memory.pool(context.memory.sender_blocks(joining.max()));
        let (reporter, replacers) = (Arc::clone(&context.reporter), joining.replacers());
        let mut driver = Self {
            carrier: Carrier::new(Side::Sender, connection.clone(), carried, reporter, replacers),
            sending: Arc::new(Sending::new(source, pool, Arc::clone(&context.throttle), chunk_ends)),
            chunk_ends: ends,
            lanes: Lanes::new(connection, joining),
            machine: Sender::new(chunk_log2, context.patience, Duration::ZERO)
                .with_open_entries(context.memory.open_entries())
                .comparing(request.compares || wants_receipt)
                .dry(request.is_dry)
                .removing(request.delete.is_some())
                .with_pieces(if context.delta { context.memory.pieces() } else { 0 }),
            meter: BottleneckMeter::new(Side::Sender, Arc::clone(&context.processor_use)),
            path: PathMeter::default(),
            levels: LevelChoice::new(context.compression),
            context,
            transfer,
            teller: Teller::new(clock.started()),
            clock,
            control_out: Outbox::default(),
            control_in: mpsc::channel(CONTROL_BATCHES).1,
            control_log,
            told: 0,
            manifest_out: Outbox::default(),
            closed: None,
            parcels: JoinSet::new(),
            jobs: JoinSet::new(),
            walk: Some(walk),
            judge: Judge::new(&request),
            roots: RootsQueue::new(),
            files: HashMap::new(),
            tally: Tally::for_receipt(wants_receipt).of_run(request.is_dry),
            awaits_welcome: agent.is_none(),
            peer_activity: Activity::Waiting,
            answer,
        };
        driver.control_out.send(&Message::Offer { transfer, chunk_log2, wants_receipt, request });
        driver.look_at_path(Duration::ZERO);
        driver.carry(control_out, control_in);
        driver
    }

    /// Moves the session's streams to the carrier's connection.
    fn carry(&mut self, control_out: C::Send, control_in: MessageReader<C::Recv>) {
        let connection = self.carrier.connection().clone();
        let (heard, batches) = mpsc::channel(CONTROL_BATCHES);
        self.control_in = batches;
        self.carrier.spawn(self.control_out.write_to(control_out));
        self.carrier.spawn(read_control(control_in, self.awaits_welcome, heard));
        self.carrier.spawn(write_manifest(connection, self.manifest_out.clone(), Arc::clone(&self.sending)));
    }

    async fn run(&mut self) -> Result<Summary, Failure> {
        if !self.awaits_welcome {
            self.report(started(Side::Sender, self.transfer));
        }
        let mut tick = interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                // Handles received messages before the end of the stream.
                biased;
                _ = tick.tick() => self.on_tick()?,
                failure = self.context.stopped() => return Err(failure.or_side(Side::Sender)),
                Some(heard) = self.control_in.recv(), if self.reads_control() => self.on_control(heard)?,
                Some(ChunkEnd { id, end, is_last }) = self.chunk_ends.recv() => {
                    self.machine.chunk_read(id, end, is_last)?;
                }
                Some(end) = self.parcels.join_next() => self.on_parcel(joined(end)?)?,
                Some(job) = self.jobs.join_next() => self.on_job(joined(job)?),
                Some((number, connection)) = self.lanes.next() => self.on_joined(number, connection),
                () = self.manifest_out.drained() => {}
                () = self.control_out.drained() => {}
                event = self.carrier.next() => self.on_carrier(event).await?,
            }
        }
    }

    /// Messages left on a lost connection are dropped: they are sent again.
    fn reads_control(&self) -> bool {
        !self.machine.has_heard_the_end() && !self.carrier.is_lost()
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
                    // The receiver may give up entries that are still waiting.
                    self.roots.push(id, size, |id| self.machine.entry(*id).is_some());
                }
                SenderAction::Judge(names) => self.judge.push(names),
                SenderAction::Verify(id, root) => self.verify(id, root),
                SenderAction::Resumed(entry, bytes) => {
                    let resumed = self.tally.resumed(&entry, bytes);
                    resumed.into_iter().for_each(|event| self.report(event));
                }
                SenderAction::Grew(entry) => {
                    let warning = self.tally.grew(&entry);
                    self.report(warning);
                }
                SenderAction::Settled(settled) => {
                    self.files.remove(&settled.id);
                    self.tally.settled(settled).for_each(|event| self.report(event));
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
        // A receiver that reads nothing must not make this side buffer without limit.
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
        if let Some(names) = self.judge.next() {
            let sending = Arc::clone(&self.sending);
            self.jobs.spawn(async move { SendJob::Judged(sending.source.lacks(names).await) });
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
        if !self.lanes.has_any() {
            return;
        }
        let parcels =
            self.context.throttle.parcels_at_once(self.context.memory.streams(), self.machine.chunk_bytes());
        while self.parcels.len() < parcels
            && let Some(parcel) = self.machine.next_parcel()
        {
            self.begin_parcel(parcel);
        }
    }

    fn begin_parcel(&mut self, parcel: Parcel) {
        let entries: Vec<_> =
            parcel.ids().iter().filter_map(|id| Some((*id, self.machine.entry(*id)?.clone()))).collect();
        let handle = match (parcel.file(), entries.first()) {
            (Some(id), Some((_, entry))) => Some(Arc::clone(
                self.files.entry(id).or_insert_with(|| Arc::new(FileHandle::new(entry.clone()))),
            )),
            _ => None,
        };
        let (lanes, sending) = (self.lanes.in_use(), Arc::clone(&self.sending));
        let chunk_bytes = self.machine.chunk_bytes();
        self.parcels.spawn(send_parcel(lanes, sending, parcel, chunk_bytes, entries, handle));
    }

    fn on_control(&mut self, heard: Heard) -> Result<(), Failure> {
        let now = self.now();
        let batch = match heard {
            Heard::Greeting(message) => return self.on_welcome(message),
            Heard::Messages(batch) => batch,
        };
        for (number, message) in batch {
            let is_kept = message.as_ref().map_or(number > 0, Message::is_kept);
            if !self.control_log.take(number, is_kept)? {
                continue;
            }
            match message {
                Some(Message::Confirm(received)) => self.on_confirm(received)?,
                Some(message) => {
                    if let Message::Heartbeat(activity) = message {
                        self.peer_activity = activity;
                    }
                    self.machine.on_control(message, now)?;
                }
                None => {}
            }
        }
        if let Some(level) = self.levels.fixed().filter(|_| self.machine.may_pack()) {
            self.sending.compress(level);
        }
        Ok(())
    }

    fn on_welcome(&mut self, message: Message) -> Result<(), Failure> {
        self.awaits_welcome = false;
        let (agent, ports) = welcomed(message)?;
        let kept_for = self.lanes.extra_max();
        self.lanes.offered(ports);
        self.take_back_blocks(kept_for);
        self.report(connected(self.carrier.connection(), agent));
        self.report(started(Side::Sender, self.transfer));
        Ok(())
    }

    /// The receiver has these confirmations.
    fn on_confirm(&mut self, received: Received) -> Result<(), Failure> {
        let news =
            [self.control_out.confirmed(received.control)?, self.manifest_out.confirmed(received.manifest)?];
        match news.contains(&true) {
            true => Ok(()),
            false => Err(Failure::protocol("the receiver confirms nothing new")),
        }
    }

    /// Memory was reserved for `kept_for` extra connections, and the listener has offered fewer.
    fn take_back_blocks(&self, kept_for: u32) {
        let budget = &self.context.memory;
        let blocks = budget.sender_blocks(self.lanes.extra_max());
        self.sending.pool.grow(blocks.saturating_sub(budget.sender_blocks(kept_for)));
        debug!(blocks = self.sending.pool.available(), extra = self.lanes.extra_max(), "welcomed");
    }

    /// A connection has joined the session.
    fn on_joined(&mut self, number: u32, connection: C) {
        match (number, self.lanes.retry()) {
            (0, Retry::Off) => connection.close(CLOSE_DONE, b""),
            (0, _) if self.closed.is_some() || self.awaits_welcome => connection.close(CLOSE_DONE, b""),
            (0, retry) => {
                let received = Received { control: self.control_log.received(), manifest: 0 };
                self.told = received.control;
                self.lanes.drop_first();
                let before = self.lanes.end_of_first();
                self.carrier.replace(connection, received, retry, before);
            }
            _ => self.lanes.add(number, connection),
        }
    }

    async fn on_carrier(&mut self, event: CarrierEvent<C>) -> Result<(), Failure> {
        match event {
            CarrierEvent::Attached(Attached { control_out, control_in, theirs }) => {
                self.control_out.replay_after(theirs.control)?;
                self.manifest_out.replay_after(theirs.manifest)?;
                self.lanes.set_first(self.carrier.connection().clone());
                self.carry(control_out, control_in);
                Ok(())
            }
            CarrierEvent::Closed(error) => self.on_closed(error).await,
            CarrierEvent::Failed(failure) => {
                // The last message may have come before the stream ended.
                while !self.machine.has_heard_the_end()
                    && let Ok(heard) = self.control_in.try_recv()
                {
                    self.on_control(heard)?;
                }
                if self.machine.has_heard_the_end() { Ok(()) } else { Err(failure) }
            }
            CarrierEvent::GivenUp(failure) => Err(failure),
        }
    }

    /// The connection is gone. A receiver closes it when everything is durable, so its last messages may be unread.
    async fn on_closed(&mut self, error: TransportError) -> Result<(), Failure> {
        while !self.machine.has_heard_the_end()
            && let Some(heard) = self.control_in.recv().await
        {
            self.on_control(heard)?;
        }
        if self.machine.has_heard_the_end() {
            self.closed = Some(transport_failure(error));
            return Ok(());
        }
        let retry = if self.awaits_welcome { Retry::Off } else { self.lanes.retry() };
        self.lanes.drop_first();
        self.carrier.lose(error, retry)
    }

    fn on_parcel(&mut self, end: ParcelEnd) -> Result<(), Failure> {
        let now = self.now();
        end.abandoned.iter().for_each(|(id, failure)| self.machine.abandon(*id, failure.clone()));
        end.grown.iter().for_each(|id| self.machine.grew(*id));
        if end.is_lost {
            debug!(entries = end.parcel.ids().len(), "a parcel is sent again over another connection");
            let lost = self.lanes.forget_lost();
            lost.into_iter().for_each(|number| self.control_out.send(&Message::Left(number)));
            return self.machine.parcel_lost(end.parcel, &end.values, end.was_read);
        }
        end.tell(&mut self.machine, now)
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
            SendJob::Judged(lacking) => {
                let told = self.judge.judged(self.machine.judged(&lacking));
                told.into_iter().for_each(|event| self.report(event));
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
                Walked::Entry(entry) => match too_large(&entry) {
                    Some(failure) => self.skip(entry.path.to_string(), failure),
                    None => {
                        send_attributes(&self.manifest_out, &entry.meta);
                        let message = self.machine.announce(entry, now);
                        self.manifest_out.send(&message);
                    }
                },
                Walked::Top(meta) => send_top(&self.manifest_out, meta),
                Walked::Skipped { path, failure } => self.skip(path, failure),
            }
        }
        if ended {
            let message = self.machine.walk_ended(now);
            self.manifest_out.send(&message);
            self.manifest_out.end();
        }
    }

    fn skip(&mut self, path: String, failure: Failure) {
        self.tally.count_failure(failure.reason);
        self.manifest_out.send(&Message::Omitted(failure.reason, failure.for_peer().to_owned()));
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
        // Waiting for this side's rate limit or disk is not waiting for the peer.
        let at_disk = !self.jobs.is_empty() || self.sending.reading.now() > 0;
        let is_signed = self.sending.take_signed() > 0;
        if at_disk || is_signed || self.context.throttle.waiting.now() > 0 || self.carrier.is_lost() {
            self.machine.note_progress(now);
        }
        self.machine.note_sent(self.sending.offered_bytes.load(Relaxed), now);
        self.confirm();
        let by_network = self.observe();
        self.machine.check_stall(self.meter.bottleneck(), now)?;
        self.choose_level(by_network);
        self.lanes.judge(now, self.sending.sent_bytes.load(Relaxed), by_network);
        self.look_at_path(now);
        self.tell_progress();
        Ok(())
    }

    /// Chooses how hard to compress, if the receiver can read it at all.
    fn choose_level(&mut self, by_network: bool) {
        let by_network = by_network || self.context.throttle.waiting.now() > 0;
        let level = self.levels.look(self.now(), by_network, self.meter.bottleneck());
        self.sending.compress(if self.machine.may_pack() { level } else { 0 });
    }

    /// Tells the machine about the path.
    fn look_at_path(&mut self, now: Duration) {
        let is_network = matches!(self.meter.bottleneck(), Bottleneck::Network | Bottleneck::Bwlimit);
        let (came, rtt) = (self.machine.came_bytes(), self.carrier.connection().stats().rtt);
        let limit = self.context.throttle.rate();
        self.machine.note_path(self.path.look(now, came, is_network, rtt, limit));
    }

    /// Confirms the receiver's messages.
    fn confirm(&mut self) {
        let control = self.control_log.received();
        if control > self.told && !self.carrier.is_lost() {
            self.told = control;
            self.control_out.confirm(Received { control, manifest: 0 });
        }
    }

    /// Checks for the bottleneck. True when it is a full congestion window, unless the receiver's processor is the
    /// cause.
    fn observe(&mut self) -> bool {
        self.answer.hear(self.peer_activity, &mut self.meter, self.context.reporter.as_ref());
        let look = self.meter.look();
        let full = self.lanes.window_full();
        let window_full = self.meter.window_was_full(&look, full);
        let snapshot = self.sending.snapshot(look.processor, window_full, self.jobs.len());
        if let Some(activity) = self.meter.count(&look, snapshot.activity(), self.peer_activity) {
            self.control_out.beat(&[Message::Heartbeat(activity)]);
        }
        snapshot.window_full && self.meter.bottleneck() == Bottleneck::Network
    }

    fn tell_progress(&mut self) {
        // Not before the peer is authenticated.
        if self.awaits_welcome {
            return;
        }
        let sent_bytes = self.sending.sent_bytes.load(Relaxed);
        let (totals, walked) = (self.machine.totals(), self.machine.are_totals_final());
        let (active, waits) =
            (active_files(&self.files, &self.machine), self.answer.waiting_for(self.meter.bottleneck()));
        if let Some(event) = self.teller.tell(totals, walked, sent_bytes, active, waits) {
            self.report(event);
        }
    }

    fn finish(&mut self, mut end: ReceiverEnd) -> Summary {
        self.teller.insist();
        self.tell_progress();
        if let Some(removal) = end.removal.take() {
            let told = self.judge.ended(&removal).into_iter().chain(self.tally.removed(&removal));
            told.for_each(|event| self.context.reporter.report(event));
        }
        end.not_kept.iter().for_each(|one| self.report(Event::NotKept(one.clone())));
        let piped = self.machine.is_in_order();
        let says_so = end.synced || end.not_kept.iter().any(|one| one.aspect == Aspect::Sync);
        if self.context.synced && !says_so && !piped {
            self.report(Event::Advice(Advice::ReceiverDoesNotSync));
        }
        let shares = self.meter.shares();
        if let Some(advice) = self.meter.advice(&self.context.memory) {
            self.report(Event::Advice(advice));
        }
        debug!(?shares, stats = ?self.carrier.connection().stats(), "finished");
        let (sent_bytes, elapsed) = (self.sending.sent_bytes.load(Relaxed), self.answer.elapsed());
        let (totals, saved_bytes) = (self.machine.totals(), self.sending.packing.saved_bytes());
        let (resumed_bytes, copied_bytes) = (totals.resumed_bytes, totals.copied_bytes);
        let moved = Moved { elapsed, sent_bytes, saved_bytes, resumed_bytes, copied_bytes };
        let peer = self.carrier.connection().peer_fingerprint();
        let receipt = checked_receipt(&self.context, self.transfer, peer, &self.tally, &mut end);
        Summary { receipt, piped, ..self.tally.summary(Side::Sender, moved, shares, end) }
    }
}
