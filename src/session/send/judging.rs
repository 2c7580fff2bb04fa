//! What the receiver asks about extras: which of them the source has nothing under.

use std::collections::VecDeque;

use crate::event::{Change, ChangeKind, Event};
use crate::protocol::path::RelPath;
use crate::protocol::removal::Removal;
use crate::protocol::request::Request;

/// Names that wait for the source's disk, one batch at a time, and those that a dry run tells of.
pub(super) struct Judge {
    waiting: VecDeque<Vec<(RelPath, bool)>>,
    is_running: bool,
    is_dry: bool,
    /// Nothing is removed if there are more.
    names_max: Option<u64>,
    /// Told when it is known that there are not too many.
    held: Vec<Event>,
}

impl Judge {
    pub(super) fn new(request: &Request) -> Self {
        let names_max = request.delete.as_ref().and_then(|delete| delete.names_max);
        Self {
            waiting: VecDeque::new(),
            is_running: false,
            is_dry: request.is_dry,
            names_max,
            held: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, names: Vec<(RelPath, bool)>) {
        self.waiting.push_back(names);
    }

    /// The next batch; none while one is judged.
    pub(super) fn next(&mut self) -> Option<Vec<(RelPath, bool)>> {
        let next = if self.is_running { None } else { self.waiting.pop_front() };
        self.is_running |= next.is_some();
        next
    }

    /// These are to be removed. Returns the events of a dry run, as far as they can be told now.
    pub(super) fn judged(&mut self, removed: Vec<(RelPath, bool)>) -> Vec<Event> {
        self.is_running = false;
        if !self.is_dry {
            return Vec::new();
        }
        let change = |(path, is_dir): (RelPath, bool)| {
            let (kind, is_file) = (ChangeKind::Delete, false);
            Event::Change(Change { kind, path, renamed: None, is_dir, is_file, size: 0 })
        };
        let told = removed.into_iter().map(change);
        let Some(max) = self.names_max else { return told.collect() };
        let room = usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(self.held.len());
        self.held.extend(told.take(room));
        Vec::new()
    }

    /// The events that are left, now that the removal has ended.
    pub(super) fn ended(&mut self, removal: &Removal) -> Vec<Event> {
        match removal {
            Removal::Done { .. } => std::mem::take(&mut self.held),
            _ => Vec::new(),
        }
    }
}
