//! The receiver as a state machine: what has been announced, what is wanted of it, what is written, what has its
//! final name.

// Long because the states of an entry, and all that moves it from one to the next, are read together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::engine::open_dirs::OpenDirs;
use crate::protocol::engine::patience::{Patience, Progress};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::hash::{RootBuilder, TreeError};
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Kind, Meta, Outcome, Settled, Totals};
use crate::protocol::wire::limits::{OPEN_ENTRIES_MAX, OPEN_PATH_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

/// What becomes of an entry whose name is taken by something else. A file with the same bytes is no conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exists {
    /// It fails, and what is there stays.
    #[default]
    Refuse,
    /// What is there stays, and that is no failure. Bytes are not compared.
    Skip,
    /// It takes the place of what is there.
    Replace,
    /// It gets another name.
    Rename,
}

/// What storage found under a final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing; a directory has been made.
    Free,
    /// The very same directory or link.
    Same {
        /// The number of its name, 0 for the name itself.
        number: u32,
        /// It has the entry's mode and time too.
        is_current: bool,
    },
    /// Files of the same size: the bytes decide.
    SameSize {
        /// The numbers of their names, in the order to compare them: 0 is the name itself. Never none.
        numbers: VecDeque<u32>,
        /// The one under the name itself has the entry's mode and time too.
        is_current: bool,
    },
    /// Something else.
    Conflict,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system does not permit it, and why.
    Denied(Failure),
}

/// How a commit went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Under its final name, another one if there is one here.
    Done(Option<RelPath>),
    /// The name was taken in the meantime. The entry is still staged.
    Exists,
    /// The name cannot be used, and why.
    Refused(Failure),
    /// The system does not permit it, and why.
    Denied(Failure),
    /// It is a link, and the file system holds none.
    NotKept,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send on the control stream.
    Control(Message),
    /// Look at the final name (and make the directory), then call [`Receiver::admitted`].
    Admit(EntryId, Entry),
    /// Compute the root of the file that is there, of so many bytes, then call [`Receiver::hashed`].
    Root(EntryId, RelPath, u64),
    /// Sync, rename, sync, then call [`Receiver::committed`].
    Commit(EntryId, Entry),
    /// The same under the first of the names that is free.
    CommitBeside(EntryId, Entry),
    /// Give what is there the entry's mode and time, then call [`Receiver::updated`].
    Update(EntryId, Entry),
    /// Drop what is staged.
    Discard(EntryId),
    /// The sender has lost this extra connection: close it.
    Leave(u32),
    /// Everything in a directory has ended. Set its attributes if there are any here: one that was there before
    /// keeps its own unless it is to be replaced. Then call [`Receiver::dir_finished`].
    FinishDir(EntryId, RelPath, Option<Meta>),
    /// The source of an entry that is delivered has grown since it was announced.
    Grew(Entry),
    /// An entry has ended.
    Settled(Settled),
    /// The sender came upon something that it cannot send, and why.
    Omitted(Reason, String),
    /// Make everything durable, then call [`Receiver::finished`].
    Finish,
}

#[derive(Debug)]
enum State {
    /// `staged` when it is complete and its name has been taken meanwhile.
    Admitting {
        staged: Option<Staged>,
    },
    Comparing(Comparison),
    /// `begun` chunks are coming.
    Receiving {
        root: RootBuilder,
        begun: BTreeSet<u64>,
        /// Chunks of which a stream that was cut off may have left bytes.
        cut: BTreeSet<u64>,
    },
    /// `is_again` when the name was taken before.
    Committing {
        root: Option<blake3::Hash>,
        is_again: bool,
    },
    /// The same is there, and gets mode and time.
    Updating {
        root: Option<blake3::Hash>,
    },
    /// The directory that ends; `None` when none of that name was open.
    Leaving(Option<EntryId>),
}

