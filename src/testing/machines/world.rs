//! The simulator: both machines, the streams between them, and the disks at either end, in a time of its own.

pub(super) mod ends;
mod held;
mod lost;
pub(super) mod trees;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use self::ends::{Ends, WriteFailure};
use self::trees::Trees;
use super::tree::{self, Content, Random};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::patience::Patience;
use crate::protocol::engine::receiver::{Begin, Receiver, ReceiverAction};
use crate::protocol::engine::sender::{Parcel, Sender, SenderAction};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::Exists;
use crate::protocol::hash::ChunkValue;
use crate::protocol::path::RelPath;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Outcome, Settled};
use crate::protocol::wire::limits::SMALL_FILE_BYTES_MAX;
use crate::protocol::wire::message::Message;

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const PATIENCE: Patience = Patience { timeout: TIMEOUT, disk_timeout: Duration::from_secs(600) };
const TICK: Duration = Duration::from_millis(100);
/// More steps than any of these transfers needs.
const STEPS_MAX: usize = 200_000;

/// What goes on beside the transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) exists: Exists,
    /// Names that something is under before.
    pub(super) existing_percent: u64,
    /// Files whose source fails.
    pub(super) changing_percent: u64,
    /// Chance that somebody takes a free name, each tenth of a second.
    pub(super) intruding_percent: u64,
    /// Chance that an extra connection is lost, each tenth of a second.
    pub(super) losing_percent: u64,
    /// Files of several chunks of which an earlier transfer left some.
    pub(super) held_percent: u64,
    /// The longest that a disk operation takes.
    pub(super) disk_max: Duration,
    /// The longest that a message takes, but for a few.
    pub(super) delay_max: Duration,
}

#[derive(Debug)]
enum WorldEvent {
    Walk,
    Manifest(Message),
    ToReceiver(Message),
    ToSender(Message),
    SourceHashed(EntryId),
    SourceVerified(EntryId),
    Admit(EntryId, Entry),
    TargetHashed(EntryId, Entry),
    /// Under another name if need be.
    Recall(EntryId, Entry),
    Checkpoint(EntryId),
    Checkpointed(EntryId),
    Commit(EntryId, Entry, bool),
    Update(EntryId, Entry),
    FinishDir(EntryId, RelPath, Option<Meta>),
    Finish,
    /// Record `.1` of parcel `.0` begins at the receiver.
    Record(u64, usize),
    /// All that has begun of a parcel is written.
    Flush(u64),
    /// The sender gives up in the middle of a parcel; its reset comes later.
    GiveUp(u64),
    Reset(u64),
    /// The receiver closes a connection that it has heard is lost.
    Leave(u32),
    Answer(u64, Result<(), Reason>),
    Tick,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) id: EntryId,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) content: Content,
    /// Something may have been written there before.
    pub(super) is_again: bool,
}

/// A parcel's stream. Both ends look at it; neither looks at what the other knows.
#[derive(Debug)]
struct Stream {
    lane: u32,
    parcel: Parcel,
    records: Vec<Record>,
    /// Source failures that the sender reports when the parcel ends.
    abandoned: Vec<(EntryId, Failure)>,
    /// At the receiver: begun and not written, begun at all.
    unwritten: Vec<Record>,
    begun: usize,
    /// Which of its claims match.
    matched: u64,
    is_open_at_sender: bool,
    is_open_at_receiver: bool,
}

/// Streams of messages that keep their order, and the queue of directories.
#[derive(Debug, Clone, Copy)]
enum MessageQueue {
    Manifest,
    ToReceiver,
    ToSender,
    Dirs,
}

pub(super) struct World<E = Trees> {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) now: Duration,
    pub(super) ends: E,
    /// How entries ended at either side.
    pub(super) sent: BTreeMap<EntryId, Settled>,
    pub(super) received: BTreeMap<EntryId, Settled>,
    random: Random,
    conditions: Conditions,
    walk: VecDeque<Entry>,
    is_walking: bool,
    entries: Vec<Entry>,
    /// Checkpoints that have begun.
    checkpoints: HashMap<EntryId, Vec<ChunkValue>>,
    queue: BTreeMap<(Duration, u64), WorldEvent>,
    events: u64,
    last_arrival: [Duration; 4],
    streams: BTreeMap<u64, Stream>,
    opened: u64,
    /// Connections: the first, and those beside it that live.
    lanes: [u32; 3],
    streams_max: usize,
    closed: BTreeSet<EntryId>,
    given_up_late: BTreeSet<EntryId>,
    finishes: u32,
    disk_jobs: usize,
    ticks: u64,
}

