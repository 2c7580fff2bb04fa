//! The sender as a state machine: what has been announced, what is wanted, what is on the way, what is acked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::patience::{Patience, Progress};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::RootBuilder;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::printable;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Outcome, Settled, Totals};
use crate::protocol::wire::limits::{
    OPEN_ENTRIES_MAX, OPEN_PATH_BYTES_MAX, PARCEL_FILES_MAX, SMALL_FILE_BYTES_MAX,
};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

/// What one stream is to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// One chunk of a large file.
    Chunk {
        /// The file.
        id: EntryId,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Whole small files.
    Files(Vec<EntryId>),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send on the control stream.
    Control(Message),
    /// Compute the root of the source for a comparison, then call [`Sender::hashed`].
    Root(EntryId),
    /// See whether the source is still what was announced, or has only grown: the root is that of what was sent. Then
    /// call [`Sender::verified`].
    Verify(EntryId, blake3::Hash),
    /// The source of an entry that is delivered has grown since it was announced.
    Grew(Entry),
    /// An entry has ended; whatever is kept open for it can go.
    Settled(Settled),
}

#[derive(Debug)]
enum State {
    /// No answer yet.
    Announced,
    /// The receiver has a file of this size; the root was asked for.
    Checking { root: Option<blake3::Hash> },
    /// The receiver wants it.
    Wanted(Transfer),
    /// Given up here; the receiver has not confirmed.
    Abandoned(Failure),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Checking { .. } => "compared",
            Self::Wanted(_) => "wanted",
            Self::Abandoned(_) => "abandoned",
        }
    }
}

#[derive(Debug)]
struct Transfer {
    root: RootBuilder,
    acked_bytes: u64,
    /// [`Message::Close`] was sent.
    closed: bool,
    /// The final word came before the last ack was seen: how it ended, and under which other name.
    done: Option<(Outcome, Option<crate::protocol::path::RelPath>)>,
    /// Chaining value of a small file whose ack was lost with a connection; the final word stands for it.
    unacked: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Open {
    entry: Entry,
    state: State,
    is_grown: bool,
}

/// The machine. Time is a duration since any fixed moment.
#[derive(Debug)]
pub struct Sender {
    chunk_log2: u8,
    patience: Patience,
    progress: Progress,
    open: BTreeMap<EntryId, Open>,
    open_entries_max: usize,
    open_path_bytes: usize,
    next_id: u64,
    walked: bool,
    small: VecDeque<EntryId>,
    large: VecDeque<(EntryId, u64)>,
    /// Chunks that were lost with a connection.
    lost: VecDeque<Parcel>,
    parcels: u64,
    totals: Totals,
    actions: VecDeque<Action>,
    finished: Option<ReceiverEnd>,
    /// Bytes that the receiver says have come, and those that were sent as well.
    said_came: u64,
    came: u64,
}

/// The receiver's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverEnd {
    /// What it has is durable.
    pub synced: bool,
    /// What its file system does not keep; the texts are safe to print.
    pub not_kept: Vec<NotKept>,
}

impl Sender {
    /// A sender that cuts files into chunks of 2^`chunk_log2` bytes and has so much `patience` with its receiver.
    pub fn new(chunk_log2: u8, patience: Patience, now: Duration) -> Self {
        Self {
            chunk_log2,
            patience,
            progress: Progress::new(patience, now),
            open: BTreeMap::new(),
            open_entries_max: OPEN_ENTRIES_MAX,
            open_path_bytes: 0,
            next_id: 0,
            walked: false,
            small: VecDeque::new(),
            large: VecDeque::new(),
            lost: VecDeque::new(),
            parcels: 0,
            totals: Totals::default(),
            actions: VecDeque::new(),
            finished: None,
            said_came: 0,
            came: 0,
        }
    }

    /// Keeps at most `max` entries open, and never more than [`OPEN_ENTRIES_MAX`].
    pub fn with_open_entries(mut self, max: usize) -> Self {
        self.open_entries_max = max.min(OPEN_ENTRIES_MAX);
        self
    }

    /// Whether another entry may be announced: what is open is bounded.
    pub fn can_announce(&self) -> bool {
        !self.walked && self.open.len() < self.open_entries_max && self.open_path_bytes < OPEN_PATH_BYTES_MAX
    }

