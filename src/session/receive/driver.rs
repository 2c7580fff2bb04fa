//! The receiving driver: manifest, parcels, commits and the control stream, around the receiver's machine.

use std::any::Any;
use std::iter;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::event::{ActiveFile, Event, Summary};
use crate::protocol::engine::bottleneck::ReceiverSnapshot;
use crate::protocol::engine::receiver::{Receiver, ReceiverAction};
use crate::protocol::failure::{Failure, Side};
use crate::protocol::final_name::Exists;
use crate::protocol::not_kept::{Aspect, NotKept};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::message::Message;
use crate::session::clock::{Clock, TICK_EVERY};
use crate::session::closing::{CLOSE_DONE, close_with, joined, transport_failure};
use crate::session::context::Context;
use crate::session::joining::Joining;
use crate::session::lanes::{Lane, is_fast};
use crate::session::link::Link;
use crate::session::observe::bottleneck::BottleneckMeter;
use crate::session::observe::gauge::Gauge;
use crate::session::observe::progress::{ACTIVE_FILES_MAX, Teller};
use crate::session::observe::tally::Tally;
use crate::session::outbox::Outbox;
use crate::session::receive::jobs::{DiskJob, DiskJobs};
use crate::session::receive::offer::Offer;
use crate::session::receive::parcel::{ParcelFailure, receive_parcel};
use crate::session::receive::shared::{Receiving, storage_failure};
use crate::session::receive::streams::{read_control, read_manifest};
use crate::storage::Target;
use crate::storage::block::BlockPool;
use crate::transport::{Connection, TransportError};

/// How long removing what is staged may take after a failure.
const CLEAR_UP: Duration = Duration::from_secs(10);

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
    let mut driver = ReceiveDriver::start(link, offer, Arc::clone(&target), target_name, exists, context);
    let result = driver.run().await.map_err(|failure| failure.heard_by(Side::Receiver, false));
    match &result {
        Ok(_) => connection.close(CLOSE_DONE, b""),
        Err(failure) => close_with(&connection, failure),
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

/// What the next stream of a connection came to.
type Accepted<C> = (Lane<C>, Result<(<C as Connection>::Send, <C as Connection>::Recv), TransportError>);

struct ReceiveDriver<C: Connection, T: Target> {
    connection: C,
    joining: Joining<C>,
    lanes: Vec<Lane<C>>,
    accepting: JoinSet<Accepted<C>>,
    shared: Arc<Receiving<T>>,
    context: Context,
    /// Read the control and manifest streams, and write the former.
    streams_at_work: JoinSet<Result<(), Failure>>,
    parcels: JoinSet<Result<(), ParcelFailure>>,
    /// Of the parcel that failed, kept until the connection is closed.
    streams: Option<Box<dyn Any + Send>>,
    jobs: DiskJobs<T>,
    tally: Tally,
    /// What the disk does not keep, when all else has ended.
    not_kept: Vec<NotKept>,
    /// A call to the disk does not return.
    disk_hangs: bool,
    meter: BottleneckMeter,
    /// Bytes that had come by the last tick.
    last_came: u64,
    teller: Teller,
}

impl<C: Connection, T: Target> ReceiveDriver<C, T> {
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
        let shared = Arc::new(Receiving {
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
        let meter = BottleneckMeter::new(Side::Receiver, context.processor_use);
        let mut streams_at_work = JoinSet::new();
        streams_at_work.spawn(writing);
        streams_at_work.spawn(read_control(Arc::clone(&shared), control_in));
        streams_at_work.spawn(read_manifest(Arc::clone(&shared), connection.clone()));
        let mut driver = Self {
            joining,
            lanes: Vec::new(),
            accepting: JoinSet::new(),
            connection: connection.clone(),
            context,
            streams_at_work,
            parcels: JoinSet::new(),
            streams: None,
            jobs: DiskJobs::new(Arc::clone(&shared), exists),
            shared,
            tally: Tally::default(),
            not_kept: Vec::new(),
            disk_hangs: false,
            meter,
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
        let mut tick = interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connection = self.connection.clone();
        let closed = connection.closed();
        tokio::pin!(closed);
        let shared = Arc::clone(&self.shared);
        loop {
            self.act();
            self.jobs.begin();
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
                Some(job) = self.jobs.next() => self.on_job(joined(job)?)?,
                Some(accepted) = self.accepting.join_next() => self.on_accepted(joined(accepted)?)?,
                Some(lane) = self.joining.next() => self.accept_from(Lane::new(lane.0, lane.1)),
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
        if let Some(advice) = self.meter.advice(&self.context.budget) {
            self.report(Event::Advice(advice));
        }
        let elapsed = self.shared.clock.started().elapsed();
        let (synced, not_kept) = (self.is_synced(), std::mem::take(&mut self.not_kept));
        not_kept.iter().for_each(|one| self.report(Event::NotKept(one.clone())));
        self.tally.summary(Side::Receiver, elapsed, self.meter.shares(), synced, not_kept)
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
                Some(ReceiverAction::Settled(settled)) => {
                    if let Some(event) = self.tally.settled(settled) {
                        self.report(event);
                    }
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
            self.shared.machine().finished(self.is_synced(), self.not_kept.clone());
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
        self.shared.writing.now() > 0 || self.jobs.running() > 0
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
            (machine.totals(), machine.is_walked(), active(&machine))
        };
        if let Some(event) = self.teller.tell(totals, walked, came_bytes, active, self.meter.bottleneck()) {
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
