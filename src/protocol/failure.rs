//! Why something failed: one list of reasons for both sides, the wire and the exit code.

use crate::protocol::path::printable;
use crate::protocol::place::Place;

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
            | Self::UnknownTransfer
            | Self::TransferFailed
            | Self::TransferEnded
            | Self::Setup => 1,
            Self::Unreachable | Self::Incompatible => 3,
            Self::NotAuthenticated | Self::TicketUsed => 4,
            Self::TargetExists | Self::Refused => 5,
            Self::Storage => 6,
            Self::SourceUnreadable | Self::SourceChanged => 7,
            Self::Verification => 8,
            Self::AckTimeout | Self::ConnectionLost | Self::Interrupted => 9,
            Self::SpecialFile | Self::NotKept | Self::SourceGrew => 10,
        }
    }

    /// Why a receiver says that an entry failed; anything else is a rule of its own.
    pub(super) fn of_failed(self) -> Self {
        match self {
            Self::TargetExists | Self::Storage => self,
            _ => Self::Refused,
        }
    }

    /// Why a sender leaves something out; anything else is a source that it cannot read.
    pub(super) fn of_omitted(self) -> Self {
        if self == Self::SpecialFile { self } else { Self::SourceUnreadable }
    }

    /// Why a sender gives an entry up; anything else is a source that it cannot read.
    pub(super) fn of_abandoned(self) -> Self {
        if self == Self::SourceChanged { self } else { Self::SourceUnreadable }
    }

    /// Whether this side believes it of a close by the peer, which is `peer`: only what concerns the peer itself, or the
    /// two together. A verdict on a dialler is only given in the greeting.
    fn may_be_said_by(self, peer: Side, is_greeting: bool) -> bool {
        match self {
            // Either has a disk that may hang.
            Self::AckTimeout | Self::Interrupted | Self::Storage => true,
            Self::Incompatible | Self::NotAuthenticated | Self::TicketUsed => is_greeting,
            Self::Refused | Self::Verification => peer == Side::Receiver,
            Self::SourceUnreadable | Self::SourceChanged => peer == Side::Sender,
            _ => false,
        }
    }

    /// What a peer is told for a failure that has no text of its own for it. Only reasons that never concern a file of
    /// this machine have none: their messages travel as they are.
    fn gist(self) -> Option<&'static str> {
        match self {
            Self::Internal => Some("an internal error"),
            Self::TargetExists => Some("the name is taken"),
            Self::Refused => Some("it is not allowed"),
            Self::Storage => Some("the disk failed"),
            Self::SourceUnreadable => Some("a source cannot be read"),
            Self::SourceChanged => Some("a source changed"),
            Self::SpecialFile => Some("a special file was skipped"),
            Self::Setup => Some("the machine is not set up"),
            Self::NotKept => Some("the file system cannot keep everything"),
            Self::SourceGrew => Some("a source grew"),
            Self::Protocol
            | Self::Incompatible
            | Self::Unreachable
            | Self::NotAuthenticated
            | Self::TicketUsed
            | Self::UnknownTransfer
            | Self::TransferFailed
            | Self::TransferEnded
            | Self::Verification
            | Self::AckTimeout
            | Self::ConnectionLost
            | Self::Interrupted => None,
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
/// code. The message may name paths of this machine; [`Failure::for_peer`] does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of it.
    pub reason: Reason,
    /// Where it happened; `None` when it is between the two.
    pub side: Option<Side>,
    /// One sentence that names what and where, safe to print. For people on this side.
    pub message: String,
    /// The peer said so when it closed the connection.
    pub from_peer: bool,
    /// The same sentence for the peer.
    told: Option<String>,
}