    /// The walk came upon `entry`; the message goes to the manifest stream.
    pub fn announce(&mut self, entry: Entry, now: Duration) -> Message {
        let id = EntryId(self.next_id);
        self.next_id += 1;
        if self.open.is_empty() {
            self.progress.step(now);
        }
        if let Kind::File { size } = entry.kind {
            self.totals.files += 1;
            self.totals.bytes += size;
        }
        self.open_path_bytes += entry.path_bytes();
        let message = Message::Entry(entry.clone());
        self.open.insert(id, Open { entry, state: State::Announced, is_grown: false });
        message
    }

    /// The walk has ended; the message goes to the manifest stream.
    pub fn walk_ended(&mut self, now: Duration) -> Message {
        self.walked = true;
        if self.open.is_empty() {
            self.progress.step(now);
        }
        Message::End(self.next_id)
    }

    /// Bytes of a parcel, at most.
    pub fn chunk_bytes(&self) -> u64 {
        1 << self.chunk_log2
    }

    /// An entry that has not been settled.
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.open.get(&id).map(|open| &open.entry)
    }

    /// Numbers so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The manifest is complete.
    pub fn is_walked(&self) -> bool {
        self.walked
    }

    /// Parcels cut and neither acked nor failed.
    pub fn parcels_on_the_way(&self) -> u64 {
        self.parcels
    }

    /// The receiver has everything safe and every ack has come.
    pub fn finished(&self) -> Option<&ReceiverEnd> {
        self.finished.as_ref().filter(|_| self.open.is_empty())
    }

    /// The receiver has said its last word on the control stream; acks may still be on their way.
    pub fn has_heard_the_end(&self) -> bool {
        self.finished.is_some()
    }

    /// What to do next, if anything.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Cuts the next parcel. Small files go first: a large one fills whatever they leave.
    pub fn next_parcel(&mut self) -> Option<Parcel> {
        let parcel = self.next_lost().or_else(|| self.next_files()).or_else(|| self.next_chunk())?;
        self.parcels += 1;
        Some(parcel)
    }

    fn next_lost(&mut self) -> Option<Parcel> {
        while let Some(parcel) = self.lost.pop_front() {
            if matches!(parcel, Parcel::Chunk { id, .. } if matches!(self.state(id), Some(State::Wanted(_))))
            {
                return Some(parcel);
            }
        }
        None
    }

    fn next_files(&mut self) -> Option<Parcel> {
        let mut ids = Vec::new();
        let mut bytes = 0;
        while let Some(&id) = self.small.front() {
            let Some(open) = self.open.get(&id).filter(|open| matches!(open.state, State::Wanted(_))) else {
                self.small.pop_front();
                continue;
            };
            bytes += open.entry.size();
            if ids.len() == PARCEL_FILES_MAX || (!ids.is_empty() && bytes > 1 << self.chunk_log2) {
                break;
            }
            ids.push(id);
            self.small.pop_front();
        }
        (!ids.is_empty()).then_some(Parcel::Files(ids))
    }

    fn next_chunk(&mut self) -> Option<Parcel> {
        let mut at = 0;
        while let Some(&(id, offset)) = self.large.get(at) {
            let Some(Open { entry, state: State::Wanted(transfer), .. }) = self.open.get(&id) else {
                self.large.remove(at);
                continue;
            };
            // The receiver takes chunks only so far ahead of the first that is missing.
            if transfer.root.admits(offset >> self.chunk_log2).is_err() {
                at += 1;
                continue;
            }
            let len = (entry.size() - offset).min(1 << self.chunk_log2);
            if offset + len == entry.size() {
                self.large.remove(at);
            } else {
                self.large[at].1 = offset + len;
            }
            return Some(Parcel::Chunk { id, offset, len });
        }
        None
    }

    /// A parcel was acked; `values` are the chaining values of its records, in order.
    pub fn parcel_acked(
        &mut self,
        parcel: &Parcel,
        values: &[(EntryId, [u8; 32])],
        now: Duration,
    ) -> Result<(), Failure> {
        self.parcels -= 1;
        self.progress.step(now);
        for (id, value) in values {
            let (index, len) = match parcel {
                Parcel::Chunk { offset, len, .. } => (offset >> self.chunk_log2, *len),
                Parcel::Files(_) => (0, self.entry(*id).map_or(0, Entry::size)),
            };
            self.record_acked(*id, index, len, *value)?;
        }
        Ok(())
    }

    fn record_acked(&mut self, id: EntryId, index: u64, len: u64, value: [u8; 32]) -> Result<(), Failure> {
        let Some(Open { state: State::Wanted(transfer), entry, .. }) = self.open.get_mut(&id) else {
            return Ok(());
        };
        transfer
            .root
            .insert(index, value)
            .map_err(|e| Failure::new(Reason::Internal, format!("{}: {e}", entry.path)))?;
        self.totals.settled_bytes += len;
        transfer.acked_bytes += len;
        if !transfer.root.is_complete() {
            return Ok(());
        }
        if let Some((outcome, renamed)) = transfer.done.take() {
            let root = transfer.root.root();
            self.settle(id, renamed, root, outcome, None);
        } else if entry.size() > SMALL_FILE_BYTES_MAX {
            let root = transfer.root.root();
            self.actions.extend(root.map(|root| Action::Verify(id, root)));
        }
        Ok(())
    }

    /// A parcel did not arrive whole. That is no harm when its entry has been given up, by either side.
    pub fn parcel_failed(&mut self, parcel: &Parcel, failure: Failure) -> Result<(), Failure> {
        self.parcels -= 1;
        match (parcel, failure.reason) {
            (Parcel::Chunk { .. }, Reason::TransferFailed | Reason::TransferEnded) => Ok(()),
            (Parcel::Chunk { id, .. }, _) if !matches!(self.state(*id), Some(State::Wanted(_))) => Ok(()),
            _ => Err(failure),
        }
    }

    /// The connection of a parcel is gone, and others are left: what is still wanted of it is sent again. `values`
    /// are those of the records that travelled, in order.
    ///
    /// # Errors
    ///
    /// As [`Sender::parcel_acked`].
    pub fn parcel_lost(&mut self, parcel: Parcel, values: &[(EntryId, [u8; 32])]) -> Result<(), Failure> {
        self.parcels -= 1;
        for (id, value) in values {
            if let Some(Open { state: State::Wanted(transfer), entry, .. }) = self.open.get_mut(id)
                && entry.size() <= SMALL_FILE_BYTES_MAX
            {
                transfer.unacked = Some(*value);
                self.take_final_word(*id)?;
            }
        }
        match parcel {
            Parcel::Chunk { .. } => self.lost.push_back(parcel),
            Parcel::Files(ids) => ids.into_iter().rev().for_each(|id| self.small.push_front(id)),
        }
        Ok(())
    }

    /// A small file that is under its final name needs no ack.
    fn take_final_word(&mut self, id: EntryId) -> Result<(), Failure> {
        let Some(Open { state: State::Wanted(transfer), entry, .. }) = self.open.get_mut(&id) else {
            return Ok(());
        };
        let (Some(value), Some(_)) = (transfer.unacked, &transfer.done) else { return Ok(()) };
        let len = entry.size();
        self.record_acked(id, 0, len, value)
    }

    fn state(&self, id: EntryId) -> Option<&State> {
        self.open.get(&id).map(|open| &open.state)
    }

    /// The source of `id` has grown since it was announced; what is sent is what was there then.
    pub fn grew(&mut self, id: EntryId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_grown = true;
        }
    }

    /// The source of `id` is still what was announced, or has only grown.
    pub fn verified(&mut self, id: EntryId, is_grown: bool) {
        if is_grown {
            self.grew(id);
        }
        if let Some(Open { state: State::Wanted(transfer), .. }) = self.open.get_mut(&id)
            && let Some(root) = transfer.root.root()
        {
            transfer.closed = true;
            self.actions.push_back(Action::Control(Message::Close(id, *root.as_bytes(), is_grown)));
        }
    }

    /// The root of the source that [`Action::Root`] asked for.
    pub fn hashed(&mut self, id: EntryId, hash: blake3::Hash, now: Duration) {
        self.progress.step(now);
        if let Some(Open { state: State::Checking { root }, .. }) = self.open.get_mut(&id) {
            *root = Some(hash);
            self.actions.push_back(Action::Control(Message::Digest(id, *hash.as_bytes())));
        }
    }

    /// The source of `id` failed. The transfer goes on without it.
    pub fn abandon(&mut self, id: EntryId, failure: Failure) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if matches!(open.state, State::Abandoned(_)) {
            return;
        }
        let message = Message::Abandon(id, failure.reason, failure.for_peer().to_owned());
        open.state = State::Abandoned(failure);
        self.actions.push_back(Action::Control(message));
    }

    /// A message of the control stream.
    pub fn on_control(&mut self, message: Message, now: Duration) -> Result<(), Failure> {
        match message {
            _ if self.finished.is_some() => {
                Err(Failure::protocol("the receiver goes on behind its last word"))
            }
            Message::Status(id, status) => {
                self.progress.step(now);
                self.on_status(id, status)
            }
            Message::Heartbeat(activity) => {
                self.progress.idle_message(now)?;
                if activity != Activity::Waiting {
                    self.progress.alive(now);
                }
                Ok(())
            }
            Message::Came(bytes) => {
                self.progress.idle_message(now)?;
                self.said_came = bytes;
                Ok(())
            }
            Message::Finished { synced, not_kept } => {
                // Acks travel on streams of their own, so that this may overtake the last of them.
                let is_done = |open: &Open| matches!(&open.state, State::Wanted(t) if t.done.is_some());
                if !self.walked || !self.open.values().all(is_done) {
                    return Err(Failure::protocol("the receiver says that it has finished before it has"));
                }
                self.progress.step(now);
                let not_kept = not_kept.into_iter().map(|one| NotKept {
                    path: printable(one.path.as_bytes()),
                    cause: printable(one.cause.as_bytes()),
                    ..one
                });
                self.finished = Some(ReceiverEnd { synced, not_kept: not_kept.collect() });
                Ok(())
            }
            other => Err(Failure::protocol(format!(
                "the receiver sent {}, which only a sender sends",
                other.name()
            ))),
        }
    }

    fn on_status(&mut self, id: EntryId, status: Status) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        let Some(open) = self.open.get_mut(&id) else {
            return Err(Failure::new(Reason::TransferEnded, format!("entry {} has ended already", id.0)));
        };
        let is_file = matches!(open.entry.kind, Kind::File { .. });
        let size = open.entry.size();
        match (&mut open.state, status) {
            // It may have been done before the receiver knew; that the source changed is still to be told.
            (
                State::Abandoned(failure),
                Status::Failed(..)
                | Status::Done(_)
                | Status::Identical(_)
                | Status::Updated
                | Status::Skipped
                | Status::NotKept,
            ) => {
                let failure = failure.clone();
                self.settle(id, None, None, Outcome::Failed(failure.reason), Some(failure.message));
            }
            // It was said before the receiver knew.
            (State::Abandoned(_), Status::Want | Status::Check) => {}
            (_, Status::Failed(reason, message)) => {
                let reason = reason.of_failed();
                let message = printable(message.as_bytes());
                self.settle(id, None, None, Outcome::Failed(reason), Some(message));
            }
            (State::Announced | State::Checking { .. }, Status::Want) if is_file => self.want(id),
            (state @ State::Announced, Status::Check) if is_file => {
                *state = State::Checking { root: None };
                self.actions.push_back(Action::Root(id));
            }
            // Of what has bytes, the receiver must have seen the root.
            (State::Announced, Status::Identical(renamed)) if size == 0 => {
                let root = is_file.then(|| blake3::hash(b""));
                self.settle(id, renamed, root, Outcome::Identical, None);
            }
            (State::Checking { root: Some(root) }, Status::Identical(renamed)) => {
                let root = Some(*root);
                self.settle(id, renamed, root, Outcome::Identical, None);
            }
            (State::Announced, Status::Updated) if size == 0 => {
                let root = is_file.then(|| blake3::hash(b""));
                self.settle(id, None, root, Outcome::Updated, None);
            }
            (State::Checking { root: Some(root) }, Status::Updated) => {
                let root = Some(*root);
                self.settle(id, None, root, Outcome::Updated, None);
            }
            (State::Announced | State::Checking { .. }, Status::Skipped) => {
                self.settle(id, None, None, Outcome::Skipped, None);
            }
            (State::Announced, Status::NotKept) if matches!(open.entry.kind, Kind::Symlink { .. }) => {
                self.settle(id, None, None, Outcome::NotKept, None);
            }
            // Something took the name while the bytes were on their way.
            (State::Wanted(_), Status::Skipped) => self.settle(id, None, None, Outcome::Skipped, None),
            (State::Announced, Status::Done(renamed)) if size == 0 => {
                let root = is_file.then(|| blake3::hash(b""));
                self.settle(id, renamed, root, Outcome::Written, None);
            }
            (State::Wanted(transfer), status @ (Status::Done(_) | Status::Identical(_)))
                if size <= SMALL_FILE_BYTES_MAX || transfer.closed =>
            {
                // The same may have come from somebody else while the bytes were on their way.
                let (outcome, renamed) = match status {
                    Status::Identical(renamed) => (Outcome::Identical, renamed),
                    Status::Done(renamed) => (Outcome::Written, renamed),
                    _ => (Outcome::Written, None),
                };
                match transfer.root.root() {
                    Some(root) => self.settle(id, renamed, Some(root), outcome, None),
                    None => {
                        transfer.done = Some((outcome, renamed));
                        self.take_final_word(id)?;
                    }
                }
            }
            (state, status) => {
                return Err(Failure::protocol(format!(
                    "the status {} of entry {} does not follow: the entry is {}",
                    status.name(),
                    id.0,
                    state.name()
                )));
            }
        }
        Ok(())
    }

    fn want(&mut self, id: EntryId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let size = open.entry.size();
        let chunks = size.div_ceil(1 << self.chunk_log2);
        open.state = State::Wanted(Transfer {
            root: RootBuilder::new(chunks),
            acked_bytes: 0,
            closed: false,
            done: None,
            unacked: None,
        });
        // The receiver may give entries up again that it wanted, while it lets no parcel through.
        if self.small.len() + self.large.len() >= 2 * OPEN_ENTRIES_MAX {
            self.small.retain(|id| self.open.contains_key(id));
            self.large.retain(|(id, _)| self.open.contains_key(id));
        }
        if size <= SMALL_FILE_BYTES_MAX {
            self.small.push_back(id);
        } else {
            self.large.push_back((id, 0));
        }
    }

    fn settle(
        &mut self,
        id: EntryId,
        renamed: Option<crate::protocol::path::RelPath>,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        let Some(Open { entry, state, is_grown }) = self.open.remove(&id) else { return };
        if is_grown && outcome == Outcome::Written {
            self.actions.push_back(Action::Grew(entry.clone()));
        }
        self.open_path_bytes -= entry.path_bytes();
        if matches!(entry.kind, Kind::File { .. }) {
            self.totals.settled_files += 1;
            // Of a failure counts what was acked; of everything else, all.
            if !matches!(outcome, Outcome::Failed(_)) {
                let acked = if let State::Wanted(transfer) = &state { transfer.acked_bytes } else { 0 };
                self.totals.settled_bytes += entry.size() - acked;
            }
        }
        self.actions.push_back(Action::Settled(Settled { id, entry, renamed, root, outcome, message }));
    }

    /// Something local that takes its time goes on (hashing for a comparison): that is no stall.
    pub fn note_progress(&mut self, now: Duration) {
        self.progress.step(now);
    }

    /// So many bytes of files have been sent. What the receiver says has come of them brings the transfer on.
    pub fn note_sent(&mut self, bytes: u64, now: Duration) {
        let came = self.said_came.min(bytes);
        self.progress.bytes(came.saturating_sub(self.came), now);
        self.came = self.came.max(came);
    }

    /// Ends the transfer when nothing was acked for the time-out, or when a receiver that is alive gets nothing done;
    /// `bottleneck` says what held it.
    pub fn check_stall(&self, bottleneck: Bottleneck, now: Duration) -> Result<(), Failure> {
        let side = match bottleneck {
            Bottleneck::ReceiverDisk | Bottleneck::Credits => Some(Side::Receiver),
            Bottleneck::SenderDisk | Bottleneck::Memory => Some(Side::Sender),
            Bottleneck::Bwlimit | Bottleneck::Network | Bottleneck::Processor => None,
        };
        let Patience { timeout, disk_timeout } = self.patience;
        let message = if self.finished().is_some() {
            return Ok(());
        } else if self.progress.is_silent(now) {
            format!("nothing was acked for {timeout:?}; what held it: {}", bottleneck.as_str())
        } else if self.progress.is_standing(|| self.largest_compared(), now) {
            format!(
                "the receiver got nothing done for {disk_timeout:?}, though it kept saying that it is busy; a higher \
                 --disk-timeout waits longer"
            )
        } else {
            return Ok(());
        };
        let failure = Failure::new(Reason::AckTimeout, message);
        Err(if let Some(side) = side { failure.or_side(side) } else { failure })
    }

    /// Bytes of the largest file that the receiver may be hashing.
    fn largest_compared(&self) -> u64 {
        let is_hashed = |open: &&Open| match &open.state {
            State::Checking { .. } => true,
            // Something may have taken the name, and is compared with what came.
            State::Wanted(transfer) => transfer.closed,
            _ => false,
        };
        let checked = self.open.values().filter(is_hashed);
        checked.map(|open| open.entry.size()).max().unwrap_or(0)
    }
}
