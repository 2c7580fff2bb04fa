//! The sender's machine: its announcements, its totals, and its patience with the receiver.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::patience::{Patience, ProgressWatch};
use crate::protocol::engine::sender::action::{ReceiverEnd, SenderAction};
use crate::protocol::engine::sender::judging::Judging;
use crate::protocol::engine::sender::path::PathFacts;
use crate::protocol::engine::sender::state::{OutgoingEntry, OutgoingState};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::RelPath;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Outcome, Settled, Totals};
use crate::protocol::wire::limits::{OPEN_ENTRIES_MAX, OPEN_PATH_BYTES_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::seal::Seal;

/// The machine. Time is a duration since any fixed moment.
#[derive(Debug)]
pub struct Sender {
    pub(super) chunk_log2: u8,
    /// The receiver was asked to compare contents.
    pub(super) compares: bool,
    /// The receiver was asked to change nothing.
    pub(super) is_dry: bool,
    pub(super) judging: Judging,
    pub(super) patience: Patience,
    pub(super) progress: ProgressWatch,
    /// When the receiver first said that it asks a person.
    pub(super) asked_at: Option<Duration>,
    /// Since when the receiver says that a program runs there.
    pub(super) program_at: Option<Duration>,
    pub(super) program: Option<ProgramEnd>,
    pub(super) open: BTreeMap<EntryId, OutgoingEntry>,
    pub(super) open_entries_max: usize,
    pub(super) open_path_bytes: usize,
    pub(super) next_id: u64,
    pub(super) walked: bool,
    pub(super) small: VecDeque<EntryId>,
    /// Files with wanted chunks. A file that lost a chunk with a connection goes first.
    pub(super) large: VecDeque<EntryId>,
    /// Files with held chunks.
    pub(super) held: VecDeque<EntryId>,
    pub(super) parcels: u64,
    /// Pieces of old files that fit the memory that is left, and all of them. None when old files are not used.
    pub(super) pieces_free: usize,
    pub(super) pieces_max: usize,
    pub(super) path: PathFacts,
    /// Files whose old one is signed.
    pub(super) signed: usize,
    /// Those of claims.
    pub(super) claim_parcels: u64,
    pub(super) totals: Totals,
    pub(super) actions: VecDeque<SenderAction>,
    /// Files that the receiver has read back from its disk.
    pub(super) verified: Option<u64>,
    pub(super) seal: Option<Seal>,
    pub(super) finished: Option<ReceiverEnd>,
    /// The file of unknown size whose chunk is being read. One at a time, because it keeps a block between two
    /// chunks.
    pub(super) open_end: Option<EntryId>,
    /// The receiver reads compressed records.
    pub(super) unpacks: bool,
    /// The receiver takes a file in order, for a program that may take its time.
    pub(super) is_in_order: bool,
    /// A file of several chunks was done before all of them were reported durable.
    pub(super) is_durability_missing: bool,
    /// Bytes that the receiver reports as received, and the same capped by the bytes sent.
    pub(super) said_came: u64,
    pub(super) came: u64,
}

impl Sender {
    /// A sender with chunks of 2^`chunk_log2` bytes and this `patience` for its receiver.
    pub fn new(chunk_log2: u8, patience: Patience, now: Duration) -> Self {
        Self {
            chunk_log2,
            compares: false,
            is_dry: false,
            judging: Judging::default(),
            patience,
            progress: ProgressWatch::new(patience, now),
            asked_at: None,
            program_at: None,
            program: None,
            open: BTreeMap::new(),
            open_entries_max: OPEN_ENTRIES_MAX,
            open_path_bytes: 0,
            next_id: 0,
            walked: false,
            small: VecDeque::new(),
            large: VecDeque::new(),
            open_end: None,
            unpacks: false,
            is_in_order: false,
            is_durability_missing: false,
            held: VecDeque::new(),
            parcels: 0,
            claim_parcels: 0,
            pieces_free: 0,
            pieces_max: 0,
            path: PathFacts::default(),
            signed: 0,
            totals: Totals::default(),
            actions: VecDeque::new(),
            verified: None,
            seal: None,
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

    /// The receiver is asked to compare contents, although size and time agree.
    pub fn comparing(mut self, compares: bool) -> Self {
        self.compares = compares;
        self
    }

    /// The receiver is asked to change nothing, and nothing is sent.
    pub fn dry(mut self, is_dry: bool) -> Self {
        self.is_dry = is_dry;
        self
    }

    /// Whether another entry may be announced: the number of open entries is limited.
    pub fn can_announce(&self) -> bool {
        !self.walked && self.open.len() < self.open_entries_max && self.open_path_bytes < OPEN_PATH_BYTES_MAX
    }

    /// Announces `entry`; the message goes to the manifest stream.
    pub fn announce(&mut self, entry: Entry, now: Duration) -> Message {
        let id = EntryId(self.next_id);
        self.next_id += 1;
        if self.open.is_empty() {
            self.progress.step(now);
        }
        self.totals.files += u64::from(entry.is_file());
        self.totals.bytes += entry.size();
        self.open_path_bytes += entry.path_bytes();
        let message = Message::Entry(entry.clone());
        self.open.insert(
            id,
            OutgoingEntry { entry, state: OutgoingState::Announced, is_grown: false, old_bytes: None },
        );
        message
    }

    /// Ends the walk; the message goes to the manifest stream.
    pub fn walk_ended(&mut self, now: Duration) -> Message {
        self.walked = true;
        if self.open.is_empty() {
            self.progress.step(now);
        }
        Message::End(self.next_id)
    }

    /// Maximum bytes of a parcel.
    pub fn chunk_bytes(&self) -> u64 {
        1 << self.chunk_log2
    }

    /// An entry that is still open.
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.open.get(&id).map(|open| &open.entry)
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the manifest is complete.
    pub fn is_walked(&self) -> bool {
        self.walked
    }

    /// Whether the totals include all bytes of the transfer: the walk and each file of unknown size have ended.
    pub fn are_totals_final(&self) -> bool {
        self.walked && !self.open.values().any(|open| open.entry.kind == Kind::OpenEnded)
    }

    /// Parcels cut and not yet acked or failed.
    pub fn parcels_on_the_way(&self) -> u64 {
        self.parcels
    }

    /// Whether the receiver reads compressed records.
    pub fn may_pack(&self) -> bool {
        self.unpacks
    }

    /// Whether the receiver takes a file in order, and hands its bytes on.
    pub fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    /// Whether the receiver has everything safe and every ack has arrived.
    pub fn finished(&self) -> Option<&ReceiverEnd> {
        self.finished.as_ref().filter(|_| self.open.is_empty())
    }

    /// Whether the receiver has sent its last control message; acks may still be in flight.
    pub fn has_heard_the_end(&self) -> bool {
        self.finished.is_some()
    }

    /// The next action, if any.
    pub fn poll(&mut self) -> Option<SenderAction> {
        self.actions.pop_front()
    }

    /// The source of `id` has grown since it was announced; the bytes announced are sent.
    pub fn grew(&mut self, id: EntryId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_grown = true;
        }
    }

    /// The source of `id` is still as announced, or has only grown.
    pub fn verified(&mut self, id: EntryId, is_grown: bool) {
        if is_grown {
            self.grew(id);
        }
        if let Some(OutgoingEntry { entry, state: OutgoingState::Wanted(file), .. }) = self.open.get_mut(&id)
            && let Some(root) = file.root.root()
        {
            file.closed = true;
            let size = file.is_open_ended.then(|| entry.size());
            self.actions.push_back(SenderAction::Control(Message::Close(
                id,
                *root.as_bytes(),
                is_grown,
                size,
            )));
        }
    }

    /// The root that [`SenderAction::Root`] asked for.
    pub fn hashed(&mut self, id: EntryId, hash: blake3::Hash, now: Duration) {
        self.progress.step(now);
        if let Some(OutgoingEntry { state: OutgoingState::Checking { root }, .. }) = self.open.get_mut(&id) {
            *root = Some(hash);
            self.actions.push_back(SenderAction::Control(Message::Digest(id, *hash.as_bytes())));
        }
    }

    /// The source of `id` failed. The transfer goes on without it.
    pub fn abandon(&mut self, id: EntryId, failure: Failure) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if matches!(open.state, OutgoingState::Abandoned(_)) {
            return;
        }
        let message = Message::Abandon(id, failure.reason, failure.for_peer().to_owned());
        let state = std::mem::replace(&mut open.state, OutgoingState::Abandoned(failure));
        self.forget_held(&state);
        self.free_pieces(&state);
        self.open_end.take_if(|reading| *reading == id);
        self.actions.push_back(SenderAction::Control(message));
    }

    pub(super) fn settle(
        &mut self,
        id: EntryId,
        renamed: Option<RelPath>,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        let Some(OutgoingEntry { entry, state, is_grown, .. }) = self.open.remove(&id) else { return };
        self.open_end.take_if(|reading| *reading == id);
        self.forget_held(&state);
        self.free_pieces(&state);
        if is_grown && outcome.is_delivered() {
            self.actions.push_back(SenderAction::Grew(entry.clone()));
        }
        self.open_path_bytes -= entry.path_bytes();
        if entry.is_file() {
            self.totals.settled_files += 1;
            // A failed entry counts its acked bytes, any other entry all of them.
            if !matches!(outcome, Outcome::Failed(_)) {
                let acked = match &state {
                    OutgoingState::Wanted(file) => file.plan.written_bytes(entry.size(), self.chunk_log2),
                    _ => 0,
                };
                self.totals.settled_bytes += entry.size().saturating_sub(acked);
            }
        }
        self.actions.push_back(SenderAction::Settled(Settled { id, entry, renamed, root, outcome, message }));
    }

    /// Slow local work goes on (hashing for a comparison), so this is not a stall.
    pub fn note_progress(&mut self, now: Duration) {
        self.progress.step(now);
    }

    /// Reports the bytes of files sent so far. Those that the receiver confirms count as progress.
    pub fn note_sent(&mut self, bytes: u64, now: Duration) {
        let came = self.said_came.min(bytes);
        self.progress.bytes(came.saturating_sub(self.came), now);
        self.came = self.came.max(came);
    }

    /// Ends the transfer after the time-out without an ack, or without progress from a receiver that is alive.
    /// `bottleneck` is what the transfer waited for.
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
            format!("no progress for {timeout:?}; last waiting for: {}", bottleneck.as_str())
        } else if !self.awaits_consumer() && self.progress.is_standing(|| self.largest_compared(), now) {
            format!("the receiver made no progress for {disk_timeout:?} although it is alive")
        } else {
            return Ok(());
        };
        let failure = Failure::new(Reason::AckTimeout, message);
        Err(if let Some(side) = side { failure.or_side(side) } else { failure })
    }

    /// Whether the receiver hands bytes on, to a program that may take its time.
    fn awaits_consumer(&self) -> bool {
        self.is_in_order && !self.open.is_empty()
    }

    /// Size of the largest file that the receiver may be hashing.
    fn largest_compared(&self) -> u64 {
        let is_hashed = |open: &&OutgoingEntry| match &open.state {
            OutgoingState::Checking { .. } => true,
            // An existing file may have taken the name, and is compared with the received one.
            OutgoingState::Wanted(file) => file.closed,
            _ => false,
        };
        let checked = self.open.values().filter(is_hashed);
        checked.map(|open| open.entry.size()).max().unwrap_or(0)
    }
}
