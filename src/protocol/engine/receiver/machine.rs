//! The receiver's machine: its totals, and its patience with the sender.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::open_dirs::OpenDirs;
use crate::protocol::engine::patience::{Patience, ProgressWatch};
use crate::protocol::engine::receiver::action::ReceiverAction;
use crate::protocol::engine::receiver::removing::Removing;
use crate::protocol::engine::receiver::state::{IncomingEntry, IncomingState};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::request::{Delete, Treatment};
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Totals};
use crate::protocol::wire::limits::{OPEN_ENTRIES_MAX, OPEN_PATH_BYTES_MAX};

/// The machine. Time is a duration since any fixed moment.
#[derive(Debug)]
pub struct Receiver {
    pub(super) chunk_log2: u8,
    pub(super) exists: Exists,
    /// Contents are compared although size and time agree.
    pub(super) compares: bool,
    /// Takes a single file, in the order of its bytes, and at most so many chunks at a time.
    pub(super) in_order: Option<u64>,
    /// Nothing is changed: entries end with what would be done.
    pub(super) is_dry: bool,
    /// Extras are to be removed.
    pub(super) removing: Option<Removing>,
    /// The sender has left something out that it could not read.
    pub(super) is_source_incomplete: bool,
    /// All entries get their names at the end, or none does.
    pub(super) is_atomic: bool,
    /// Why none does.
    pub(super) broken: Option<Failure>,
    pub(super) patience: Patience,
    pub(super) progress: ProgressWatch,
    /// The target directory, as shown to the user.
    pub(super) target: String,
    pub(super) open: BTreeMap<EntryId, IncomingEntry>,
    pub(super) leaving: BTreeMap<EntryId, Entry>,
    pub(super) dirs: OpenDirs,
    /// Numbers of entries that have failed. Above the limit of open entries the lowest is dropped: that entry counts
    /// as ended.
    pub(super) failed: BTreeSet<EntryId>,
    pub(super) open_entries_max: usize,
    pub(super) open_path_bytes: usize,
    /// Attributes of the next entry, as far as they have come.
    pub(super) gathered: BytesMut,
    pub(super) next_id: u64,
    pub(super) ended: bool,
    pub(super) finishing: bool,
    pub(super) done: bool,
    pub(super) totals: Totals,
    /// Files that were received and committed.
    pub(super) written_files: u64,
    /// Chaining values that wait for checkpoints, and when all files last got one.
    pub(super) unrecorded: usize,
    pub(super) checkpoints_at: Duration,
    pub(super) actions: VecDeque<ReceiverAction>,
}

impl Receiver {
    /// A receiver for one transfer into `target` (as shown to the user), with this `patience` for its sender.
    pub fn new(
        chunk_log2: u8,
        treatment: impl Into<Treatment>,
        target: String,
        patience: Patience,
        now: Duration,
    ) -> Self {
        let Treatment { exists, compares, is_dry, .. } = treatment.into();
        Self {
            chunk_log2,
            exists,
            compares,
            in_order: None,
            is_dry,
            removing: None,
            is_source_incomplete: false,
            is_atomic: false,
            broken: None,
            patience,
            progress: ProgressWatch::new(patience, now),
            target,
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            dirs: OpenDirs::default(),
            failed: BTreeSet::new(),
            open_entries_max: OPEN_ENTRIES_MAX,
            open_path_bytes: 0,
            gathered: BytesMut::new(),
            next_id: 0,
            ended: false,
            finishing: false,
            done: false,
            totals: Totals::default(),
            written_files: 0,
            unrecorded: 0,
            checkpoints_at: now,
            actions: VecDeque::new(),
        }
    }

    /// Keeps at most `max` entries open, and never more than [`OPEN_ENTRIES_MAX`].
    pub fn with_open_entries(mut self, max: usize) -> Self {
        self.open_entries_max = max.min(OPEN_ENTRIES_MAX);
        self
    }

    /// Removes extras as `request` says. So many names are kept of what is announced, as hashes with `key`.
    pub fn with_removal(mut self, request: Option<Delete>, key: [u8; 32], names_max: usize) -> Self {
        self.removing = request.map(|request| Removing::new(request, key, names_max));
        self
    }

    /// All entries get their names at the end, or none does.
    pub fn all_or_nothing(mut self, is_atomic: bool) -> Self {
        self.is_atomic = is_atomic;
        self
    }

    /// Takes a single file, in the order of its bytes, and at most `chunks` chunks at a time.
    pub fn in_order(mut self, chunks: Option<u64>) -> Self {
        self.in_order = chunks;
        self
    }

    /// Why the transfer ends without any name, if it does.
    pub fn broken(&self) -> Option<&Failure> {
        self.broken.as_ref()
    }

