//! Final names: look-ups, comparisons and commits.

use std::collections::VecDeque;

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::receiver::action::{Existing, ReceiverAction};
use crate::protocol::engine::receiver::machine::Receiver;
use crate::protocol::engine::receiver::state::{
    Comparison, IncomingEntry, IncomingFile, IncomingState, Staged,
};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::final_name::{Committed, Exists, Lookup};
use crate::protocol::hash::RootBuilder;
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::planned::Planned;
use crate::protocol::wire::entry::{EntryId, Kind, Outcome};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::status::Status;

impl Receiver {
    /// The result of the look-up for `id`.
    pub fn admitted(&mut self, id: EntryId, found: Lookup) {
        let Some(IncomingEntry { entry, state: IncomingState::Admitting { staged }, .. }) =
            self.open.get(&id)
        else {
            return;
        };
        let (is_dir, staged) = (entry.kind == Kind::Dir, *staged);
        let is_open_ended = entry.kind == Kind::OpenEnded;
        let is_empty_file = entry.kind == Kind::File { size: 0 };
        match found {
            Lookup::Refused(failure) => self.refused(id, failure),
            Lookup::Denied(failure) => self.fail(id, failure),
            Lookup::Conflict | Lookup::Directory | Lookup::SameSize { .. } if is_dir => self.block(id),
            Lookup::Free if is_dir && self.is_dry => self.plan(id, Planned::Create),
            Lookup::Free if is_dir => {
                let (status, outcome) = self.delivered(None);
                self.settle(id, status, None, outcome);
            }
            Lookup::Same { is_current: false, .. }
                if is_dir && self.is_dry && self.exists == Exists::Replace =>
            {
                self.plan(id, Planned::Update);
            }
            // The attributes follow at the directory's end.
            Lookup::Same { .. } if is_dir => {
                self.dirs.was_there(id);
                self.settle(id, Status::Identical(None), None, Outcome::Identical);
            }
            Lookup::Same { number, is_current } => self.same(id, number, None, is_current),
            Lookup::SameSize { numbers, is_current, .. } if is_empty_file => {
                let number = numbers.front().copied().unwrap_or(0);
                self.same(id, number, Some(blake3::hash(b"")), is_current);
            }
            Lookup::SameSize { .. } | Lookup::Conflict | Lookup::Directory if self.exists == Exists::Skip => {
                self.settle(id, Status::Skipped, None, Outcome::Skipped);
            }
            Lookup::SameSize { .. } if is_open_ended && self.is_dry => self.different(id),
            // The content is known only when all of it has arrived; then the name is looked up again.
            Lookup::SameSize { .. } if is_open_ended => self.want(id),
            Lookup::SameSize { is_unchanged: true, is_current, .. } if !self.compares && staged.is_none() => {
                self.unchanged(id, is_current);
            }
            Lookup::SameSize { numbers, is_current, .. } => self.begin_comparison(id, numbers, is_current),
            Lookup::Directory if self.exists == Exists::Replace => self.fail_existing(id),
            Lookup::Conflict | Lookup::Directory => self.different(id),
            Lookup::Free => match staged {
                Some(Staged { root }) => self.commit(id, root, true),
                None => self.want(id),
            },
        }
    }

