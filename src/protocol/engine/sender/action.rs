//! Actions that the sender's machine asks of its driver.

use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::removal::Removal;
use crate::protocol::wire::entry::{Entry, EntryId, Settled};
use crate::protocol::wire::message::Message;
use crate::protocol::wire::seal::Seal;

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
    /// A request for the signature of the file that this one replaces; call [`Sender::signature_answered`] with the
    /// answer.
    ///
    /// [`Sender::signature_answered`]: super::Sender::signature_answered
    Signature {
        /// The file.
        id: EntryId,
        /// Size of the old file.
        old_bytes: u64,
        /// Average size of pieces, as a power of two.
        piece_log2: u8,
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

impl Parcel {
    /// Its files.
    pub fn ids(&self) -> &[EntryId] {
        match self {
            Self::Chunk { id, .. }
            | Self::OpenChunk { id, .. }
            | Self::Signature { id, .. }
            | Self::Claims { id, .. } => std::slice::from_ref(id),
            Self::Files(ids) => ids,
        }
    }

    /// The large file that it is about.
    pub fn file(&self) -> Option<EntryId> {
        match self {
            Self::Files(_) => None,
            _ => self.ids().first().copied(),
        }
    }
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
    /// Find out which of these may be removed at the receiver, because the source has nothing there; whether each is a
    /// directory. Then call [`Sender::judged`]; in this order, if there are several.
    ///
    /// [`Sender::judged`]: super::Sender::judged
    Judge(Vec<(RelPath, bool)>),
    /// An entry has ended; everything kept open for it can be closed.
    Settled(Settled),
}

/// The receiver's last message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverEnd {
    /// The receiver's files are durable.
    pub synced: bool,
    /// Files that were received and read back from the receiver's disk, if it does that.
    pub verified: Option<u64>,
    /// How the removal of extras ended, if it was asked for; its text is safe to print.
    pub removal: Option<Removal>,
    /// What it adds to a receipt.
    pub seal: Option<Seal>,
    /// Attributes that its file system does not keep; the texts are safe to print.
    pub not_kept: Vec<NotKept>,
    /// How the program ended that it ran after the transfer.
    pub program: Option<ProgramEnd>,
}
