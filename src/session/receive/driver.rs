//! The receiving driver: manifest, parcels, commits and the control stream, around the receiver's machine.

use std::any::Any;
use std::iter;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;

use crate::event::{ActiveFile, Event, Summary};
use crate::protocol::engine::bottleneck::ReceiverSnapshot;
use crate::protocol::engine::receiver::{Receiver, ReceiverAction};
use crate::protocol::engine::sender::ReceiverEnd;
use crate::protocol::failure::{Failure, Side};
use crate::protocol::not_kept::{Aspect, NotKept};
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::request::Treatment;
use crate::protocol::wire::message::{Message, Received};
use crate::session::carrier::{Attached, Carrier, CarrierEvent};
use crate::session::clock::TICK_EVERY;
use crate::session::closing::{CLOSE_DONE, close_with, joined};
use crate::session::context::Context;
use crate::session::joining::Joining;
use crate::session::lanes::{Lane, LaneEnd, is_fast};
use crate::session::link::Link;
use crate::session::messages::MessageReader;
use crate::session::observe::bottleneck::BottleneckMeter;
use crate::session::observe::progress::{ACTIVE_FILES_MAX, Teller};
use crate::session::observe::receipt::{EndedTransfer, seal};
use crate::session::observe::tally::{Moved, Tally};
use crate::session::receive::asking::{OpenQuestion, answer, declined};
use crate::session::receive::jobs::{DiskJob, DiskJobs};
use crate::session::receive::offer::Offer;
use crate::session::receive::parcel::{ParcelFailure, receive_parcel};
use crate::session::receive::program::{RunningProgram, ended};
use crate::session::receive::shared::{Receiving, storage_failure};
use crate::session::receive::streams::{read_control, read_manifest};
use crate::session::retry::Retry;
use crate::storage::Target;
use crate::transport::{Connection, TransportError};

/// Time limit for removing staged files after a failure.
const CLEAR_UP: Duration = Duration::from_secs(10);

/// Receives everything into `target`, shown to the user as `target_name`. Returns when everything is durable under
/// its final names and the sender has been told, except for the entries that the summary counts as failed.
///
/// # Errors
///
/// Any failure that ends the whole transfer. By then the peer has been told and staging is removed.
pub async fn run<C: Connection, T: Target>(
    link: Link<C>,
    offer: Offer,
    target: Arc<T>,
    target_name: String,
    treatment: impl Into<Treatment>,
    context: Context,
) -> Result<Summary, Failure> {
    let treatment = treatment.into();
    let mut driver = ReceiveDriver::start(link, offer, Arc::clone(&target), target_name, treatment, context);
    let result = driver.run().await.map_err(|failure| failure.heard_by(Side::Receiver, false));
    match &result {
        Ok(_) => driver.carrier.connection().close(CLOSE_DONE, b""),
        Err(failure) => close_with(driver.carrier.connection(), failure),
    }
    let disk_hangs = driver.disk_hangs;
    // Dropped after the close: a dropped stream tells the peer less than the close does.
    drop(driver);
    if disk_hangs {
        // Removing staging would hang as well, and dropping the target removes it too. So both are left out, and the
        // next receiver removes staging.
        mem::forget(target);
    } else if result.is_err() && timeout(CLEAR_UP, target.abort()).await.is_err() {
        // The disk hangs here too, only not yet for the time limit.
        mem::forget(target);
    }
    result
}

/// The result of a connection on which no more streams can be accepted.
type Accepted<C> = (Lane<C>, Result<(<C as Connection>::Send, <C as Connection>::Recv), TransportError>);

