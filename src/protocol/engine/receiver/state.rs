//! The states of an entry on its way in.

use std::collections::{BTreeSet, VecDeque};

use crate::protocol::engine::plan::Plan;
use crate::protocol::engine::receiver::action::Existing;
use crate::protocol::hash::RootBuilder;
use crate::protocol::wire::entry::{Entry, EntryId};

#[derive(Debug)]
pub(super) enum IncomingState {
    /// `staged` when it is complete and its name has been taken meanwhile.
    Admitting {
        staged: Option<Staged>,
    },
    Comparing(Comparison),
    /// Chunks are coming.
    Receiving {
        root: RootBuilder,
        plan: Plan,
        /// Chunks of which a stream that was cut off may have left bytes.
        cut: BTreeSet<u64>,
        /// Size of a file of unknown size, once its last chunk is written.
        end: Option<u64>,
    },
    /// All of it is written and verified; it is made durable before its commit.
    Syncing {
        root: blake3::Hash,
        plan: Plan,
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

impl IncomingState {
    /// What is complete and neither has its name nor is about to get it.
    pub(super) fn staged(&self) -> Option<Staged> {
        match self {
            Self::Admitting { staged } => *staged,
            Self::Comparing(comparison) => comparison.is_staged.then_some(Staged { root: comparison.theirs }),
            _ => None,
        }
    }

    /// All of the entry has come.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Syncing { .. } | Self::Committing { .. }) || self.staged().is_some()
    }
}

/// A complete entry; with its root, if it is a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    pub(super) root: Option<blake3::Hash>,
}

/// A file, and those that are there and may be the same.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Numbers of the names that are left; the first is being looked at.
    pub(super) numbers: VecDeque<u32>,
    pub(super) mine: Option<Existing>,
    pub(super) theirs: Option<blake3::Hash>,
    pub(super) is_staged: bool,
    pub(super) is_current: bool,
}

#[derive(Debug)]
pub(super) struct IncomingEntry {
    pub(super) entry: Entry,
    pub(super) state: IncomingState,
    /// The source has grown since it was announced.
    pub(super) is_grown: bool,
}
