//! What the sender's machine asks of its driver.

use crate::protocol::not_kept::NotKept;
use crate::protocol::wire::entry::{Entry, EntryId, Settled};
use crate::protocol::wire::message::Message;

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
    /// The next chunk of a file whose size is not known; tell [`Sender::chunk_read`] when it has been read.
    ///
    /// [`Sender::chunk_read`]: super::Sender::chunk_read
    OpenChunk {
        /// The file.
        id: EntryId,
        /// First byte.
        offset: u64,
    },
    /// Whole small files.
    Files(Vec<EntryId>),
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderAction {
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

/// The receiver's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverEnd {
    /// What it has is durable.
    pub synced: bool,
    /// What its file system does not keep; the texts are safe to print.
    pub not_kept: Vec<NotKept>,
}