impl Failure {
    /// A failure that belongs to no side, or to this process before it knows its side.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, side: None, message: message.into(), from_peer: false, told: None }
    }

    /// A failure on `side`.
    pub fn on(side: Side, reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, side: Some(side), message: message.into(), from_peer: false, told: None }
    }

    /// A failure on `side` that concerns `place`: `sentence` is made with each of its names.
    pub fn about(side: Side, reason: Reason, place: &Place, sentence: impl Fn(&str) -> String) -> Self {
        Self { told: Some(sentence(place.told())), ..Self::on(side, reason, sentence(place.own())) }
    }

    /// What travels to the peer, in a close or a message. Only [`Failure::about`] gives a text that names a file; without
    /// one, a failure that may concern a file of this machine is told by its kind alone.
    pub fn for_peer(&self) -> &str {
        self.told.as_deref().or(self.reason.gist()).unwrap_or(&self.message)
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

    /// What a peer said when it closed the connection, from bytes that may be anything. Of its code only that is taken
    /// over which some peer may say at some time; [`Failure::heard_by`] looks closer.
    pub fn from_wire(code: u64, text: &[u8]) -> Self {
        let said = Reason::from_code(code);
        let may_be_said = |side| said.may_be_said_by(side, true);
        let is_believed = may_be_said(Side::Sender) || may_be_said(Side::Receiver);
        let message = printable(text);
        let message = if message.is_empty() { said.as_str().to_owned() } else { message };
        let reason = if is_believed { said } else { Reason::ConnectionLost };
        Self { reason, side: None, message, from_peer: true, told: None }
    }

    /// The same at the side `own`, which knows who its peer is: a peer speaks for nobody else, and what it cannot know
    /// or decide just says that it has ended the transfer.
    pub fn heard_by(mut self, own: Side, is_greeting: bool) -> Self {
        if self.from_peer {
            self.side = Some(own.peer());
            if !self.reason.may_be_said_by(own.peer(), is_greeting) {
                self.reason = Reason::ConnectionLost;
            }
        }
        self
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
        assert_eq!(Failure::from_wire(12, b"\x1b]0;x\x07").message, "\\u{1b}]0;x\\u{7}");
    }

    /// Fault 15: a text that nobody has written for the peer does not travel when it may name a path of this machine.
    #[test]
    fn fault_15_a_message_with_a_path_does_not_travel_by_accident() {
        for reason in Reason::ALL {
            let concerns_files = [5, 6, 7, 10].contains(&reason.exit_code())
                || matches!(reason, Reason::Internal | Reason::Setup);
            let told = Failure::on(Side::Sender, reason, "cannot open /home/a/b");
            assert_eq!(told.for_peer() == told.message, !concerns_files, "{}", reason.as_str());
            assert!(!told.for_peer().is_empty());
            let sentence = |path: &str| format!("cannot open {path}: no");
            let told = Failure::about(Side::Sender, reason, &Place::new("/home/a/b", "a/b"), sentence);
            let texts = (told.message.as_str(), told.for_peer());
            assert_eq!(texts, ("cannot open /home/a/b: no", "cannot open a/b: no"));
        }
    }

    /// Fault 13: a peer's close decides no more than the peer can know.
    #[test]
    fn fault_13_a_peer_speaks_for_itself_only() {
        for (code, own, greeting, exit_code) in [
            // Nobody but this side knows that it is done, or done but for some entries, or has a bug.
            (19, Side::Receiver, false, 9),
            (19, Side::Sender, true, 9),
            (1, Side::Sender, false, 9),
            (2, Side::Receiver, false, 9),
            (20, Side::Sender, false, 9),
            (21, Side::Receiver, false, 9),
            (u64::MAX, Side::Receiver, false, 9),
            (4, Side::Sender, true, 9),
            // Both have a disk; the receiver verifies, the sender has a source.
            (12, Side::Sender, false, 6),
            (12, Side::Receiver, false, 6),
            (15, Side::Sender, false, 8),
            (15, Side::Receiver, false, 9),
            (13, Side::Receiver, false, 7),
            (13, Side::Sender, false, 9),
            // Whoever has been let in has been let in.
            (5, Side::Sender, true, 4),
            (6, Side::Receiver, true, 4),
            (5, Side::Sender, false, 9),
            (3, Side::Sender, true, 3),
            (3, Side::Sender, false, 9),
            (16, Side::Sender, false, 9),
            (18, Side::Receiver, false, 9),
        ] {
            let failure = Failure::from_wire(code, b"text").heard_by(own, greeting);
            let got = (failure.reason.exit_code(), failure.side, failure.message.as_str());
            assert_eq!(got, (exit_code, Some(own.peer()), "text"), "{code} at the {}", own.as_str());
            assert!(failure.from_peer);
        }
        for reason in Reason::ALL {
            assert!([5, 6].contains(&reason.of_failed().exit_code()));
            assert!([7, 10].contains(&reason.of_omitted().exit_code()));
            assert_eq!(reason.of_abandoned().exit_code(), 7);
        }
        let own = Failure::on(Side::Sender, Reason::Internal, "a bug").heard_by(Side::Sender, false);
        assert_eq!((own.reason, own.side), (Reason::Internal, Some(Side::Sender)));
    }
}
