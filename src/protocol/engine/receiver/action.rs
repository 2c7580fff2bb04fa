//! Actions that the receiver's machine asks of its driver.

use std::sync::Arc;

use crate::protocol::announced::Announced;
use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;
use crate::protocol::removal::{Extra, Removal};
use crate::protocol::wire::entry::{Entry, EntryId, Meta, Settled};
use crate::protocol::wire::message::Message;

/// The driver's next action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Send on the control stream.
    Control(Message),
    /// Look at the final name (and make the directory), then call [`Receiver::admitted`].
    Admit(EntryId, Entry),
    /// Compute the root of the existing file, of this many bytes, then call [`Receiver::hashed`].
    Root(EntryId, RelPath, u64),
    /// Find out what an earlier transfer left of a file of several chunks, then call [`Receiver::held`].
    Recall(EntryId, Entry),
    /// An earlier transfer left this many bytes of the file.
    Resumed(Entry, u64),
    /// Call [`Receiver::begin_checkpoint`] and make what it returns durable, then call [`Receiver::checkpointed`].
    ///
    /// [`Receiver::begin_checkpoint`]: super::Receiver::begin_checkpoint
    /// [`Receiver::checkpointed`]: super::Receiver::checkpointed
    Checkpoint(EntryId),
    /// Sync, rename, sync, then call [`Receiver::committed`].
    Commit(EntryId, Entry),
    /// The same, under the first free name.
    CommitBeside(EntryId, Entry),
    /// Find the name that the entry would get, as its own is taken, then call [`Receiver::other_name`].
    ///
    /// [`Receiver::other_name`]: super::Receiver::other_name
    FindName(EntryId, RelPath),
    /// Give the existing file the entry's mode and time, then call [`Receiver::updated`].
    Update(EntryId, Entry),
    /// Drop the staged file, and what is recorded of it.
    Discard(EntryId),
    /// Drop the staged file, unless a later transfer can resume it.
    GiveUp(EntryId),
    /// The sender has lost this extra connection: close it.
    Leave(u32),
    /// Everything in a directory has ended. Set its attributes, if given: an existing directory keeps its own unless
    /// it is to be replaced. Then call [`Receiver::dir_finished`].
    FinishDir(EntryId, RelPath, Option<Meta>),
    /// The target directory itself gets these attributes at the end.
    Top(Meta),
    /// The source of a delivered entry has grown since it was announced.
    Grew(Entry),
    /// An entry has ended.
    Settled(Settled),
    /// Consecutive entries have ended that were here already: send [`Message::Unchanged`] about them.
    Unchanged(Vec<Settled>),
    /// The sender skipped something, and why.
    Omitted(Reason, String),
    /// Find the next extras, then call [`Receiver::extras_found`]. The first time with what was announced.
    ///
    /// [`Receiver::extras_found`]: super::Receiver::extras_found
    FindExtras(Option<Arc<Announced>>),
    /// Note that these are to be removed, then call [`Receiver::extras_noted`].
    ///
    /// [`Receiver::extras_noted`]: super::Receiver::extras_noted
    NoteExtras(Vec<Extra>),
    /// Remove what was noted, or move it to this directory, then call [`Receiver::extras_removed`].
    ///
    /// [`Receiver::extras_removed`]: super::Receiver::extras_removed
    RemoveExtras(Option<RelPath>),
    /// The removal of extras has ended.
    Removal(Removal),
    /// Make everything durable, then call [`Receiver::finished`].
    Finish,
}

/// The existing file under the name of an offered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Its root.
    Root(blake3::Hash),
    /// This process may not read it, so it counts as different.
    Unreadable,
}

/// How to treat a new record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Write it; with the size of the file.
    Take(u64),
    /// Write it, including its holes: a stream that was cut off or an earlier transfer may have left bytes there.
    TakeAgain(u64),
    /// Write it: a chunk of at most this many bytes, of a file of unknown size.
    TakeOpen(u64),
    /// Read and drop it: it is written already.
    Pass,
    /// Ask again after a record has been cut or written, or a checkpoint has ended: the chunk is on another stream,
    /// which may have been reset, or too much is not recorded yet.
    Wait,
}

/// How to treat a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginClaim {
    /// Compare it with this chunk on the disk, then call [`Receiver::claimed`].
    ///
    /// [`Receiver::claimed`]: super::Receiver::claimed
    Compare(u64),
    /// The chunk is written already.
    Matches,
    /// The chunk is wanted.
    Differs,
    /// Ask again after a record has been cut or written.
    Wait,
}
