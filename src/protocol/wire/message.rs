//! The messages of the control stream, the manifest stream and the answers to parcels.

use std::ops::Range;

use bytes::Bytes;

use crate::protocol::failure::Reason;
use crate::protocol::not_kept::NotKept;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::protocol::wire::role::Role;
use crate::protocol::wire::status::Status;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Dialler to listener, first of all: what it wants, and how it proves itself.
    Hello {
        /// What the dialler wants to do.
        role: Role,
        /// Name and version of the program.
        agent: String,
        /// Number of the method of authentication.
        method: u8,
        /// The method's first message, at most [`AUTH_BYTES_MAX`](crate::protocol::wire::limits::AUTH_BYTES_MAX).
        auth: Bytes,
        /// Connections that it asks for, 1 to [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX); none leaves it to the listener.
        connections: Option<u32>,
    },
    /// Both ways in turn, before `Welcome`: the next message of the method.
    Auth(Bytes),
    /// Listener to dialler: let in.
    Welcome {
        /// Name and version of the program.
        agent: String,
        /// UDP ports beside the first, one for each extra connection; fewer than
        /// [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX).
        ports: Vec<u16>,
    },
    /// Dialler to listener, first and only on an extra connection: it belongs to the session.
    Join {
        /// Its number, below [`CONNECTIONS_MAX`](crate::protocol::wire::limits::CONNECTIONS_MAX). 0 replaces the
        /// connection that carries the control stream.
        lane: u32,
        /// Proof of the session's secret bound to this connection.
        proof: [u8; 32],
    },
    /// Sender to receiver: it has lost the extra connection of that number, and sends again what was on it.
    Left(u32),
    /// Both ways, first on the control stream of a connection that replaces another: numbers of the last messages that
    /// came over the earlier ones.
    Attach(Received),
    /// Both ways: numbers of the last messages that have come, so that their sender need not keep them.
    Confirm(Received),
    /// Sender to receiver: a transfer begins.
    Offer {
        /// Its random name.
        transfer: [u8; 16],
        /// Chunk size as a power of two.
        chunk_log2: u8,
    },
    /// Receiver to sender: what became of an entry.
    Status(EntryId, Status),
    /// Sender to receiver, the answer to [`Status::Check`]: root of the source.
    Digest(EntryId, [u8; 32]),
    /// Sender to receiver: all chunks of a large file are acked, this is the root, and the source has not changed, or
    /// only grown (true). The size, if the entry did not say it.
    Close(EntryId, [u8; 32], bool, Option<u64>),
    /// Sender to receiver: the source failed. Answered by [`Status::Failed`].
    Abandon(EntryId, Reason, String),
    /// Both ways, at least once a second and when it changes.
    Heartbeat(Activity),
    /// Receiver to sender, with a heart-beat: bytes of files that have come so far, holes counted.
    Came(u64),
    /// Receiver to sender: everything that is done is durable.
    Finished {
        /// What it has is durable: every sync was made.
        synced: bool,
        /// What its file system does not keep; at most [`crate::protocol::wire::limits::NOT_KEPT_MAX`].
        not_kept: Vec<NotKept>,
    },
    /// Receiver to sender: all chunks of a file that are durable so far, as ranges in order that do not touch; at most
    /// [`DURABLE_RANGES_MAX`](crate::protocol::wire::limits::DURABLE_RANGES_MAX).
    Durable(EntryId, Vec<Range<u64>>),
    /// Manifest: the next entry. Its number is its place.
    Entry(Entry),
    /// Manifest: there are no more; the count of entries, for a check.
    End(u64),
    /// Manifest: something that the walk came upon and cannot send. It has no number.
    Omitted(Reason, String),
    /// On a parcel's stream: all records are written and verified; how many.
    Ack(u64),
    /// On a parcel's stream: a record was not taken.
    Nack(Reason),
}

/// Numbers of the last messages that a side has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Of the control stream.
    pub control: u64,
    /// Of the manifest stream; always 0 at the sender.
    pub manifest: u64,
}

impl Message {
    /// It has a number and is kept until the peer has confirmed it. Of the others only the latest counts.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Self::Heartbeat(_) | Self::Came(_) | Self::Confirm(_))
    }

    /// What it is called, for the words of a breach: its fields are the peer's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Auth(_) => "Auth",
            Self::Welcome { .. } => "Welcome",
            Self::Offer { .. } => "Offer",
            Self::Status(_, status) => status.name(),
            Self::Digest(..) => "Digest",
            Self::Close(..) => "Close",
            Self::Abandon(..) => "Abandon",
            Self::Heartbeat(_) => "Heartbeat",
            Self::Finished { .. } => "Finished",
            Self::Join { .. } => "Join",
            Self::Left(_) => "Left",
            Self::Came(_) => "Came",
            Self::Durable(..) => "Durable",
            Self::Attach(_) => "Attach",
            Self::Confirm(_) => "Confirm",
            Self::Entry(_) => "Entry",
            Self::End(_) => "End",
            Self::Omitted(..) => "Omitted",
            Self::Ack(_) => "Ack",
            Self::Nack(_) => "Nack",
        }
    }
}

#[cfg(test)]
mod tests;