impl State {
    /// What is complete and neither has its name nor is about to get it.
    fn staged(&self) -> Option<Staged> {
        match self {
            Self::Admitting { staged } => *staged,
            Self::Comparing(comparison) => comparison.is_staged.then_some(Staged { root: comparison.theirs }),
            _ => None,
        }
    }

    /// All of the entry has come.
    fn is_complete(&self) -> bool {
        matches!(self, Self::Committing { .. }) || self.staged().is_some()
    }
}

/// A complete entry; with its root, if it is a file.
#[derive(Debug, Clone, Copy)]
struct Staged {
    root: Option<blake3::Hash>,
}

/// A file, and those that are there and may be the same.
#[derive(Debug)]
struct Comparison {
    /// Numbers of the names that are left; the first is being looked at.
    numbers: VecDeque<u32>,
    mine: Option<Existing>,
    theirs: Option<blake3::Hash>,
    is_staged: bool,
    is_current: bool,
}

/// The file that has the name of one that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Its root.
    Root(blake3::Hash),
    /// This process may not read it, so it counts as another one.
    Unreadable,
}

#[derive(Debug)]
struct Open {
    entry: Entry,
    state: State,
    /// The source has grown since it was announced.
    is_grown: bool,
}

/// What to do with a record that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Write it; the size of the file.
    Take(u64),
    /// The same, its holes too: a stream that was cut off may have left bytes where they are now.
    TakeAgain(u64),
    /// Read it and drop it: it is written already.
    Pass,
    /// Ask again when a record has been cut or written: it is coming on another stream, which may have been reset.
    Wait,
}

/// The machine. Time is a duration since any fixed moment.
#[derive(Debug)]
pub struct Receiver {
    chunk_log2: u8,
    exists: Exists,
    patience: Patience,
    progress: Progress,
    /// The directory, as shown.
    target: String,
    open: BTreeMap<EntryId, Open>,
    leaving: BTreeMap<EntryId, Entry>,
    dirs: OpenDirs,
    /// Those of late, as many as may be open; an earlier one counts as ended.
    failed: BTreeSet<EntryId>,
    open_entries_max: usize,
    open_path_bytes: usize,
    next_id: u64,
    ended: bool,
    finishing: bool,
    done: bool,
    totals: Totals,
    actions: VecDeque<Action>,
}

impl Receiver {
    /// A receiver for one transfer into `target` (as shown to people), which has so much `patience` with its sender.
    pub fn new(chunk_log2: u8, exists: Exists, target: String, patience: Patience, now: Duration) -> Self {
        Self {
            chunk_log2,
            exists,
            patience,
            progress: Progress::new(patience, now),
            target,
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            dirs: OpenDirs::default(),
            failed: BTreeSet::new(),
            open_entries_max: OPEN_ENTRIES_MAX,
            open_path_bytes: 0,
            next_id: 0,
            ended: false,
            finishing: false,
            done: false,
            totals: Totals::default(),
            actions: VecDeque::new(),
        }
    }

    /// Keeps at most `max` entries open, and never more than [`OPEN_ENTRIES_MAX`].
    pub fn with_open_entries(mut self, max: usize) -> Self {
        self.open_entries_max = max.min(OPEN_ENTRIES_MAX);
        self
    }

    /// Whether the manifest may be read on: what is open is bounded.
    pub fn takes_entries(&self) -> bool {
        self.open.len() + self.leaving.len() < self.open_entries_max
            && self.open_path_bytes < OPEN_PATH_BYTES_MAX
    }

    /// Numbers so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The manifest is complete.
    pub fn is_walked(&self) -> bool {
        self.ended
    }

    /// Everything is durable and the sender has been told.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The first `max` files of several chunks that are on their way: number, entry and bytes written of each.
    pub fn active(&self, max: usize) -> Vec<(EntryId, &Entry, u64)> {
        let active = self.open.iter().filter_map(|(id, Open { entry, state, .. })| match state {
            State::Receiving { root, .. } if entry.size() > SMALL_FILE_BYTES_MAX => {
                let written = (root.taken() << self.chunk_log2).min(entry.size());
                Some((*id, entry, written))
            }
            _ => None,
        });
        active.take(max).collect()
    }

