//! Why something failed: one list of reasons for both sides, the wire and the exit code.

use super::path::printable;

/// The side that a failure happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one whose files are read.
    Sender,
    /// The one whose disk is written.
    Receiver,
}

impl Side {
    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    /// `sender` or `receiver`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// The reasons. The numbers are QUIC application error codes and part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// A bug, or something without a reason of its own.
    Internal = 1,
    /// A peer broke the protocol.
    Protocol = 2,
    /// The peers speak no common protocol, or their roles are no counterparts.
    Incompatible = 3,
    /// Nothing answered, or the name did not resolve.
    Unreachable = 4,
    /// Wrong fingerprint, secret or certificate.
    NotAuthenticated = 5,
    /// The ticket has served its one transfer.
    TicketUsed = 6,
    /// A message names an entry or transfer that was never announced.
    UnknownTransfer = 7,
    /// A message names an entry or transfer that has failed already.
    TransferFailed = 8,
    /// A message names an entry or transfer that has ended already.
    TransferEnded = 9,
    /// Something else is under the final name.
    TargetExists = 10,
    /// Another rule of the receiver: a name or kind it does not take, a quota.
    Refused = 11,
    /// The receiver's storage: full, not permitted, I/O error.
    Storage = 12,
    /// The source could not be read.
    SourceUnreadable = 13,
    /// The source changed while it was read.
    SourceChanged = 14,
    /// Bytes and hash do not agree.
    Verification = 15,
    /// Nothing was acked for the time-out.
    AckTimeout = 16,
    /// The connection was lost.
    ConnectionLost = 17,
    /// A person or the system asked a side to stop.
    Interrupted = 18,
    /// An entry of a kind that does not travel: socket, FIFO, device.
    SpecialFile = 19,
    /// This machine is not set up for it: identity, address to listen on, standard output. It does not travel.
    Setup = 20,
    /// The receiver's file system does not keep something about an entry, or a link. It does not travel.
    NotKept = 21,
    /// The source grew while it was sent; what was there when it was announced is delivered. It does not travel.
    SourceGrew = 22,
}

impl Reason {
    /// All of them, for look-ups and tests.
    pub const ALL: [Self; 22] = [
        Self::Internal,
        Self::Protocol,
        Self::Incompatible,
        Self::Unreachable,
        Self::NotAuthenticated,
        Self::TicketUsed,
        Self::UnknownTransfer,
        Self::TransferFailed,
        Self::TransferEnded,
        Self::TargetExists,
        Self::Refused,
        Self::Storage,
        Self::SourceUnreadable,
        Self::SourceChanged,
        Self::Verification,
        Self::AckTimeout,
        Self::ConnectionLost,
        Self::Interrupted,
        Self::SpecialFile,
        Self::Setup,
        Self::NotKept,
        Self::SourceGrew,
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The reason of a number; one that a newer peer invented is [`Self::Internal`].
    pub fn from_code(code: u64) -> Self {
        Self::ALL.into_iter().find(|r| u64::from(r.code()) == code).unwrap_or(Self::Internal)
    }

    /// The exit code that a process ends with when this is the gravest thing that happened.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal
            | Self::Protocol
            | Self::Incompatible
            | Self::UnknownTransfer
            | Self::TransferFailed
            | Self::TransferEnded
            | Self::Setup => 1,
            Self::Unreachable => 3,
            Self::NotAuthenticated | Self::TicketUsed => 4,
            Self::TargetExists | Self::Refused => 5,
            Self::Storage => 6,
            Self::SourceUnreadable | Self::SourceChanged => 7,
            Self::Verification => 8,
            Self::AckTimeout | Self::ConnectionLost | Self::Interrupted => 9,
            Self::SpecialFile | Self::NotKept | Self::SourceGrew => 10,
        }
    }

    /// A stable word for JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Protocol => "protocol",
            Self::Incompatible => "incompatible",
            Self::Unreachable => "unreachable",
            Self::NotAuthenticated => "not-authenticated",
            Self::TicketUsed => "ticket-used",
            Self::UnknownTransfer => "unknown-transfer",
            Self::TransferFailed => "transfer-failed",
            Self::TransferEnded => "transfer-ended",
            Self::TargetExists => "target-exists",
            Self::Refused => "refused",
            Self::Storage => "storage",
            Self::SourceUnreadable => "source-unreadable",
            Self::SourceChanged => "source-changed",
            Self::Verification => "verification",
            Self::AckTimeout => "ack-timeout",
            Self::ConnectionLost => "connection-lost",
            Self::Interrupted => "interrupted",
            Self::SpecialFile => "special-file",
            Self::Setup => "setup",
            Self::NotKept => "not-kept",
            Self::SourceGrew => "source-grew",
        }
    }

    /// Whether the same command can succeed later without anything having been changed.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::AckTimeout
                | Self::ConnectionLost
                | Self::Interrupted
                | Self::SourceChanged
        )
    }
}

/// What went wrong, and on which side. The same value is shown here, sent to the peer, and turned into an exit
/// code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of it.
    pub reason: Reason,
    /// Where it happened; `None` when it is between the two.
    pub side: Option<Side>,
    /// One sentence that names what and where, safe to print.
    pub message: String,
}

impl Failure {
    /// A failure that belongs to no side, or to this process before it knows its side.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, side: None, message: message.into() }
    }

    /// A failure on `side`.
    pub fn on(side: Side, reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, side: Some(side), message: message.into() }
    }

    /// The peer said something that the protocol does not allow.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Reason::Protocol, message)
    }

    /// `self` with its side set, if it had none.
    pub fn or_side(mut self, side: Side) -> Self {
        self.side.get_or_insert(side);
        self
    }

    /// What a peer said, from bytes that may be anything.
    pub fn from_wire(code: u64, side: Option<Side>, text: &[u8]) -> Self {
        let reason = Reason::from_code(code);
        let message = printable(text);
        let message = if message.is_empty() { reason.as_str().to_owned() } else { message };
        Self { reason, side, message }
    }

    /// The graver of two, for the exit code of a transfer with several failed entries.
    pub fn graver(a: Reason, b: Reason) -> Reason {
        let rank = |r: Reason| match r.exit_code() {
            8 => 0,
            6 => 1,
            1 => 2,
            4 => 3,
            3 => 4,
            9 => 5,
            7 => 6,
            5 => 7,
            _ => 8,
        };
        if rank(a) <= rank(b) { a } else { b }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_are_distinct_and_come_back() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(u64::from(reason.code())), reason);
        }
        assert_eq!(Reason::from_code(u64::MAX), Reason::Internal);
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        assert_eq!(Failure::from_wire(12, None, b"\x1b]0;x\x07").message, "\\u{1b}]0;x\\u{7}");
    }
}