struct ReceiveDriver<C: Connection, T: Target> {
    carrier: Carrier<C>,
    /// What the sender has been told about its messages.
    told: Received,
    joining: Joining<C>,
    lanes: Vec<Lane<C>>,
    first_end: Option<LaneEnd>,
    accepting: JoinSet<Accepted<C>>,
    shared: Arc<Receiving<T>>,
    context: Context,
    /// Until it is answered, the disk is left alone.
    question: Option<OpenQuestion>,
    /// The start of the transfer, without the time of the answer.
    began: Instant,
    parcels: JoinSet<Result<(), ParcelFailure>>,
    /// Streams of the failed parcel, kept until the connection is closed.
    streams: Option<Box<dyn Any + Send>>,
    jobs: DiskJobs<T>,
    tally: Tally,
    /// Nothing is changed.
    is_dry: bool,
    /// Attributes the disk does not keep, reported once everything else has ended.
    not_kept: Vec<NotKept>,
    transfer: [u8; 16],
    chunk_log2: u8,
    /// Files that were read back from the disk, if they are.
    verified: Option<u64>,
    /// Runs before the sender is told of the end; how it ended.
    program: Option<RunningProgram>,
    program_end: Option<ProgramEnd>,
    /// The time of the transfer, without that of the program.
    took: Option<Duration>,
    /// Whether a call to the disk hangs.
    disk_hangs: bool,
    meter: BottleneckMeter,
    /// Bytes received by the last tick.
    last_came: u64,
    teller: Teller,
}

impl<C: Connection, T: Target> ReceiveDriver<C, T> {
    fn start(
        link: Link<C>,
        offer: Offer,
        target: Arc<T>,
        target_name: String,
        treatment: Treatment,
        context: Context,
    ) -> Self {
        let Link { connection, control_out, control_in, control_log, joining, carried, .. } = link;
        let is_dry = treatment.is_dry;
        let machine =
            Receiver::new(offer.chunk_log2, treatment.clone(), target_name, context.patience, Duration::ZERO)
                .with_removal(treatment.delete.clone(), names_key(offer.transfer), context.memory.names())
                .all_or_nothing(context.atomic)
                .in_order(context.piped.then(|| context.memory.chunks_at_a_time(offer.chunk_log2)))
                .with_open_entries(context.memory.open_entries());
        let blocks = match context.piped {
            true => context.memory.pipe_blocks(offer.chunk_log2),
            false => context.memory.receiver_blocks(joining.max()),
        };
        let pool = context.memory.pool(blocks);
        let throttle = Arc::clone(&context.throttle);
        let shared = Arc::new(
            Receiving::new(machine, control_log, target, pool, throttle).verifying_first(context.piped),
        );
        let (reporter, replacers) = (Arc::clone(&context.reporter), joining.replacers());
        let mut driver = Self {
            carrier: Carrier::new(Side::Receiver, connection, carried, reporter, replacers),
            told: Received::default(),
            joining,
            lanes: Vec::new(),
            first_end: None,
            accepting: JoinSet::new(),
            meter: BottleneckMeter::new(Side::Receiver, Arc::clone(&context.processor_use)),
            question: context.consent.clone().map(OpenQuestion::new),
            began: shared.clock.started(),
            context,
            parcels: JoinSet::new(),
            streams: None,
            jobs: DiskJobs::new(Arc::clone(&shared), treatment, offer.chunk_log2),
            tally: Tally::for_receipt(offer.wants_receipt).of_run(is_dry),
            is_dry,
            transfer: offer.transfer,
            chunk_log2: offer.chunk_log2,
            not_kept: Vec::new(),
            verified: None,
            program: None,
            program_end: None,
            took: None,
            disk_hangs: false,
            last_came: 0,
            teller: Teller::new(shared.clock.started()),
            shared,
        };
        driver.shared.control_out.send(&Message::Unpacks(1));
        driver.carry(control_out, control_in);
        driver
    }

    /// Moves the session's streams, and the parcels, to the carrier's connection.
    fn carry(&mut self, control_out: C::Send, control_in: MessageReader<C::Recv>) {
        let connection = self.carrier.connection().clone();
        self.carrier.spawn(self.shared.control_out.write_to(control_out));
        self.carrier.spawn(read_control(Arc::clone(&self.shared), control_in));
        self.carrier.spawn(read_manifest(Arc::clone(&self.shared), connection.clone()));
        let (lane, end) = Lane::first(connection);
        self.first_end = Some(end);
        self.accept_from(lane);
    }

    /// A connection has joined the session.
    fn on_joined(&mut self, number: u32, connection: C) {
        match (number, self.joining.retry()) {
            (0, Retry::Off) => connection.close(CLOSE_DONE, b""),
            (0, retry) => {
                self.told = self.shared.received();
                self.leave_first();
                self.carrier.replace(connection, self.told, retry, self.first_end.take());
            }
            _ => self.accept_from(Lane::new(number, connection)),
        }
    }