impl World {
    /// Trees in memory.
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        let mut random = Random(seed);
        let (walk, source) = tree::random_source(&mut random);
        let disk = tree::random_target(&mut random, &source, conditions.existing_percent);
        Self::of(Trees::new(source, disk, conditions), walk, random, conditions)
    }
}

impl<E: Ends> World<E> {
    pub(super) fn of(ends: E, walk: Vec<Entry>, mut random: Random, conditions: Conditions) -> Self {
        let streams_max = 1 + random.index(8);
        let mut world = Self {
            sender: Sender::new(E::CHUNK_LOG2, PATIENCE, Duration::ZERO),
            receiver: Receiver::new(E::CHUNK_LOG2, conditions.exists, "/t".into(), PATIENCE, Duration::ZERO),
            now: Duration::ZERO,
            ends,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            random,
            conditions,
            walk: walk.into(),
            is_walking: false,
            entries: Vec::new(),
            checkpoints: HashMap::new(),
            queue: BTreeMap::new(),
            events: 0,
            last_arrival: [Duration::ZERO; 4],
            streams: BTreeMap::new(),
            opened: 0,
            lanes: [0, 1, 2],
            streams_max,
            closed: BTreeSet::new(),
            given_up_late: BTreeSet::new(),
            finishes: 0,
            disk_jobs: 0,
            ticks: 0,
        };
        world.at(TICK, WorldEvent::Tick);
        world.pump().unwrap();
        world
    }

