//! Actions that the sender's machine asks of its driver.

use crate::protocol::not_kept::NotKept;
use crate::protocol::wire::entry::{Entry, EntryId, Settled};
use crate::protocol::wire::message::Message;

/// The content of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// One chunk of a large file.
    Chunk {
        /// The file.
        id: EntryId,
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The next chunk of a file of unknown size; call [`Sender::chunk_read`] after reading it.
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
    /// Claims of chunks of a large file that the receiver holds, in order; call [`Sender::claims_answered`] with the
    /// answer.
    ///
    /// [`Sender::claims_answered`]: super::Sender::claims_answered
    Claims {
        /// The file.
        id: EntryId,
        /// The chunks.
        chunks: Vec<u64>,
    },
}

/// The driver's next action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderAction {
    /// Send on the control stream.
    Control(Message),
    /// Compute the root of the source for a comparison, then call [`Sender::hashed`].
    Root(EntryId),
    /// Check whether the source is still as announced, or has only grown; the root is that of the bytes sent. Then
    /// call [`Sender::verified`].
    Verify(EntryId, blake3::Hash),
    /// An earlier transfer left this many bytes of the file at the receiver.
    Resumed(Entry, u64),
    /// The source of a delivered entry has grown since it was announced.
    Grew(Entry),
    /// An entry has ended; everything kept open for it can be closed.
    Settled(Settled),
}

/// The receiver's last message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverEnd {
    /// The receiver's files are durable.
    pub synced: bool,
    /// Attributes that its file system does not keep; the texts are safe to print.
    pub not_kept: Vec<NotKept>,
}