    fn on_carrier(&mut self, event: CarrierEvent<C>) -> Result<(), Failure> {
        match event {
            CarrierEvent::Attached(Attached { control_out, control_in, theirs }) => {
                if theirs.manifest > 0 {
                    return Err(Failure::protocol("the sender says that it has a manifest"));
                }
                self.shared.control_out.replay_after(theirs.control)?;
                self.carry(control_out, control_in);
                Ok(())
            }
            CarrierEvent::Closed(error) => {
                self.leave_first();
                self.carrier.lose(error, self.joining.retry())
            }
            CarrierEvent::Failed(failure) | CarrierEvent::GivenUp(failure) => Err(failure),
        }
    }

    /// The connection that carried the control stream is gone.
    fn leave_first(&mut self) {
        self.lanes.extract_if(.., |lane| lane.number == 0).for_each(|lane| lane.leave());
    }

    /// Accepts parcels over `lane`.
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

    fn on_accepted(&mut self, (lane, streams): Accepted<C>) {
        let (answer, parcel) = match streams {
            Ok(streams) => streams,
            // Accepting fails only at the end of the connection.
            Err(error) => {
                debug!(lane = lane.number, %error, "a connection is gone");
                return;
            }
        };
        debug!(lane = lane.number, on_the_way = self.parcels.len() + 1, "a parcel begins");
        self.accept(lane.clone());
        let shared = Arc::clone(&self.shared);
        self.parcels.spawn(async move {
            let parcel = lane.reader(parcel);
            match receive_parcel(shared, answer, parcel).await {
                // Data of a lost connection is sent again over another one.
                Err(end) if end.is_of_the_connection() && lane.is_lost() => Ok(()),
                end => end,
            }
        });
    }