    /// A complete entry whose name is taken.
    pub(super) fn readmit(&mut self, id: EntryId, root: Option<blake3::Hash>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.state = IncomingState::Admitting { staged: Some(Staged { root }) };
        }
    }

    pub(super) fn begin_comparison(&mut self, id: EntryId, numbers: VecDeque<u32>, is_current: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (staged, size) = (open.state.staged(), open.entry.size());
        let path = numbered(&open.entry.path, numbers.front());
        let theirs = staged.and_then(|staged| staged.root);
        let is_staged = staged.is_some();
        open.state =
            IncomingState::Comparing(Comparison { numbers, mine: None, theirs, is_staged, is_current });
        if !is_staged {
            self.actions.push_back(ReceiverAction::Control(Message::Status(id, Status::Check)));
        }
        self.actions.push_back(ReceiverAction::Root(id, path, size));
    }

    /// The same content exists, under the name with this number.
    pub(super) fn same(&mut self, id: EntryId, number: u32, root: Option<blake3::Hash>, is_current: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if self.exists == Exists::Replace && !is_current {
            if self.is_dry {
                return self.plan(id, Planned::Update);
            }
            open.state = IncomingState::Updating { root, is_compared: true };
            self.actions.push_back(ReceiverAction::Update(id, open.entry.clone()));
            return;
        }
        if number == 0 && matches!(open.state, IncomingState::Admitting { staged: None }) {
            // The sender needs nothing more to know its content.
            return self.settle_in_place(id, root, Outcome::Identical);
        }
        let renamed = (number > 0).then(|| numbered(&open.entry.path, Some(&number)));
        self.settle(id, Status::Identical(renamed), root, Outcome::Identical);
    }

    /// The file under the name has the entry's size and time.
    fn unchanged(&mut self, id: EntryId, is_current: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if self.exists == Exists::Replace && !is_current {
            if self.is_dry {
                return self.plan(id, Planned::Update);
            }
            open.state = IncomingState::Updating { root: None, is_compared: false };
            self.actions.push_back(ReceiverAction::Update(id, open.entry.clone()));
            return;
        }
        self.settle_in_place(id, None, Outcome::Unchanged);
    }

    /// The existing content is different.
    pub(super) fn different(&mut self, id: EntryId) {
        let staged = self.open.get(&id).and_then(|open| open.state.staged());
        match (self.exists, staged) {
            (Exists::Refuse, _) => self.fail_existing(id),
            (Exists::Rename, _) if self.is_dry => {
                let Some(open) = self.open.get_mut(&id) else { return };
                open.state = IncomingState::Naming;
                self.actions.push_back(ReceiverAction::FindName(id, open.entry.path.clone()));
            }
            (_, _) if self.is_dry => self.plan(id, Planned::Replace),
            (_, Some(Staged { root })) => self.commit(id, root, true),
            (_, None) => self.want(id),
        }
    }

    /// A dry run: `id` ends with what would be done.
    fn plan(&mut self, id: EntryId, planned: Planned) {
        self.settle(id, Status::Planned(planned, None), None, Outcome::Planned(planned));
    }

    /// The name that `id` would get beside what has its own; `None` when there is none.
    pub fn other_name(&mut self, id: EntryId, name: Option<RelPath>) {
        if !matches!(self.open.get(&id), Some(IncomingEntry { state: IncomingState::Naming, .. })) {
            return;
        }
        match name {
            Some(name) => {
                let status = Status::Planned(Planned::Rename, Some(name));
                self.settle(id, status, None, Outcome::Planned(Planned::Rename));
            }
            None => self.fail_existing(id),
        }
    }

    /// Whether the existing file got a new mode and time.
    pub fn updated(&mut self, id: EntryId, result: Result<bool, Failure>) {
        let Some(IncomingEntry { state: IncomingState::Updating { root, is_compared }, .. }) =
            self.open.get(&id)
        else {
            return;
        };
        let (root, is_compared) = (*root, *is_compared);
        match result {
            Ok(true) => self.settle(id, Status::Updated, root, Outcome::Updated),
            Ok(false) if !is_compared => self.settle_in_place(id, None, Outcome::Unchanged),
            Ok(false) => self.settle(id, Status::Identical(None), root, Outcome::Identical),
            Err(failure) => self.fail(id, failure),
        }
    }

    /// Something other than a directory has the name of a directory.
    pub(super) fn block(&mut self, id: EntryId) {
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
    pub(super) fn refused(&mut self, id: EntryId, failure: Failure) {
        let Some(path) = self.entry(id).map(|entry| entry.path.clone()) else { return };
        match self.dirs.blocks(&path) {
            Some((_, Outcome::Skipped)) => self.settle(id, Status::Skipped, None, Outcome::Skipped),
            Some((dir, _)) => {
                let sentence = |dir: &str| format!("its directory {dir} is not a directory");
                let dir = Place::below(&self.target, dir);
                self.fail(id, Failure::about(Side::Receiver, Reason::Refused, &dir, sentence));
            }
            None => self.fail(id, failure),
        }
    }

    /// The content of the existing file under a name of `id`.
    pub fn hashed(&mut self, id: EntryId, existing: Existing) {
        if let Some(IncomingEntry { state: IncomingState::Comparing(comparison), .. }) =
            self.open.get_mut(&id)
        {
            comparison.mine = Some(existing);
            self.compare(id);
        }
    }

    pub(super) fn compare(&mut self, id: EntryId) {
        let Some(IncomingEntry { entry, state: IncomingState::Comparing(comparison), .. }) =
            self.open.get_mut(&id)
        else {
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
                let action = ReceiverAction::Root(id, numbered(&entry.path, Some(next)), entry.size());
                self.actions.push_back(action);
            }
            None => self.different(id),
        }
    }

    pub(super) fn want(&mut self, id: EntryId) {
        if self.is_dry {
            return self.plan(id, Planned::Create);
        }
        let Some(open) = self.open.get_mut(&id) else { return };
        let size = open.entry.size();
        let chunks = size.div_ceil(1 << self.chunk_log2);
        let file = match open.entry.kind {
            Kind::File { .. } if size > 0 && self.in_order.is_some() => {
                IncomingFile::new(RootBuilder::new(chunks), Plan::new(chunks))
            }
            Kind::OpenEnded => IncomingFile::new(RootBuilder::open_ended(), Plan::open_ended()),
            Kind::File { .. } if open.entry.is_resumable(self.chunk_log2) => {
                open.state = IncomingState::Recalling;
                self.actions.push_back(ReceiverAction::Recall(id, open.entry.clone()));
                return;
            }
            Kind::File { size } if size > 0 => IncomingFile::new(RootBuilder::new(1), Plan::new(1)),
            _ => {
                let root = open.entry.is_file().then(|| blake3::hash(b""));
                self.commit(id, root, false);
                return;
            }
        };
        open.state = IncomingState::Receiving(file);
        let status = self.in_order.map_or(Status::Want, Status::WantInOrder);
        self.actions.push_back(ReceiverAction::Control(Message::Status(id, status)));
    }

    pub(super) fn commit(&mut self, id: EntryId, root: Option<blake3::Hash>, is_again: bool) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.state = IncomingState::Committing { root, is_again };
        let entry = open.entry.clone();
        let is_beside = is_again && self.exists == Exists::Rename;
        self.actions.push_back(match is_beside {
            true => ReceiverAction::CommitBeside(id, entry),
            false => ReceiverAction::Commit(id, entry),
        });
    }

    /// The root of a file that is to be committed.
    pub fn committed_root(&self, id: EntryId) -> Option<blake3::Hash> {
        match self.open.get(&id)?.state {
            IncomingState::Committing { root, .. } => root,
            _ => None,
        }
    }

    /// The result of the commit of `id`.
    pub fn committed(&mut self, id: EntryId, committed: Committed) {
        let Some(IncomingEntry { entry, state: IncomingState::Committing { root, is_again }, .. }) =
            self.open.get_mut(&id)
        else {
            return;
        };
        let (root, is_again) = (*root, *is_again);
        match committed {
            Committed::Done(renamed) => {
                self.written_files += u64::from(entry.is_file());
                let (status, outcome) = self.delivered(renamed);
                self.settle(id, status, root, outcome);
            }
            Committed::Exists if self.exists == Exists::Skip => {
                self.actions.push_back(ReceiverAction::Discard(id));
                self.settle(id, Status::Skipped, None, Outcome::Skipped);
            }
            Committed::Exists if is_again || self.exists == Exists::Replace => {
                self.actions.push_back(ReceiverAction::GiveUp(id));
                self.fail_existing(id);
            }
            // Another transfer may have delivered the same content, so the name is looked up again.
            Committed::Exists => {
                let entry = entry.clone();
                self.readmit(id, root);
                self.actions.push_back(ReceiverAction::Admit(id, entry));
            }
            Committed::Refused(failure) | Committed::Denied(failure) | Committed::Differs(failure) => {
                self.fail(id, failure);
            }
            Committed::NotKept => self.settle(id, Status::NotKept, None, Outcome::NotKept),
        }
    }

    pub(super) fn fail_existing(&mut self, id: EntryId) {
        let Some(entry) = self.entry(id) else { return };
        let why = match (&entry.kind, self.exists) {
            (Kind::Dir, _) => "exists and is not a directory",
            (_, Exists::Replace) => "is an existing directory, which is never replaced",
            _ => "already exists with different content",
        };
        let place = Place::below(&self.target, &entry.path);
        let sentence = |path: &str| format!("{path} {why}; nothing was changed");
        self.fail(id, Failure::about(Side::Receiver, Reason::TargetExists, &place, sentence));
    }
}

/// The name with this number; 0 and none are the path itself.
fn numbered(path: &RelPath, number: Option<&u32>) -> RelPath {
    let numbered = number.filter(|number| **number > 0).and_then(|number| path.numbered(*number).ok());
    // Storage finds nothing under a name that is too long.
    numbered.unwrap_or_else(|| path.clone())
}
