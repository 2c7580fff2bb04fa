//! The messages of the control stream, the manifest stream and the answers to parcels.

use std::ops::Range;

use bytes::Bytes;

use crate::protocol::delta::pieces::{Piece, SignatureState};
use crate::protocol::failure::Reason;
use crate::protocol::not_kept::NotKept;
use crate::protocol::path::RelPath;
use crate::protocol::program_end::ProgramEnd;
use crate::protocol::removal::Removal;
use crate::protocol::request::Request;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId, Meta};
use crate::protocol::wire::role::Role;
use crate::protocol::wire::seal::Seal;
use crate::protocol::wire::status::Status;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Dialler to listener, the first message: its role, and how it proves itself.
    Hello {
        /// The dialler's role.
        role: Role,
        /// Name and version of the program.
        agent: String,
        /// Number of the method of authentication.
        method: u8,
        /// The method's first message, at most [`AUTH_BYTES_MAX`](crate::protocol::wire::limits::AUTH_BYTES_MAX).
        auth: Bytes,
        /// Connections wanted, 1 to [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX); none leaves
        /// the number to the listener.
        connections: Option<u32>,
    },
    /// Both ways in turn, before `Welcome`: the method's next message.
    Auth(Bytes),
    /// Listener to dialler: the dialler is let in.
    Welcome {
        /// Name and version of the program.
        agent: String,
        /// UDP ports in addition to the first, one for each extra connection; fewer than
        /// [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX).
        ports: Vec<u16>,
    },
    /// Dialler to listener, the only message of an extra connection: it belongs to the session.
    Join {
        /// Its number, below [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX). 0 replaces the
        /// connection that carries the control stream.
        lane: u32,
        /// Proof of the session's secret, bound to this connection.
        proof: [u8; 32],
    },
    /// Sender to receiver: the extra connection with this number is lost, and its data is sent again.
    Left(u32),
    /// Both ways, first on the control stream of a replacement connection: numbers of the last messages received over
    /// earlier ones.
    Attach(Received),
    /// Both ways: numbers of the last messages received. The peer need not keep those.
    Confirm(Received),
    /// Sender to receiver: a transfer begins.
    Offer {
        /// Its random id.
        transfer: [u8; 16],
        /// Chunk size as a power of two.
        chunk_log2: u8,
        /// Whether the sender wants a receipt.
        wants_receipt: bool,
        /// What else the sender asks for.
        request: Request,
    },
    /// Receiver to sender, before any status: it reads records that are [packed], if this is odd. The other bits are for
    /// later.
    ///
    /// [packed]: crate::protocol::wire::record::RecordKind::Packed
    Unpacks(u64),
    /// Receiver to sender: the status of an entry.
    Status(EntryId, Status),
    /// Receiver to sender: the final status of so many entries from this one on, at least one and at most
    /// [`OPEN_ENTRIES_MAX`](crate::protocol::wire::limits::OPEN_ENTRIES_MAX). The same links and empty files are here, and
    /// files that have not changed, as their size and time say.
    Unchanged(EntryId, u64),
    /// Receiver to sender, after all entries are settled: paths in announced directories that were not announced, and
    /// whether each is a directory. 1 to [`EXTRAS_MAX`](crate::protocol::wire::limits::EXTRAS_MAX); what is in a
    /// directory comes before it.
    Extras(Vec<(RelPath, bool)>),
    /// Sender to receiver, the answer to [`Message::Extras`]: bit `n`, counted from the lowest, says whether path `n` is to
    /// be removed.
    Verdict(u64),
    /// Receiver to sender, before [`Message::Finished`], if the offer asks for the removal of extras: how it ended.
    Removed(Removal),
    /// Sender to receiver, the answer to [`Status::Check`]: root of the source.
    Digest(EntryId, [u8; 32]),
    /// Sender to receiver: all chunks of a large file are acked, this is the root, and the source is unchanged, or
    /// has only grown (true). The size, if the entry did not tell it.
    Close(EntryId, [u8; 32], bool, Option<u64>),
    /// Sender to receiver: the source failed. The answer is [`Status::Failed`].
    Abandon(EntryId, Reason, String),
    /// Both ways, at least once a second and on each change.
    Heartbeat(Activity),
    /// Receiver to sender, with a heart-beat: bytes of files received so far, including holes.
    Came(u64),
    /// Receiver to sender: everything finished is durable.
    Finished {
        /// Whether everything is durable: no sync is missing.
        synced: bool,
        /// Attributes that its file system does not keep; at most [`crate::protocol::wire::limits::NOT_KEPT_MAX`].
        not_kept: Vec<NotKept>,
    },
    /// Receiver to sender, before [`Message::Finished`]: this many files were received, and all of them were read back
    /// from the disk.
    Verified(u64),
    /// Receiver to sender, before [`Message::Finished`], if the offer asks for a receipt.
    Seal(Seal),
    /// Receiver to sender, before [`Message::Finished`]: a program ran after the transfer, and ended like this.
    Ran(ProgramEnd),
    /// Receiver to sender: all durable chunks of a file so far, as ranges in order that do not touch; at most
    /// [`CHUNK_RANGES_MAX`](crate::protocol::wire::limits::CHUNK_RANGES_MAX).
    Durable(EntryId, Vec<Range<u64>>),
    /// Manifest: the next entry. Its position is its number.
    Entry(Entry),
    /// Manifest: some bytes of the attributes of the next entry, which do not fit into it.
    Attributes(Bytes),
    /// Manifest: what the target directory itself gets, if the sender keeps the attributes of a directory whose contents
    /// it sends.
    Top(Meta),
    /// Manifest: the end, with the number of entries as a check.
    End(u64),
    /// Manifest: something the walk skipped. It has no number.
    Omitted(Reason, String),
    /// On a parcel's stream: this many records, all of them, are written and verified.
    Ack(u64),
    /// On a parcel's stream: a record was refused.
    Nack(Reason),
    /// Receiver to sender, before [`Status::Want`] or [`Status::Resume`]: a file of this size is under the name, and
    /// will be replaced.
    Old(EntryId, u64),
    /// On the stream of a parcel of claims: bit `n`, counted from the lowest, says whether claim `n` is true of the
    /// bytes that the receiver holds. The chunks of the others are wanted.
    Matched(u64),
    /// On the stream of a request for a signature: the next pieces of the old file, at most
    /// [`MESSAGE_PIECES_MAX`](crate::protocol::wire::limits::MESSAGE_PIECES_MAX).
    Pieces(SignatureState, Vec<Piece>),
}