    /// An entry that has not been settled.
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.open.get(&id).map(|open| &open.entry)
    }

    /// What to do next, if anything.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A message of the manifest stream, which came when the sender was [heard](Self::heard) last.
    pub fn on_manifest(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Entry(_) | Message::Omitted(..) | Message::End(_) if self.ended => {
                Err(Failure::protocol("the manifest goes on behind its end"))
            }
            Message::Entry(entry) => {
                let id = EntryId(self.next_id);
                self.next_id += 1;
                self.step();
                if let Kind::File { size } = entry.kind {
                    self.totals.files += 1;
                    self.totals.bytes = self.totals.bytes.saturating_add(size);
                }
                self.open_path_bytes += entry.path_bytes();
                let state = match entry.kind {
                    Kind::DirEnd => State::Leaving(self.dirs.leave(&entry.path)),
                    _ => {
                        if entry.kind == Kind::Dir {
                            self.dirs.enter(id, &entry.path);
                        }
                        self.actions.push_back(Action::Admit(id, entry.clone()));
                        State::Admitting { staged: None }
                    }
                };
                self.open.insert(id, Open { entry, state, is_grown: false });
                self.advance();
                Ok(())
            }
            Message::Omitted(reason, message) => {
                let message = crate::protocol::path::printable(message.as_bytes());
                self.came(message.len() as u64, self.progress.alive_at());
                self.actions.push_back(Action::Omitted(reason.of_omitted(), message));
                Ok(())
            }
            Message::End(count) if count == self.next_id => {
                self.ended = true;
                self.step();
                self.advance();
                Ok(())
            }
            Message::End(count) => Err(Failure::protocol(format!(
                "the manifest ends with {count} entries, but {} have come",
                self.next_id
            ))),
            other => {
                Err(Failure::protocol(format!("{} does not belong on the manifest stream", other.name())))
            }
        }
    }

    /// What is under the final name of `id`.
    pub fn admitted(&mut self, id: EntryId, found: Found) {
        let Some(Open { entry, state: State::Admitting { staged }, .. }) = self.open.get(&id) else { return };
        let (is_dir, staged) = (entry.kind == Kind::Dir, *staged);
        let is_empty_file = entry.kind == Kind::File { size: 0 };
        match found {
            Found::Refused(failure) => self.refused(id, failure),
            Found::Denied(failure) => self.fail(id, failure),
            Found::Conflict | Found::SameSize { .. } if is_dir => self.block(id),
            Found::Free if is_dir => self.settle(id, Status::Done(None), None, Outcome::Written),
            // Its attributes come at its end.
            Found::Same { .. } if is_dir => {
                self.dirs.was_there(id);
                self.settle(id, Status::Identical(None), None, Outcome::Identical);
            }
            Found::Same { number, is_current } => self.same(id, number, None, is_current),
            Found::SameSize { numbers, is_current } if is_empty_file => {
                let number = numbers.front().copied().unwrap_or(0);
                self.same(id, number, Some(blake3::hash(b"")), is_current);
            }
            Found::SameSize { .. } | Found::Conflict if self.exists == Exists::Skip => {
                self.settle(id, Status::Skipped, None, Outcome::Skipped);
            }
            Found::SameSize { numbers, is_current } => self.begin_comparison(id, numbers, is_current),
            Found::Conflict => self.different(id),
            Found::Free => match staged {
                Some(Staged { root }) => self.commit(id, root, true),
                None => self.want(id),
            },
        }
    }

    /// A complete entry whose name has been taken.
    fn readmit(&mut self, id: EntryId, root: Option<blake3::Hash>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.state = State::Admitting { staged: Some(Staged { root }) };
        }
    }

    fn begin_comparison(&mut self, id: EntryId, numbers: VecDeque<u32>, is_current: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (staged, size) = (open.state.staged(), open.entry.size());
        let path = numbered(&open.entry.path, numbers.front());
        let theirs = staged.and_then(|staged| staged.root);
        let is_staged = staged.is_some();
        open.state = State::Comparing(Comparison { numbers, mine: None, theirs, is_staged, is_current });
        if !is_staged {
            self.actions.push_back(Action::Control(Message::Status(id, Status::Check)));
        }
        self.actions.push_back(Action::Root(id, path, size));
    }

    /// What was sent is there: under the name of that number.
    fn same(&mut self, id: EntryId, number: u32, root: Option<blake3::Hash>, is_current: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if self.exists == Exists::Replace && !is_current {
            open.state = State::Updating { root };
            self.actions.push_back(Action::Update(id, open.entry.clone()));
            return;
        }
        let renamed = (number > 0).then(|| numbered(&open.entry.path, Some(&number)));
        self.settle(id, Status::Identical(renamed), root, Outcome::Identical);
    }

    /// What is there is something else.
    fn different(&mut self, id: EntryId) {
        let staged = self.open.get(&id).and_then(|open| open.state.staged());
        match (self.exists, staged) {
            (Exists::Refuse, _) => self.fail_existing(id),
            (_, Some(Staged { root })) => self.commit(id, root, true),
            (_, None) => self.want(id),
        }
    }

    /// Whether what is there has got mode and time that it did not have.
    pub fn updated(&mut self, id: EntryId, result: Result<bool, Failure>) {
        let Some(Open { state: State::Updating { root }, .. }) = self.open.get(&id) else { return };
        let root = *root;
        match result {
            Ok(true) => self.settle(id, Status::Updated, root, Outcome::Updated),
            Ok(false) => self.settle(id, Status::Identical(None), root, Outcome::Identical),
            Err(failure) => self.fail(id, failure),
        }
    }

    /// An entry ends without what is staged of it.
    fn drop_staged(&mut self, id: EntryId, state: &State) {
        if state.staged().is_some() {
            self.actions.push_back(Action::Discard(id));
        }
    }

    /// Something that is no directory has the name of one.
    fn block(&mut self, id: EntryId) {
        let Some(path) = self.entry(id).map(|entry| entry.path.clone()) else { return };
        let outcome = match self.exists {
            Exists::Skip => Outcome::Skipped,
            _ => Outcome::Failed(Reason::TargetExists),
        };
        self.dirs.block(path, outcome);
        match outcome {
            Outcome::Skipped => self.settle(id, Status::Skipped, None, Outcome::Skipped),
            _ => self.fail_existing(id),
        }
    }

    /// Storage cannot use the name.
    fn refused(&mut self, id: EntryId, failure: Failure) {
        let Some(path) = self.entry(id).map(|entry| entry.path.clone()) else { return };
        match self.dirs.blocks(&path) {
            Some((_, Outcome::Skipped)) => self.settle(id, Status::Skipped, None, Outcome::Skipped),
            Some((dir, _)) => {
                let sentence = |dir: &str| format!("it belongs into {dir}, which is not a directory");
                let dir = Place::below(&self.target, dir);
                self.fail(id, Failure::about(Side::Receiver, Reason::Refused, &dir, sentence));
            }
            None => self.fail(id, failure),
        }
    }

    /// What is in the file that is under a name of `id`.
    pub fn hashed(&mut self, id: EntryId, existing: Existing) {
        if let Some(Open { state: State::Comparing(comparison), .. }) = self.open.get_mut(&id) {
            comparison.mine = Some(existing);
            self.compare(id);
        }
    }

    fn compare(&mut self, id: EntryId) {
        let Some(Open { entry, state: State::Comparing(comparison), .. }) = self.open.get_mut(&id) else {
            return;
        };
        let (Some(mine), Some(theirs)) = (comparison.mine, comparison.theirs) else { return };
        let number = comparison.numbers.pop_front().unwrap_or(0);
        if mine == Existing::Root(theirs) {
            let is_current = comparison.is_current;
            return self.same(id, number, Some(theirs), is_current);
        }
        comparison.mine = None;
        match comparison.numbers.front() {
            Some(next) => {
                let action = Action::Root(id, numbered(&entry.path, Some(next)), entry.size());
                self.actions.push_back(action);
            }
            None => self.different(id),
        }
    }

    fn want(&mut self, id: EntryId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let size = open.entry.size();
        if size == 0 {
            let root = matches!(open.entry.kind, Kind::File { .. }).then(|| blake3::hash(b""));
            self.commit(id, root, false);
            return;
        }
        let chunks = size.div_ceil(1 << self.chunk_log2);
        open.state =
            State::Receiving { root: RootBuilder::new(chunks), begun: BTreeSet::new(), cut: BTreeSet::new() };
        self.actions.push_back(Action::Control(Message::Status(id, Status::Want)));
    }

    fn commit(&mut self, id: EntryId, root: Option<blake3::Hash>, is_again: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.state = State::Committing { root, is_again };
        let entry = open.entry.clone();
        let is_beside = is_again && self.exists == Exists::Rename;
        self.actions.push_back(match is_beside {
            true => Action::CommitBeside(id, entry),
            false => Action::Commit(id, entry),
        });
    }

    /// A record begins on a parcel's stream: `len` bytes of `id` at `offset`. A sender may reset a parcel and send it
    /// again, on the same connection or on another, and the new stream may overtake the reset. So a chunk that comes
    /// twice is no breach: it is written by one stream at a time, and once.
    ///
    /// # Errors
    ///
    /// `TransferEnded` and `TransferFailed` concern the one parcel, which is answered by a Nack; everything else
    /// ends the session.
    pub fn begin_record(&mut self, id: EntryId, offset: u64, len: u64) -> Result<Begin, Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        let may_be_written = offset == 0 && (1..=SMALL_FILE_BYTES_MAX).contains(&len);
        let Some(open) = self.open.get_mut(&id) else {
            return if may_be_written { Ok(Begin::Pass) } else { Err(self.ended_failure(id)) };
        };
        let size = open.entry.size();
        let State::Receiving { root, begun, cut } = &mut open.state else {
            if open.state.is_complete() {
                return Ok(Begin::Pass);
            }
            return Err(Failure::protocol(format!("entry {} was not asked for", id.0)));
        };
        let chunk = 1 << self.chunk_log2;
        let expected = if offset < size { (size - offset).min(chunk) } else { 0 };
        if !offset.is_multiple_of(chunk) || len != expected || len == 0 {
            return Err(Failure::protocol(format!(
                "{len} bytes at {offset} are not a chunk of {} ({size} bytes)",
                open.entry.path
            )));
        }
        let index = offset >> self.chunk_log2;
        match root.admits(index) {
            Err(TreeError::Twice) => return Ok(Begin::Pass),
            other => other.map_err(|e| tree_failure(&open.entry, e))?,
        }
        // Two streams must not write one chunk: what is verified on one could be changed by the other.
        Ok(match begun.insert(index) {
            true if cut.contains(&index) => Begin::TakeAgain(size),
            true => Begin::Take(size),
            false => Begin::Wait,
        })
    }

    /// The source of `id` has grown since it was announced; what comes is what was there then.
    pub fn grew(&mut self, id: EntryId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_grown = true;
        }
    }

    /// A record is written, and its chaining value is what the sender said.
    pub fn record_written(
        &mut self,
        id: EntryId,
        offset: u64,
        len: u64,
        value: [u8; 32],
    ) -> Result<(), Failure> {
        let index = offset >> self.chunk_log2;
        let Some(Open { entry, state: State::Receiving { root, begun, cut }, .. }) = self.open.get_mut(&id)
        else {
            return Ok(());
        };
        if !begun.remove(&index) {
            return Err(tree_failure(entry, TreeError::Twice));
        }
        cut.remove(&index);
        root.insert(index, value).map_err(|e| tree_failure(entry, e))?;
        self.totals.settled_bytes += len;
        if entry.size() <= SMALL_FILE_BYTES_MAX {
            let root = root.root();
            self.commit(id, root, false);
        }
        Ok(())
    }

    /// A parcel's stream ended before its record was whole; the chunk may come again.
    pub fn record_cut(&mut self, id: EntryId, offset: u64) {
        let index = offset >> self.chunk_log2;
        if let Some(Open { state: State::Receiving { begun, cut, .. }, .. }) = self.open.get_mut(&id)
            && begun.remove(&index)
        {
            cut.insert(index);
        }
    }

    /// A message of the control stream, which came when the sender was [heard](Self::heard) last.
    pub fn on_control(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Digest(id, digest) => {
                self.check_id(id)?;
                match self.open.get_mut(&id) {
                    Some(Open {
                        state: State::Comparing(Comparison { theirs, is_staged: false, .. }),
                        ..
                    }) => {
                        *theirs = Some(blake3::Hash::from_bytes(digest));
                        self.step();
                        self.compare(id);
                        Ok(())
                    }
                    _ => Err(Failure::protocol(format!("the root of entry {} was not asked for", id.0))),
                }
            }
            Message::Close(id, digest, is_grown) => {
                self.on_close(id, blake3::Hash::from_bytes(digest))?;
                if is_grown {
                    self.grew(id);
                }
                Ok(())
            }
            Message::Abandon(id, reason, message) => self.on_abandon(id, reason, &message),
            Message::Left(lane) => {
                self.progress.idle_message(self.progress.alive_at())?;
                self.actions.push_back(Action::Leave(lane));
                Ok(())
            }
            Message::Heartbeat(_) => self.progress.idle_message(self.progress.alive_at()),
            other => Err(Failure::protocol(format!(
                "the sender sent {}, which only a receiver sends",
                other.name()
            ))),
        }
    }

    fn check_id(&self, id: EntryId) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        if !self.open.contains_key(&id) {
            return Err(self.ended_failure(id));
        }
        Ok(())
    }

    /// What to answer when something comes for an entry that is no longer open.
    fn ended_failure(&self, id: EntryId) -> Failure {
        let (reason, how) = match self.failed.contains(&id) {
            true => (Reason::TransferFailed, "failed"),
            false => (Reason::TransferEnded, "ended"),
        };
        Failure::new(reason, format!("entry {} has {how} already", id.0))
    }

    fn on_close(&mut self, id: EntryId, theirs: blake3::Hash) -> Result<(), Failure> {
        self.check_id(id)?;
        let Some(Open { state: State::Receiving { root, .. }, entry, .. }) = self.open.get(&id) else {
            return Err(Failure::protocol(format!("entry {} is not being received", id.0)));
        };
        match root.root() {
            None => Err(Failure::protocol(format!("{} was closed before all of it was acked", entry.path))),
            Some(mine) if mine != theirs => Err(Failure::on(
                Side::Receiver,
                Reason::Verification,
                format!("{}: the BLAKE3 root is {mine} here and {theirs} at the sender", entry.path),
            )),
            Some(mine) => {
                self.step();
                self.commit(id, Some(mine), false);
                Ok(())
            }
        }
    }

    fn on_abandon(&mut self, id: EntryId, reason: Reason, message: &str) -> Result<(), Failure> {
        if id.0 >= self.next_id {
            return Err(Failure::new(Reason::UnknownTransfer, format!("there is no entry {}", id.0)));
        }
        // It may have ended here while the sender gave it up, or have its final name any moment.
        if self.open.get(&id).is_some_and(|open| !open.state.is_complete()) {
            self.step();
            self.actions.push_back(Action::Discard(id));
            let message = crate::protocol::path::printable(message.as_bytes());
            self.fail(id, Failure::on(Side::Sender, reason.of_abandoned(), message));
        }
        Ok(())
    }

    /// How the commit of `id` went.
    pub fn committed(&mut self, id: EntryId, committed: Committed) {
        let Some(Open { entry, state: State::Committing { root, is_again }, .. }) = self.open.get_mut(&id)
        else {
            return;
        };
        let (root, is_again) = (*root, *is_again);
        match committed {
            Committed::Done(renamed) => self.settle(id, Status::Done(renamed), root, Outcome::Written),
            Committed::Exists if self.exists == Exists::Skip => {
                self.actions.push_back(Action::Discard(id));
                self.settle(id, Status::Skipped, None, Outcome::Skipped);
            }
            Committed::Exists if is_again || self.exists == Exists::Replace => {
                self.actions.push_back(Action::Discard(id));
                self.fail_existing(id);
            }
            // Another transfer may have brought the same, so what has appeared is looked at.
            Committed::Exists => {
                let entry = entry.clone();
                self.readmit(id, root);
                self.actions.push_back(Action::Admit(id, entry));
            }
            Committed::Refused(failure) | Committed::Denied(failure) => self.fail(id, failure),
            Committed::NotKept => self.settle(id, Status::NotKept, None, Outcome::NotKept),
        }
    }

    /// A directory has its attributes, or cannot get them.
    pub fn dir_finished(&mut self, id: EntryId, result: Result<(), Failure>) {
        let Some(entry) = self.leaving.remove(&id) else { return };
        let (status, outcome, message) = match result {
            Ok(()) => (Status::Done(None), Outcome::Written, None),
            Err(failure) => (failed(&failure), Outcome::Failed(failure.reason), Some(failure.message)),
        };
        self.report(id, entry, status, None, outcome, message);
    }

    /// Everything is under its final name, and durable if `synced`; tells the sender, also of what is not kept.
    pub fn finished(&mut self, synced: bool, not_kept: Vec<NotKept>) {
        self.actions.push_back(Action::Control(Message::Finished { synced, not_kept }));
        self.done = true;
    }

    fn fail_existing(&mut self, id: EntryId) {
        let Some(entry) = self.entry(id) else { return };
        let why = match (&entry.kind, self.exists) {
            (Kind::Dir, _) => "is there and is no directory",
            (_, Exists::Replace) => "is a directory there, which does not give way",
            _ => {
                "exists already and is not the same (receive --exists skip, replace or rename takes another way)"
            }
        };
        let place = Place::below(&self.target, &entry.path);
        let sentence = |path: &str| format!("{path} {why}; it was left as it is");
        self.fail(id, Failure::about(Side::Receiver, Reason::TargetExists, &place, sentence));
    }

    fn fail(&mut self, id: EntryId, failure: Failure) {
        let Some(Open { entry, state, .. }) = self.open.remove(&id) else { return };
        self.drop_staged(id, &state);
        self.failed.insert(id);
        if self.failed.len() > self.open_entries_max {
            self.failed.pop_first();
        }
        let outcome = Outcome::Failed(failure.reason);
        self.report(id, entry, failed(&failure), None, outcome, Some(failure.message));
    }

    fn settle(&mut self, id: EntryId, status: Status, root: Option<blake3::Hash>, outcome: Outcome) {
        let Some(Open { entry, state, is_grown }) = self.open.remove(&id) else { return };
        self.drop_staged(id, &state);
        if is_grown && outcome == Outcome::Written {
            self.actions.push_back(Action::Grew(entry.clone()));
        }
        // Bytes that travelled were counted when they were written.
        if !state.is_complete() {
            self.totals.settled_bytes = self.totals.settled_bytes.saturating_add(entry.size());
        }
        self.report(id, entry, status, root, outcome, None);
    }

    fn report(
        &mut self,
        id: EntryId,
        entry: Entry,
        status: Status,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        self.tell_end(id, entry, status, root, outcome, message);
        self.advance();
    }

    fn tell_end(
        &mut self,
        id: EntryId,
        entry: Entry,
        status: Status,
        root: Option<blake3::Hash>,
        outcome: Outcome,
        message: Option<String>,
    ) {
        self.open_path_bytes -= entry.path_bytes();
        if matches!(entry.kind, Kind::File { .. }) {
            self.totals.settled_files += 1;
        }
        let renamed = match &status {
            Status::Done(renamed) | Status::Identical(renamed) => renamed.clone(),
            _ => None,
        };
        self.actions.push_back(Action::Control(Message::Status(id, status)));
        self.actions.push_back(Action::Settled(Settled { id, entry, renamed, root, outcome, message }));
    }

    /// Lets directories end whose contents are all settled, and the transfer when nothing is left.
    fn advance(&mut self) {
        while let Some(first) = self.open.first_entry() {
            let State::Leaving(dir) = first.get().state else { break };
            let (id, Open { entry, .. }) = first.remove_entry();
            if self.dirs.blocks(&entry.path).is_some() {
                self.tell_end(id, entry, Status::Done(None), None, Outcome::Written, None);
                continue;
            }
            let is_new = dir.and_then(|dir| self.dirs.end(dir)).is_some_and(|was_there| !was_there);
            let meta = (is_new || self.exists == Exists::Replace).then_some(entry.meta);
            self.actions.push_back(Action::FinishDir(id, entry.path.clone(), meta));
            self.leaving.insert(id, entry);
        }
        if self.ended && self.open.is_empty() && self.leaving.is_empty() && !self.finishing {
            self.finishing = true;
            self.actions.push_back(Action::Finish);
        }
    }

    /// Something came from the sender.
    pub fn heard(&mut self, now: Duration) {
        self.progress.alive(now);
    }

    /// The own disk is at work, or the own limit holds what comes.
    pub fn note_progress(&mut self, now: Duration) {
        self.progress.step(now);
    }

    /// `bytes` bytes of files have come that were not there yet.
    pub fn came(&mut self, bytes: u64, now: Duration) {
        self.progress.bytes(bytes, now);
    }

    /// What was heard last brought the transfer on.
    fn step(&mut self) {
        self.progress.step(self.progress.alive_at());
    }

    /// Ends the transfer when nothing came for the time-out, or when a sender that is alive gets nothing done.
    pub fn check_stall(&self, now: Duration) -> Result<(), Failure> {
        let Patience { timeout, disk_timeout } = self.patience;
        let message = if self.finishing {
            return Ok(());
        } else if self.progress.is_silent(now) {
            format!("nothing came for {timeout:?}; what held it: {}", Bottleneck::Network.as_str())
        } else if self.progress.is_standing(|| self.largest_compared(), now) {
            format!(
                "the sender got nothing done for {disk_timeout:?}, though it kept in touch; a higher --disk-timeout \
                 waits longer"
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(Reason::AckTimeout, message))
    }

    /// Bytes of the largest file that the sender may be hashing.
    fn largest_compared(&self) -> u64 {
        let is_hashed = |open: &&Open| match &open.state {
            State::Comparing { .. } => true,
            // A source that has grown is read again before it is closed.
            State::Receiving { root, .. } => root.is_complete(),
            _ => false,
        };
        let compared = self.open.values().filter(is_hashed);
        compared.map(|open| open.entry.size()).max().unwrap_or(0)
    }
}

/// What the sender is told of an entry that failed.
fn failed(failure: &Failure) -> Status {
    Status::Failed(failure.reason, failure.for_peer().to_owned())
}

fn tree_failure(entry: &Entry, error: TreeError) -> Failure {
    Failure::protocol(format!("{}: {error}", entry.path))
}

/// The name of that number, 0 and none being the path itself.
fn numbered(path: &RelPath, number: Option<&u32>) -> RelPath {
    let numbered = number.filter(|number| **number > 0).and_then(|number| path.numbered(*number).ok());
    // Storage finds nothing under a name that is too long.
    numbered.unwrap_or_else(|| path.clone())
}