    /// An entry will be missing.
    pub(super) fn lacks_one(&mut self, failure: Failure) {
        // Special files are left out of every transfer.
        if self.is_atomic && failure.reason.exit_code() != 10 {
            self.broken.get_or_insert(failure.of_set());
        }
    }

    /// Whether to read on in the manifest: the number of open entries is limited.
    pub fn takes_entries(&self) -> bool {
        self.open.len() + self.leaving.len() < self.open_entries_max
            && self.open_path_bytes < OPEN_PATH_BYTES_MAX
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the manifest is complete.
    pub fn is_walked(&self) -> bool {
        self.ended
    }

    /// Whether the totals include all bytes of the transfer: the manifest is complete and no file of unknown size is
    /// open.
    pub fn are_totals_final(&self) -> bool {
        self.ended && !self.open.values().any(|open| open.entry.kind == Kind::OpenEnded)
    }

    /// Whether everything is durable and the sender has been told.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The first `max` files of several chunks in transfer: number, entry and bytes written or held of each.
    pub fn active(&self, max: usize) -> Vec<(EntryId, &Entry, u64)> {
        let active = self.open.iter().filter_map(|(id, IncomingEntry { entry, state, .. })| match state {
            IncomingState::Receiving(file) if !entry.is_small() => {
                let written = file.plan.written_bytes(entry.size(), self.chunk_log2);
                Some((*id, entry, written + file.unresolved))
            }
            _ => None,
        });
        active.take(max).collect()
    }

    /// Entries at the top that are open, safe to print: the first `max`, and how many more there are.
    pub fn top_names(&self, max: usize) -> (Vec<String>, u64) {
        let at_top = |entry: &&Entry| entry.kind != Kind::DirEnd && !entry.path.as_bytes().contains(&b'/');
        let mut entries = self.open.values().map(|open| &open.entry).filter(at_top);
        let name =
            |entry: &Entry| format!("{}{}", entry.path, if entry.kind == Kind::Dir { "/" } else { "" });
        let names = entries.by_ref().take(max).map(name).collect();
        (names, entries.count() as u64)
    }

    /// An entry that is still open.
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.open.get(&id).map(|open| &open.entry)
    }

    /// The next action, if any.
    pub fn poll(&mut self) -> Option<ReceiverAction> {
        self.actions.pop_front()
    }

    /// Notes a sign of life of the sender.
    pub fn heard(&mut self, now: Duration) {
        self.progress.alive(now);
    }

    /// This side's disk is working, or its rate limit holds data back.
    pub fn note_progress(&mut self, now: Duration) {
        self.progress.step(now);
    }

    /// `bytes` new bytes of files have arrived.
    pub fn came(&mut self, bytes: u64, now: Duration) {
        self.progress.bytes(bytes, now);
    }

    /// The last message brought progress.
    pub(super) fn step(&mut self) {
        self.progress.step(self.progress.alive_at());
    }

    /// Ends the transfer after the time-out without a message, or without progress from a sender that is alive.
    pub fn check_stall(&self, now: Duration) -> Result<(), Failure> {
        let Patience { timeout, disk_timeout } = self.patience;
        let message = if self.finishing {
            return Ok(());
        } else if self.progress.is_silent(now) {
            format!("nothing arrived for {timeout:?}; last waiting for: {}", Bottleneck::Network.as_str())
        } else if !self.awaits_producer() && self.progress.is_standing(|| self.largest_compared(), now) {
            format!("the sender made no progress for {disk_timeout:?} although it is alive")
        } else {
            return Ok(());
        };
        Err(Failure::new(Reason::AckTimeout, message))
    }

    /// Whether the manifest has ended and all bytes of its files are written.
    pub fn has_all_bytes(&self) -> bool {
        let has_all = |state: &IncomingState| match state {
            IncomingState::Receiving(file) => file.root.is_complete(),
            state => state.is_complete(),
        };
        self.ended && self.open.values().all(|open| has_all(&open.state))
    }

    /// Whether a file of unknown size has not ended. Its bytes may come from a program that takes its time.
    fn awaits_producer(&self) -> bool {
        self.open.values().any(|open| match &open.state {
            IncomingState::Receiving(file) => open.entry.kind == Kind::OpenEnded && file.end.is_none(),
            _ => false,
        })
    }

    /// Size of the largest file that the sender may be hashing.
    fn largest_compared(&self) -> u64 {
        let is_hashed = |open: &&IncomingEntry| match &open.state {
            IncomingState::Comparing { .. } => true,
            // A source that has grown is read again before its `Close`.
            IncomingState::Receiving(file) => file.root.is_complete(),
            _ => false,
        };
        let compared = self.open.values().filter(is_hashed);
        compared.map(|open| open.entry.size()).max().unwrap_or(0)
    }
}