/// Numbers of the last messages that a side has handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Of the control stream.
    pub control: u64,
    /// Of the manifest stream; always 0 at the sender.
    pub manifest: u64,
}

impl Message {
    /// Whether it is numbered and kept until the peer confirms it. Of other types only the latest counts.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Self::Heartbeat(_) | Self::Came(_) | Self::Confirm(_))
    }

    /// Its name in the text of a breach, without its fields: those come from the peer.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Auth(_) => "Auth",
            Self::Welcome { .. } => "Welcome",
            Self::Offer { .. } => "Offer",
            Self::Unpacks(_) => "Unpacks",
            Self::Status(_, status) => status.name(),
            Self::Unchanged(..) => "Unchanged",
            Self::Extras(_) => "Extras",
            Self::Verdict(_) => "Verdict",
            Self::Removed(_) => "Removed",
            Self::Digest(..) => "Digest",
            Self::Close(..) => "Close",
            Self::Abandon(..) => "Abandon",
            Self::Heartbeat(_) => "Heartbeat",
            Self::Finished { .. } => "Finished",
            Self::Verified(_) => "Verified",
            Self::Seal(_) => "Seal",
            Self::Ran(_) => "Ran",
            Self::Join { .. } => "Join",
            Self::Left(_) => "Left",
            Self::Came(_) => "Came",
            Self::Durable(..) => "Durable",
            Self::Attach(_) => "Attach",
            Self::Confirm(_) => "Confirm",
            Self::Entry(_) => "Entry",
            Self::Attributes(_) => "Attributes",
            Self::Top(_) => "Top",
            Self::End(_) => "End",
            Self::Omitted(..) => "Omitted",
            Self::Ack(_) => "Ack",
            Self::Nack(_) => "Nack",
            Self::Matched(_) => "Matched",
            Self::Old(..) => "Old",
            Self::Pieces(..) => "Pieces",
        }
    }
}

#[cfg(test)]
mod tests;