    /// Runs to the end of both sides.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        for _ in 0..STEPS_MAX {
            if !self.step()? {
                return Ok(());
            }
        }
        panic!("stuck at {:?}: {:#?}\n{:#?}", self.now, self.sender, self.receiver);
    }

    /// One event; false when both sides have ended and nothing is on the way.
    pub(super) fn step(&mut self) -> Result<bool, Failure> {
        if self.sender.finished().is_some() && self.streams.is_empty() {
            return Ok(false);
        }
        let ((now, _), event) = self.queue.pop_first().expect("there is always a tick");
        self.now = now;
        self.on_event(event)?;
        self.pump()?;
        self.check();
        Ok(true)
    }

    fn at(&mut self, delay: Duration, event: WorldEvent) {
        self.events += 1;
        self.queue.insert((self.now + delay, self.events), event);
    }

    /// Sometimes a second.
    fn delay(&mut self) -> Duration {
        let max = if self.random.percent(4) { Duration::from_secs(1) } else { self.conditions.delay_max };
        self.random.micros(u64::try_from(max.as_micros()).unwrap())
    }

    fn in_order(&mut self, channel: MessageQueue, delay: Duration, event: WorldEvent) {
        let last = self.last_arrival[channel as usize];
        let arrival = last.max(self.now + delay);
        self.last_arrival[channel as usize] = arrival;
        self.at(arrival - self.now, event);
    }

    fn disk_latency(&mut self) -> Duration {
        self.disk_jobs += 1;
        let max = if self.random.percent(10) { self.conditions.disk_max } else { Duration::from_millis(5) };
        self.random.micros(u64::try_from(max.as_micros()).unwrap())
    }

    fn on_event(&mut self, event: WorldEvent) -> Result<(), Failure> {
        match event {
            WorldEvent::Walk => self.on_walk(),
            WorldEvent::Manifest(message) => {
                self.receiver.heard(self.now);
                self.receiver.on_manifest(message)?;
            }
            WorldEvent::ToReceiver(message) => {
                self.receiver.heard(self.now);
                self.receiver.on_control(message)?;
            }
            WorldEvent::ToSender(message) => self.sender.on_control(message, self.now)?,
            WorldEvent::SourceHashed(id) => self.on_source_hashed(id),
            WorldEvent::SourceVerified(id) if self.random.percent(self.conditions.changing_percent) => {
                self.sender.abandon(id, changed());
            }
            WorldEvent::SourceVerified(id) => match self.ends.verify(id, &self.entries[index(id)]) {
                Ok(()) => self.sender.verified(id, false),
                Err(failure) => self.sender.abandon(id, failure),
            },
            WorldEvent::Record(number, at) => self.on_record(number, at)?,
            WorldEvent::Flush(number) => self.on_flush(number)?,
            WorldEvent::GiveUp(number) => self.on_give_up(number)?,
            WorldEvent::Reset(number) => self.on_reset(number),
            WorldEvent::Leave(lane) => self.on_leave(lane),
            WorldEvent::Answer(number, answer) => self.on_answer(number, answer)?,
            WorldEvent::Tick => self.on_tick()?,
            WorldEvent::Admit(..)
            | WorldEvent::TargetHashed(..)
            | WorldEvent::Recall(..)
            | WorldEvent::Checkpoint(_)
            | WorldEvent::Checkpointed(_)
            | WorldEvent::Commit(..)
            | WorldEvent::Update(..)
            | WorldEvent::FinishDir(..)
            | WorldEvent::Finish => self.on_disk(event)?,
        }
        Ok(())
    }

    fn on_disk(&mut self, event: WorldEvent) -> Result<(), Failure> {
        self.disk_jobs -= 1;
        match event {
            WorldEvent::Admit(id, entry) => {
                let found = self.ends.admit(id, &entry)?;
                self.receiver.admitted(id, found);
            }
            WorldEvent::TargetHashed(id, entry) => {
                let found = self.ends.target_root(&entry.path)?;
                self.receiver.hashed(id, found);
            }
            WorldEvent::Recall(id, entry) => {
                let held = self.ends.recall(id, &entry, &mut self.random);
                self.receiver.held(id, held);
            }
            WorldEvent::Checkpoint(id) => {
                if let Some(values) = self.receiver.begin_checkpoint(id) {
                    self.checkpoints.insert(id, values);
                    let delay = self.disk_latency();
                    self.at(delay, WorldEvent::Checkpointed(id));
                }
            }
            WorldEvent::Checkpointed(id) => {
                let values = self.checkpoints.remove(&id).unwrap();
                let is_durable = self.ends.checkpoint(id, &self.entries[index(id)], values);
                // What was given up meanwhile may have been removed under it.
                if self.receiver.entry(id).is_some() {
                    match is_durable {
                        Ok(is_durable) => self.receiver.checkpointed(id, is_durable),
                        Err(WriteFailure::Entry(failure)) => self.receiver.write_failed(id, failure),
                        Err(WriteFailure::Transfer(failure)) => return Err(failure),
                    }
                }
            }
            WorldEvent::Commit(id, entry, is_beside) => {
                let is_closed = entry.size() <= SMALL_FILE_BYTES_MAX || self.closed.contains(&id);
                assert!(is_closed, "{}", entry.path);
                let committed = self.ends.commit(id, &entry, is_beside)?;
                self.receiver.committed(id, committed);
            }
            WorldEvent::Update(id, entry) => {
                let updated = self.ends.update(id, &entry);
                self.receiver.updated(id, updated);
            }
            WorldEvent::FinishDir(id, path, meta) => {
                let finished = self.ends.finish_dir(&path, meta);
                self.receiver.dir_finished(id, finished);
            }
            WorldEvent::Finish => {
                self.ends.finish()?;
                self.receiver.finished(true, vec![]);
            }
            other => panic!("{other:?} does not concern the disk"),
        }
        Ok(())
    }

    fn on_walk(&mut self) {
        self.is_walking = false;
        for _ in 0..=self.random.below(6) {
            let message = match self.walk.pop_front() {
                Some(entry) => {
                    self.entries.push(entry.clone());
                    self.sender.announce(entry, self.now)
                }
                None => self.sender.walk_ended(self.now),
            };
            let delay = self.delay();
            self.in_order(MessageQueue::Manifest, delay, WorldEvent::Manifest(message));
            if self.sender.is_walked() {
                break;
            }
        }
    }

    fn on_source_hashed(&mut self, id: EntryId) {
        let root = match self.random.percent(self.conditions.changing_percent) {
            true => Err(changed()),
            false => self.ends.source_root(id, &self.entries[index(id)]),
        };
        match root {
            Ok(root) => self.sender.hashed(id, root, self.now),
            Err(failure) => self.sender.abandon(id, failure),
        }
    }

    fn on_record(&mut self, number: u64, at: usize) -> Result<(), Failure> {
        self.receiver.heard(self.now);
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.is_open_at_receiver) else {
            return Ok(());
        };
        if matches!(stream.parcel, Parcel::Claims { .. }) {
            return self.on_claim(number, at);
        }
        let Some(mut record) = stream.records.get(at).cloned() else {
            self.at(Duration::ZERO, WorldEvent::Flush(number));
            return Ok(());
        };
        let begin = self.receiver.begin_record(record.id, record.offset, record.len);
        match begin {
            Ok(Begin::Take(size) | Begin::TakeAgain(size)) => {
                assert_eq!(size, record.content.size);
                record.is_again = begin == Ok(Begin::TakeAgain(size));
            }
            Ok(Begin::TakeOpen(_)) => unreachable!("no file of unknown size is announced here"),
            Ok(Begin::Pass) => {}
            Ok(Begin::Wait) => {
                let delay = self.delay();
                self.at(delay, WorldEvent::Record(number, at));
                return Ok(());
            }
            Err(failure) if matches!(failure.reason, Reason::TransferEnded | Reason::TransferFailed) => {
                self.drop_unwritten(number);
                let delay = self.delay();
                self.at(delay, WorldEvent::Answer(number, Err(failure.reason)));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
        let stream = self.streams.get_mut(&number).unwrap();
        if begin != Ok(Begin::Pass) {
            stream.unwritten.push(record);
        }
        stream.begun += 1;
        let event = if self.random.percent(50) {
            WorldEvent::Flush(number)
        } else {
            WorldEvent::Record(number, at + 1)
        };
        let delay = self.delay();
        self.at(delay, event);
        Ok(())
    }

    fn on_flush(&mut self, number: u64) -> Result<(), Failure> {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.is_open_at_receiver) else {
            return Ok(());
        };
        for record in std::mem::take(&mut stream.unwritten) {
            let value = record.content.value(record.offset, record.len);
            match self.ends.write(&self.entries[index(record.id)], &record) {
                Ok(()) => self.receiver.record_written(record.id, record.offset, record.len, value)?,
                Err(WriteFailure::Transfer(failure)) => return Err(failure),
                Err(WriteFailure::Entry(failure)) => {
                    self.receiver.write_failed(record.id, failure);
                    self.drop_unwritten(number);
                    let delay = self.delay();
                    self.at(delay, WorldEvent::Answer(number, Err(Reason::TransferFailed)));
                    return Ok(());
                }
            }
        }
        let stream = &self.streams[&number];
        let event = if stream.begun == stream.records.len() {
            WorldEvent::Answer(number, Ok(()))
        } else {
            WorldEvent::Record(number, stream.begun)
        };
        let delay = self.delay();
        self.at(delay, event);
        Ok(())
    }

    fn on_answer(&mut self, number: u64, answer: Result<(), Reason>) -> Result<(), Failure> {
        let Some(stream) = self.streams.get_mut(&number) else { return Ok(()) };
        stream.is_open_at_receiver = false;
        if !stream.is_open_at_sender {
            // The reset is on its way.
            return Ok(());
        }
        let Stream { parcel, records, abandoned, matched, .. } = self.streams.remove(&number).unwrap();
        for (id, failure) in abandoned {
            self.sender.abandon(id, failure);
        }
        match answer {
            Ok(()) => {
                let values: Vec<_> =
                    records.iter().map(|r| (r.id, r.content.value(r.offset, r.len))).collect();
                match parcel {
                    Parcel::Claims { .. } => self.on_matched(&parcel, &values, matched),
                    _ => self.sender.parcel_acked(&parcel, &values, self.now),
                }
            }
            Err(reason) => self.sender.parcel_failed(&parcel, Failure::new(reason, "not taken")),
        }
    }

    fn on_tick(&mut self) -> Result<(), Failure> {
        self.at(TICK, WorldEvent::Tick);
        self.ticks += 1;
        if self.disk_jobs > 0 {
            self.receiver.note_progress(self.now);
        }
        self.receiver.checkpoint_due(self.now);
        self.check_stall()?;
        self.ends.tick(&mut self.random);
        if self.ticks.is_multiple_of(10) {
            let activity = if self.disk_jobs > 0 { Activity::Disk } else { Activity::Waiting };
            if !self.receiver.is_done() {
                self.control(MessageQueue::ToSender, Message::Heartbeat(activity));
            }
            self.control(MessageQueue::ToReceiver, Message::Heartbeat(Activity::Waiting));
        }
        if self.random.percent(self.conditions.intruding_percent) {
            self.intrude();
        }
        if self.random.percent(self.conditions.changing_percent) {
            self.give_up_any();
        }
        if self.random.percent(self.conditions.losing_percent) {
            self.lose_a_lane()?;
        }
        if self.random.percent(self.conditions.losing_percent) {
            self.reset_a_parcel()?;
        }
        Ok(())
    }

    fn check_stall(&self) -> Result<(), Failure> {
        self.sender
            .check_stall(Bottleneck::Network, self.now)
            .and_then(|()| self.receiver.check_stall(self.now))
    }

    /// Somebody else takes a name that is free and will be wanted.
    fn intrude(&mut self) {
        let names: Vec<_> = self.entries.iter().chain(&self.walk).map(|entry| &entry.path).collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.random.index(names.len())].clone();
        self.ends.intrude(name);
    }

    /// The sender gives up a large file between two parcels: before it is closed, or much too late.
    fn give_up_any(&mut self) {
        let large = self.entries.iter().zip(0..).map(|(entry, id)| (EntryId(id), entry));
        let open: Vec<_> = large
            .filter(|(id, entry)| entry.size() > SMALL_FILE_BYTES_MAX && self.ends.is_staged(*id))
            .filter(|(id, _)| self.sender.entry(*id).is_some())
            .map(|(id, _)| id)
            .collect();
        if open.is_empty() {
            return;
        }
        let id = open[self.random.index(open.len())];
        self.given_up_late.insert(id);
        self.sender.abandon(id, changed());
    }

    fn control(&mut self, channel: MessageQueue, message: Message) {
        let delay = self.delay();
        let event = match channel {
            MessageQueue::ToSender => WorldEvent::ToSender(message),
            _ => WorldEvent::ToReceiver(message),
        };
        self.in_order(channel, delay, event);
    }

    /// Does what the machines ask for.
    fn pump(&mut self) -> Result<(), Failure> {
        while let Some(action) = self.sender.poll() {
            match action {
                SenderAction::Control(message) => {
                    if let Message::Close(id, ..) = message {
                        self.closed.insert(id);
                    }
                    self.control(MessageQueue::ToReceiver, message);
                }
                SenderAction::Root(id) => {
                    let delay = self.delay();
                    self.at(delay, WorldEvent::SourceHashed(id));
                }
                SenderAction::Verify(id, _) => {
                    let delay = self.delay();
                    self.at(delay, WorldEvent::SourceVerified(id));
                }
                SenderAction::Settled(settled) => self.on_sent(settled),
                SenderAction::Grew(_) => panic!("nothing grows"),
                SenderAction::Judge(names) => panic!("nobody asks about {names:?}"),
                SenderAction::Resumed(entry, bytes) => assert!((1..=entry.size()).contains(&bytes)),
            }
        }
        while let Some(action) = self.receiver.poll() {
            self.on_receiver_action(action);
        }
        if self.sender.can_announce() && !self.is_walking {
            self.is_walking = true;
            let delay = self.delay();
            self.at(delay, WorldEvent::Walk);
        }
        while self.streams.len() < self.streams_max
            && let Some(parcel) = self.sender.next_parcel()
        {
            self.send(parcel);
        }
        Ok(())
    }

    fn on_receiver_action(&mut self, action: ReceiverAction) {
        match action {
            ReceiverAction::Control(message) => self.control(MessageQueue::ToSender, message),
            ReceiverAction::Settled(settled) => self.on_received(settled),
            ReceiverAction::Unchanged(settled) => {
                let message = Message::Unchanged(settled[0].id, settled.len() as u64);
                self.control(MessageQueue::ToSender, message);
                settled.into_iter().for_each(|one| self.on_received(one));
            }
            ReceiverAction::Top(_) => panic!("this walk is not of contents"),
            ReceiverAction::Omitted(..) => panic!("this walk omits nothing"),
            ReceiverAction::Grew(_) => panic!("nothing grows"),
            ReceiverAction::Resumed(entry, bytes) => assert!((1..=entry.size()).contains(&bytes)),
            ReceiverAction::Recall(id, entry) => {
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Recall(id, entry));
            }
            ReceiverAction::Discard(id) => self.ends.discard(id),
            ReceiverAction::GiveUp(id) => self.ends.give_up(id),
            ReceiverAction::Leave(lane) => {
                let delay = self.delay();
                self.at(delay, WorldEvent::Leave(lane));
            }
            ReceiverAction::Admit(id, entry) => {
                let delay = self.disk_latency();
                self.in_order(MessageQueue::Dirs, delay, WorldEvent::Admit(id, entry));
            }
            ReceiverAction::Root(id, path, _) => {
                let delay = self.disk_latency();
                let entry = tree::entry(&path, Kind::Dir);
                self.at(delay, WorldEvent::TargetHashed(id, entry));
            }
            ReceiverAction::Checkpoint(id) => {
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Checkpoint(id));
            }
            ReceiverAction::Commit(id, entry) => {
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Commit(id, entry, false));
            }
            ReceiverAction::CommitBeside(id, entry) => {
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Commit(id, entry, true));
            }
            ReceiverAction::Update(id, entry) => {
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Update(id, entry));
            }
            ReceiverAction::FinishDir(id, path, meta) => {
                let inside = |other: &Entry| other.path.as_bytes().starts_with(path.as_bytes());
                for (other, number) in self.entries.iter().zip(0..id.0) {
                    let is_done = self.received.contains_key(&EntryId(number)) || other.kind == Kind::DirEnd;
                    assert!(is_done || !inside(other), "{path} ends before {}", other.path);
                }
                let delay = self.disk_latency();
                self.in_order(MessageQueue::Dirs, delay, WorldEvent::FinishDir(id, path, meta));
            }
            ReceiverAction::Finish => {
                self.finishes += 1;
                assert_eq!(self.finishes, 1);
                let delay = self.disk_latency();
                self.at(delay, WorldEvent::Finish);
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn send(&mut self, parcel: Parcel) {
        let (mut records, mut abandoned) = (Vec::new(), Vec::new());
        let mut gives_up = false;
        match &parcel {
            Parcel::Chunk { id, offset, len } => match self.ends.read(*id, &self.entries[index(*id)]) {
                Ok(content) => {
                    records.push(Record { id: *id, offset: *offset, len: *len, content, is_again: false });
                    gives_up = self.random.percent(self.conditions.changing_percent);
                }
                Err(failure) => return self.cannot_read(*id, &parcel, failure),
            },
            Parcel::OpenChunk { .. } => unreachable!("no file of unknown size is announced here"),
            Parcel::Signature { .. } => unreachable!("no old file is used here"),
            Parcel::Claims { id, chunks } => match self.ends.read(*id, &self.entries[index(*id)]) {
                Ok(content) => {
                    records = claims::<E>(*id, chunks, content);
                    gives_up = self.random.percent(self.conditions.changing_percent);
                }
                Err(failure) => return self.cannot_read(*id, &parcel, failure),
            },
            Parcel::Files(ids) => {
                for id in ids {
                    let read = self.ends.read(*id, &self.entries[index(*id)]);
                    if self.random.percent(self.conditions.changing_percent) {
                        abandoned.push((*id, changed()));
                        if self.conditions.losing_percent > 0 {
                            // It may have travelled before, on a connection that was lost.
                            self.given_up_late.insert(*id);
                        }
                        continue;
                    }
                    match read {
                        Ok(content) => {
                            assert!(content.size <= SMALL_FILE_BYTES_MAX);
                            records.push(Record {
                                id: *id,
                                offset: 0,
                                len: content.size,
                                content,
                                is_again: false,
                            });
                        }
                        Err(failure) => {
                            abandoned.push((*id, failure));
                            self.given_up_late.insert(*id);
                        }
                    }
                }
            }
        }
        let number = self.opened;
        self.opened += 1;
        let lanes = if self.conditions.losing_percent > 0 { self.lanes.len() } else { 1 };
        let stream = Stream {
            lane: self.lanes[self.random.index(lanes)],
            parcel,
            records,
            abandoned,
            unwritten: Vec::new(),
            begun: 0,
            matched: 0,
            is_open_at_sender: true,
            is_open_at_receiver: true,
        };
        self.streams.insert(number, stream);
        let delay = self.delay();
        self.at(delay, WorldEvent::Record(number, 0));
        if gives_up {
            let delay = self.delay();
            self.at(delay, WorldEvent::GiveUp(number));
        }
    }

    /// The source cannot be read as it was announced.
    fn cannot_read(&mut self, id: EntryId, parcel: &Parcel, failure: Failure) {
        self.given_up_late.insert(id);
        self.sender.abandon(id, failure.clone());
        self.sender.parcel_failed(parcel, failure).unwrap();
    }

    fn on_sent(&mut self, settled: Settled) {
        let received = self.received.get(&settled.id);
        let received = received.unwrap_or_else(|| panic!("the receiver knows nothing of {settled:?}"));
        if !self.given_up_late.contains(&settled.id) {
            assert_eq!(settled.outcome, received.outcome, "{settled:?}");
            assert_eq!(settled.renamed, received.renamed);
        }
        if let (Outcome::Written, Kind::File { .. }) = (settled.outcome, &settled.entry.kind) {
            self.ends.check_root(&settled);
        }
        self.ends.sent(&settled);
        let before = self.sent.insert(settled.id, settled);
        assert_eq!(before, None, "settled twice at the sender");
    }

    fn on_received(&mut self, settled: Settled) {
        if let (Outcome::Written, Kind::File { .. }) = (settled.outcome, &settled.entry.kind) {
            self.ends.check_root(&settled);
        }
        let before = self.received.insert(settled.id, settled);
        assert_eq!(before, None, "settled twice at the receiver");
    }

    /// Something has been announced that the receiver has not answered for.
    pub(super) fn is_sender_waiting(&self) -> bool {
        self.sender.is_walked() || self.sent.len() < self.entries.len()
    }

    /// The receiver has all it needs, and only syncs.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishes > 0
    }

    /// Entries that the walk has found, and those that it has still to find.
    pub(super) fn entries_in_all(&self) -> usize {
        self.entries.len() + self.walk.len()
    }

    /// What holds at every moment.
    fn check(&self) {
        let on_the_way = self.streams.values().filter(|stream| stream.is_open_at_sender).count();
        assert_eq!(self.sender.parcels_on_the_way(), on_the_way as u64);
        let (here, there) = (self.sender.totals(), self.receiver.totals());
        for totals in [here, there] {
            assert!(totals.settled_bytes + totals.held_bytes <= totals.bytes, "{totals:?}");
        }
        assert!(here.settled_files <= here.files && there.settled_files <= there.files);
        if self.sender.finished().is_some() {
            assert!(self.receiver.is_done());
            self.check_end();
        }
    }

    /// What holds when the sender has been told that everything is safe.
    pub(super) fn check_end(&self) {
        assert_eq!(self.finishes, 1);
        assert_eq!((self.sent.len(), self.received.len()), (self.entries.len(), self.entries.len()));
        self.ends.check_end(&self.received);
        let is_well = |settled: &Settled| !matches!(settled.outcome, Outcome::Failed(_));
        for (settled, totals) in [
            (&self.sent, (self.sender.totals().settled_bytes, self.sender.totals().bytes)),
            (&self.received, (self.receiver.totals().settled_bytes, self.receiver.totals().bytes)),
        ] {
            if settled.values().all(is_well) {
                assert_eq!(totals.0, totals.1, "bytes settled and announced");
            }
        }
        let (here, there) = (self.sender.totals(), self.receiver.totals());
        assert_eq!((here.held_bytes, there.held_bytes), (0, 0));
        if self.sent.values().all(is_well) {
            assert_eq!(here.resumed_bytes, there.resumed_bytes);
        }
        assert_eq!(self.sender.totals().settled_files, self.sender.totals().files);
        assert_eq!(self.receiver.totals().settled_files, self.receiver.totals().files);
    }
}

fn index(id: EntryId) -> usize {
    usize::try_from(id.0).unwrap()
}

fn claims<E: Ends>(id: EntryId, chunks: &[u64], content: Content) -> Vec<Record> {
    let record = |index: &u64| {
        let offset = index << E::CHUNK_LOG2;
        let len = (content.size - offset).min(1 << E::CHUNK_LOG2);
        Record { id, offset, len, content, is_again: false }
    };
    chunks.iter().map(record).collect()
}

fn changed() -> Failure {
    Failure::on(Side::Sender, Reason::SourceChanged, "it has changed")
}