    async fn run(&mut self) -> Result<Summary, Failure> {
        if self.context.piped {
            self.context.memory.check_pipe(self.chunk_log2)?;
        }
        let mut tick = interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            if self.question.is_none() {
                self.act();
                if let Some(failure) = self.shared.machine().broken() {
                    return Err(failure.clone());
                }
                self.jobs.begin();
                if self.shared.machine().is_done() {
                    break;
                }
            }
            tokio::select! {
                biased;
                _ = tick.tick() => self.on_tick()?,
                may_receive = answer(self.question.as_mut()) => self.on_answer(may_receive)?,
                end = ended(self.program.as_mut()) => self.conclude(Some(end)),
                failure = self.context.stopped() => return Err(failure.or_side(Side::Receiver)),
                () = shared.changed.notified() => {}
                () = shared.control_out.drained() => {}
                Some(end) = self.parcels.join_next() => self.on_parcel(joined(end)?)?,
                Some(job) = self.jobs.next() => self.on_job(joined(job)?)?,
                Some(accepted) = self.accepting.join_next() => self.on_accepted(joined(accepted)?),
                Some((number, connection)) = self.joining.next() => self.on_joined(number, connection),
                event = self.carrier.next() => self.on_carrier(event)?,
            }
        }
        Ok(self.farewell().await)
    }

    fn on_answer(&mut self, may_receive: bool) -> Result<(), Failure> {
        self.question = None;
        self.began = Instant::now();
        self.meter.begin_again();
        if may_receive { Ok(()) } else { Err(declined()) }
    }

    fn on_parcel(&mut self, end: Result<(), ParcelFailure>) -> Result<(), Failure> {
        end.map_err(|ParcelFailure { failure, streams }| {
            self.streams = Some(streams);
            failure
        })
    }

    /// Everything is safe. The connection no longer matters for that.
    async fn farewell(&mut self) -> Summary {
        self.teller.insist();
        self.tell_progress();
        self.shared.control_out.end();
        self.heard_out().await;
        if let Some(advice) = self.meter.advice(&self.context.memory) {
            self.report(Event::Advice(advice));
        }
        let totals = self.shared.machine().totals();
        let moved = Moved {
            elapsed: self.took.unwrap_or_else(|| self.began.elapsed()),
            sent_bytes: self.shared.came_bytes.load(Relaxed),
            saved_bytes: self.shared.saved_bytes(),
            resumed_bytes: totals.resumed_bytes,
            copied_bytes: totals.copied_bytes,
        };
        let (synced, not_kept) = (self.is_synced(), std::mem::take(&mut self.not_kept));
        not_kept.iter().for_each(|one| self.report(Event::NotKept(one.clone())));
        let (verified, program) = (self.verified, self.program_end);
        let end = ReceiverEnd { synced, verified, removal: None, seal: None, not_kept, program };
        let summary = self.tally.summary(Side::Receiver, moved, self.meter.shares(), end);
        Summary { piped: self.context.piped, ..summary }
    }

    /// Waits until the sender has heard everything and closes the connection. If the connection is lost before that, the
    /// last messages are sent again over another one. On each connection, the sender has the time-out to hear them.
    async fn heard_out(&mut self) {
        let patience = self.context.patience.timeout;
        let mut end = Instant::now() + patience;
        loop {
            let was_lost = self.carrier.is_lost();
            let result = tokio::select! {
                biased;
                Some((number, connection)) = self.joining.next() => {
                    self.on_joined(number, connection);
                    Ok(())
                }
                Some(Ok(accepted)) = self.accepting.join_next() => {
                    self.on_accepted(accepted);
                    Ok(())
                }
                event = self.carrier.next() => match event {
                    CarrierEvent::Closed(TransportError::Closed { .. }) => return,
                    CarrierEvent::Closed(_) if self.shared.control_out.is_delivered() => return,
                    event => self.on_carrier(event),
                },
                () = sleep_until(end), if !self.carrier.is_lost() => return,
                _ = self.context.stopped(), if self.carrier.is_lost() => return,
            };
            if result.is_err() {
                return;
            }
            if was_lost && !self.carrier.is_lost() {
                end = Instant::now() + patience;
            }
        }
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
            match self.jobs.take(action) {
                Some(ReceiverAction::Control(message)) => self.shared.control_out.send(&message),
                Some(ReceiverAction::Leave(number)) => {
                    for lane in self.lanes.extract_if(.., |lane| lane.number == number) {
                        lane.connection.close(CLOSE_DONE, b"");
                    }
                }
                Some(ReceiverAction::Grew(entry)) => {
                    let warning = self.tally.grew(&entry);
                    self.report(warning);
                }
                Some(ReceiverAction::Resumed(entry, bytes)) => {
                    let resumed = self.tally.resumed(&entry, bytes);
                    resumed.into_iter().for_each(|event| self.report(event));
                }
                Some(ReceiverAction::Settled(settled)) => {
                    // What waited for room may go on.
                    self.shared.released.notify_waiters();
                    let events = self.tally.settled(settled);
                    events.for_each(|event| self.report(event));
                }
                Some(ReceiverAction::Unchanged(settled)) => {
                    if let Some(first) = settled.first() {
                        let message = Message::Unchanged(first.id, settled.len() as u64);
                        self.shared.control_out.send(&message);
                    }
                    let events = settled.into_iter().flat_map(|one| self.tally.settled(one));
                    events.for_each(|event| self.context.reporter.report(event));
                }
                Some(ReceiverAction::Removal(removal)) => {
                    let warning = self.tally.removed(&removal);
                    warning.into_iter().for_each(|event| self.report(event));
                }
                Some(ReceiverAction::Omitted(reason, message)) => {
                    self.tally.count_failure(reason);
                    self.report(Event::Warning { path: None, reason: Some(reason), message });
                }
                _ => {}
            }
        }
        if self.shared.takes_entries() {
            self.shared.room.notify_one();
        }
    }

    fn on_job(&mut self, job: DiskJob) -> Result<(), Failure> {
        if let Some(not_kept) = self.jobs.done(job)? {
            self.not_kept = not_kept;
            self.took = Some(self.began.elapsed());
            match (self.context.program.clone(), self.tally.delivered()) {
                (Some(program), Some(delivered)) => {
                    self.program = Some(RunningProgram::start(program, delivered));
                }
                _ => self.conclude(None),
            }
        }
        Ok(())
    }

    /// Everything is durable, and the program that was to run has ended.
    fn conclude(&mut self, program: Option<ProgramEnd>) {
        (self.program, self.program_end) = (None, program);
        let (synced, mut machine) = (self.is_synced(), self.shared.machine());
        self.verified = (self.context.verify_disk && !self.is_dry).then(|| machine.verified());
        let peer = self.carrier.connection().peer_fingerprint();
        let ended =
            EndedTransfer { transfer: self.transfer, tally: &self.tally, synced, verified: self.verified };
        seal(&self.context, peer, &ended).into_iter().for_each(|seal| machine.seal(seal));
        program.into_iter().for_each(|end| machine.ran(end));
        machine.finished(synced, self.not_kept.clone());
    }

    /// Everything is durable.
    fn is_synced(&self) -> bool {
        self.is_dry || self.context.synced && !self.not_kept.iter().any(|one| one.aspect == Aspect::Sync)
    }

    /// Fails when a call to the disk has not returned for `--disk-timeout`, or what the bytes are handed to is gone.
    fn check_disk(&mut self) -> Result<(), Failure> {
        // Whoever has taken all bytes from a pipe may go.
        if self.context.piped && self.shared.machine().has_all_bytes() {
            return Ok(());
        }
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
        self.shared.writing.now() > 0 || self.jobs.is_busy()
    }

    fn on_tick(&mut self) -> Result<(), Failure> {
        self.shared.clock.tick();
        if let Some(question) = &mut self.question {
            let mut machine = self.shared.machine();
            question.look(&machine, &self.shared.control_out);
            machine.note_progress(self.shared.clock.now());
            drop(machine);
            self.confirm();
            return Ok(());
        }
        if let Some(program) = &mut self.program {
            program.beat(&self.shared.control_out);
            self.shared.machine().note_progress(self.shared.clock.now());
            self.confirm();
            return Ok(());
        }
        self.check_disk()?;
        let busy = self.disk_is_at_work();
        let limited = self.shared.throttle.waiting.now() > 0;
        let now = self.shared.clock.now();
        let came = self.observe();
        self.confirm();
        {
            let mut machine = self.shared.machine();
            machine.came(came, now);
            machine.checkpoint_due(now);
            if busy || limited || self.carrier.is_lost() {
                machine.note_progress(now);
            }
            machine.check_stall(now)?;
        }
        self.tell_progress();
        Ok(())
    }

    /// Confirms the sender's messages.
    fn confirm(&mut self) {
        let received = self.shared.received();
        if received != self.told && !self.carrier.is_lost() {
            self.told = received;
            self.shared.control_out.confirm(received);
        }
    }

    /// Checks for the bottleneck. Returns the bytes of files received since the last check.
    fn observe(&mut self) -> u64 {
        let (look, shared) = (self.meter.look(), &self.shared);
        let came = shared.came_bytes.load(Relaxed);
        let before = std::mem::replace(&mut self.last_came, came);
        if is_fast(came - before, look.time()) {
            self.joining.want();
        }
        let snapshot = ReceiverSnapshot {
            limited: shared.throttle.waiting.now() > 0,
            processor: look.processor,
            writing: shared.writing.now() + self.jobs.running() as u64,
            disk_works: self.jobs.is_busy(),
            starving: shared.starving.now(),
            receiving: came != before,
        };
        let peers = *shared.peer_activity();
        if let Some(activity) = self.meter.count(&look, snapshot.activity(), peers) {
            self.shared.control_out.beat(&[Message::Heartbeat(activity), Message::Came(came)]);
            debug!(?snapshot, blocks_free = self.shared.pool.available(), "heart-beat");
        }
        came - before
    }

    fn tell_progress(&mut self) {
        let came_bytes = self.shared.came_bytes.load(Relaxed);
        let (totals, walked, active) = {
            let machine = self.shared.machine();
            (machine.totals(), machine.are_totals_final(), active(&machine))
        };
        let waits = self.meter.bottleneck().as_str();
        if let Some(event) = self.teller.tell(totals, walked, came_bytes, active, waits) {
            self.report(event);
        }
    }
}

/// Names of extras that happen to look announced are others in each transfer.
fn names_key(transfer: [u8; 16]) -> [u8; 32] {
    *blake3::hash(&transfer).as_bytes()
}

fn active(machine: &Receiver) -> Vec<ActiveFile> {
    let active = machine.active(ACTIVE_FILES_MAX).into_iter().map(|(id, entry, written)| ActiveFile {
        id: id.0,
        path: entry.path.clone(),
        // For files of unknown size: the bytes so far.
        size: entry.size().max(written),
        sent_bytes: written,
        written_bytes: written,
    });
    active.collect()
}
