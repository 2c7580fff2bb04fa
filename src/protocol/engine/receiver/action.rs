//! What the receiver's machine asks of its driver.

use crate::protocol::failure::Reason;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{Entry, EntryId, Meta, Settled};
use crate::protocol::wire::message::Message;

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Send on the control stream.
    Control(Message),
    /// Look at the final name (and make the directory), then call [`Receiver::admitted`].
    Admit(EntryId, Entry),
    /// Compute the root of the file that is there, of so many bytes, then call [`Receiver::hashed`].
    Root(EntryId, RelPath, u64),
    /// Make durable what is written of it, then call [`Receiver::checkpointed`].
    ///
    /// [`Receiver::checkpointed`]: super::Receiver::checkpointed
    Checkpoint(EntryId),
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

/// The file that has the name of one that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Its root.
    Root(blake3::Hash),
    /// This process may not read it, so it counts as another one.
    Unreadable,
}

/// What to do with a record that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Write it; the size of the file.
    Take(u64),
    /// The same, its holes too: a stream that was cut off may have left bytes where they are now.
    TakeAgain(u64),
    /// Write it: a chunk of a file of unknown size, of at most this many bytes.
    TakeOpen(u64),
    /// Read it and drop it: it is written already.
    Pass,
    /// Ask again when a record has been cut or written: it is coming on another stream, which may have been reset.
    Wait,
}
