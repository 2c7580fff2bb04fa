//! The states of an incoming entry.

use std::collections::VecDeque;

use crate::protocol::engine::plan::{ChunkSet, Plan};
use crate::protocol::engine::receiver::action::Existing;
use crate::protocol::engine::receiver::unrecorded::Checkpoints;
use crate::protocol::hash::RootBuilder;
use crate::protocol::wire::entry::{Entry, EntryId};

#[derive(Debug)]
pub(super) enum IncomingState {
    /// `staged` when it is complete and its name has been taken meanwhile.
    Admitting {
        staged: Option<Staged>,
    },
    Comparing(Comparison),
    /// The disk is asked what an earlier transfer left.
    Recalling,
    /// Chunks are arriving.
    Receiving(IncomingFile),
    /// All of it is written and verified; it becomes durable before its commit.
    Syncing {
        root: blake3::Hash,
        file: IncomingFile,
    },
    /// `is_again` when the name was taken before.
    Committing {
        root: Option<blake3::Hash>,
        is_again: bool,
    },
    /// The same content exists, and gets mode and time; `is_compared` when contents were, or need not be.
    Updating {
        root: Option<blake3::Hash>,
        is_compared: bool,
    },
    /// A dry run looks for the name that it would get.
    Naming,
    /// The directory that ends; `None` when none of that name was open.
    Leaving(Option<EntryId>),
}

impl IncomingState {
    /// The complete entry, unless it has its final name or is being committed.
    pub(super) fn staged(&self) -> Option<Staged> {
        match self {
            Self::Admitting { staged } => *staged,
            Self::Comparing(comparison) => comparison.is_staged.then_some(Staged { root: comparison.theirs }),
            _ => None,
        }
    }

    /// Whether all of the entry has arrived.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Syncing { .. } | Self::Committing { .. }) || self.staged().is_some()
    }
}

/// A file of which chunks are arriving.
#[derive(Debug)]
pub(super) struct IncomingFile {
    pub(super) root: RootBuilder,
    pub(super) plan: Plan,
    /// Chunks that an earlier transfer left, as the sender has been told.
    pub(super) held: ChunkSet,
    /// Wanted chunks that may have bytes on the disk: of a cut stream or an earlier transfer.
    pub(super) cut: ChunkSet,
    /// Held bytes of which it is not known whether they are still the same.
    pub(super) unresolved: u64,
    /// Size of a file of unknown size, once its last chunk is written.
    pub(super) end: Option<u64>,
    pub(super) checkpoints: Checkpoints,
    /// Chunks whose recipe made other bytes. They must come as data.
    pub(super) unmade: ChunkSet,
}

impl IncomingFile {
    pub(super) fn new(root: RootBuilder, plan: Plan) -> Self {
        Self {
            root,
            plan,
            held: ChunkSet::default(),
            cut: ChunkSet::default(),
            unresolved: 0,
            end: None,
            checkpoints: Checkpoints::default(),
            unmade: ChunkSet::default(),
        }
    }
}

/// A file under the name of an entry that will replace it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldFile {
    pub(super) bytes: u64,
    /// How often its signature was asked for.
    pub(super) asked: u32,
}

/// A complete entry, and its root if it is a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    pub(super) root: Option<blake3::Hash>,
}

/// A file, and the existing files that may be the same.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Numbers of the names left; the first is being compared.
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
    /// The file that it will replace.
    pub(super) old: Option<OldFile>,
}
