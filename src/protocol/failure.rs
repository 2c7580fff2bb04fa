//! Failures: one list of reasons for both sides, the wire and the exit code.

use crate::protocol::path::printable;
use crate::protocol::place::Place;

/// The side of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side whose files are read.
    Sender,
    /// The side whose disk is written.
    Receiver,
}

impl Side {
    /// The other side.
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

/// The reasons. Their numbers are QUIC application error codes and part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// A bug, or anything without its own reason.
    Internal = 1,
    /// A peer broke the protocol.
    Protocol = 2,
    /// The peers have no common protocol, or their roles do not match.
    Incompatible = 3,
    /// No answer, or the name did not resolve.
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
    /// Another rule of the receiver: a name or kind it does not accept, a quota.
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
    /// An entry of a kind that is not sent: socket, FIFO, device.
    SpecialFile = 19,
    /// Wrong setup of this host: identity, address to listen on, standard output. Never sent.
    Setup = 20,
    /// An attribute of an entry, or a link, is not kept. Sent only about what the sender leaves out.
    NotKept = 21,
    /// The source grew while it was sent; the bytes announced are delivered. Never sent.
    SourceGrew = 22,
    /// A source should have been removed, and was not. Never sent.
    SourceRemains = 23,
    /// A listener serves as many sessions as it can.
    Busy = 24,
    /// The ticket was good for a time that is over.
    TicketExpired = 25,
    /// Everything arrived, and the program that the receiver ran after it failed. Never sent.
    ProgramFailed = 26,
    /// Something should have been removed at the receiver, and was not. Never sent.
    ExtrasRemain = 27,
}

impl Reason {
    /// All reasons, for look-ups and tests.
    pub const ALL: [Self; 27] = [
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
        Self::SourceRemains,
        Self::Busy,
        Self::TicketExpired,
        Self::ProgramFailed,
        Self::ExtrasRemain,
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The reason with this number; unknown numbers of newer peers are [`Self::Internal`].
    pub fn from_code(code: u64) -> Self {
        Self::ALL.into_iter().find(|r| u64::from(r.code()) == code).unwrap_or(Self::Internal)
    }

    /// The exit code of a process whose gravest failure this is.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal
            | Self::Protocol
            | Self::UnknownTransfer
            | Self::TransferFailed
            | Self::TransferEnded
            | Self::Setup => 1,
            Self::Unreachable | Self::Incompatible | Self::Busy => 3,
            Self::NotAuthenticated | Self::TicketUsed | Self::TicketExpired => 4,
            Self::TargetExists | Self::Refused => 5,
            Self::Storage => 6,
            Self::SourceUnreadable | Self::SourceChanged => 7,
            Self::Verification => 8,
            Self::AckTimeout | Self::ConnectionLost | Self::Interrupted => 9,
            Self::SpecialFile
            | Self::NotKept
            | Self::SourceGrew
            | Self::SourceRemains
            | Self::ProgramFailed
            | Self::ExtrasRemain => 10,
        }
    }

    /// The reason as a receiver's verdict on an entry; other reasons become a rule of the receiver.
    pub(super) fn of_failed(self) -> Self {
        match self {
            Self::TargetExists | Self::Storage | Self::Verification => self,
            _ => Self::Refused,
        }
    }

    /// The reason for a sender to skip something; other reasons become an unreadable source.
    pub(super) fn of_omitted(self) -> Self {
        if matches!(self, Self::SpecialFile | Self::NotKept) { self } else { Self::SourceUnreadable }
    }

    /// The reason for a sender to give an entry up; other reasons become an unreadable source.
    pub(super) fn of_abandoned(self) -> Self {
        if self == Self::SourceChanged { self } else { Self::SourceUnreadable }
    }

    /// Whether this side believes the reason in a close by `peer`. It must concern the peer itself, or both sides
    /// together. Refusals of a dialler are only valid in the greeting.
    fn may_be_said_by(self, peer: Side, is_greeting: bool) -> bool {
        match self {
            // Either side has a disk that may hang. A receiver whose set is incomplete ends with the reason of the entry
            // that is missing, and that may be its source.
            Self::AckTimeout
            | Self::Interrupted
            | Self::Storage
            | Self::SourceUnreadable
            | Self::SourceChanged => true,
            Self::Incompatible
            | Self::NotAuthenticated
            | Self::TicketUsed
            | Self::TicketExpired
            | Self::Busy => is_greeting,
            Self::TargetExists | Self::Refused | Self::Verification => peer == Side::Receiver,
            _ => false,
        }
    }

    /// The text for the peer, for failures whose message was not written for it. `None` for reasons that never
    /// concern a file of this host: their messages are sent as they are.
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
            Self::SourceRemains => Some("a source was not removed"),
            Self::ProgramFailed => Some("a program failed"),
            Self::ExtrasRemain => Some("something was not deleted"),
            Self::Protocol
            | Self::Incompatible
            | Self::Unreachable
            | Self::NotAuthenticated
            | Self::TicketUsed
            | Self::TicketExpired
            | Self::UnknownTransfer
            | Self::TransferFailed
            | Self::TransferEnded
            | Self::Verification
            | Self::AckTimeout
            | Self::ConnectionLost
            | Self::Busy
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
            Self::SourceRemains => "source-remains",
            Self::Busy => "busy",
            Self::TicketExpired => "ticket-expired",
            Self::ProgramFailed => "program-failed",
            Self::ExtrasRemain => "extras-remain",
        }
    }

    /// Whether the same command can succeed later without any change.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Busy
                | Self::AckTimeout
                | Self::ConnectionLost
                | Self::Interrupted
                | Self::SourceChanged
        )
    }
}

/// What went wrong, and on which side. The same value is shown here, sent to the peer, and turned into an exit code.
/// The message may name paths of this host; [`Failure::for_peer`] does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Its reason.
    pub reason: Reason,
    /// Its side; `None` when it is between the two.
    pub side: Option<Side>,
    /// One sentence that names the failure and its place, safe to print. For users on this side.
    pub message: String,
    /// The peer's close said so.
    pub from_peer: bool,
    /// The message also says what to do.
    pub advises: bool,
    /// The same sentence for the peer.
    told: Option<String>,
}

impl Failure {
    /// A failure without a side, or of this process before it knows its side.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, side: None, message: message.into(), from_peer: false, advises: false, told: None }
    }

    /// A failure on `side`.
    pub fn on(side: Side, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            side: Some(side),
            message: message.into(),
            from_peer: false,
            advises: false,
            told: None,
        }
    }

    /// A failure whose message also says what to do.
    pub fn advising(reason: Reason, message: impl Into<String>) -> Self {
        Self { advises: true, ..Self::new(reason, message) }
    }

    /// The same failure, of which the peer is told `text`.
    pub fn telling(self, text: impl Into<String>) -> Self {
        Self { told: Some(text.into()), ..self }
    }

    /// A failure whose message is written for both sides.
    pub fn told(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { told: Some(message.clone()), ..Self::new(reason, message) }
    }

    /// A failure on `side` about `place`; `sentence` is called with each of its names.
    pub fn about(side: Side, reason: Reason, place: &Place, sentence: impl Fn(&str) -> String) -> Self {
        Self { told: Some(sentence(place.told())), ..Self::on(side, reason, sentence(place.own())) }
    }

    /// The text sent to the peer, in a close or a message. Only [`Failure::about`] gives a text that names a file;
    /// without it, the peer learns only the kind of a failure that may concern a file of this host.
    pub fn for_peer(&self) -> &str {
        self.told.as_deref().or(self.reason.gist()).unwrap_or(&self.message)
    }

    /// The peer broke the protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Reason::Protocol, message)
    }

    /// The failure of a set that is all or nothing: this one is of one of its entries.
    pub fn of_set(self) -> Self {
        let whole = |message: &str| format!("{message}; it is all or nothing, so none of it arrives");
        Self { told: Some(whole(self.for_peer())), message: whole(&self.message), ..self }
    }

    /// `self` with its side set, if it had none.
    pub fn or_side(mut self, side: Side) -> Self {
        self.side.get_or_insert(side);
        self
    }

    /// The failure in a peer's close, from arbitrary bytes. Unknown codes, and codes that no peer may send, are not
    /// taken over; [`Failure::heard_by`] checks the rest.
    pub fn from_wire(code: u64, text: &[u8]) -> Self {
        let said = Reason::from_code(code);
        let may_be_said = |side| said.may_be_said_by(side, true);
        let is_believed = may_be_said(Side::Sender) || may_be_said(Side::Receiver);
        let message = printable(text);
        let message = if message.is_empty() { said.as_str().to_owned() } else { message };
        let reason = if is_believed { said } else { Reason::ConnectionLost };
        Self { reason, side: None, message, from_peer: true, advises: false, told: None }
    }

    /// The same failure at the side `own`, which knows its peer's side. A peer speaks only for itself: a reason it
    /// cannot know or decide just means that it has ended the transfer.
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

    /// Fault 15: a text not written for the peer is not sent when it may name a path of this host.
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

    /// Fault 13: a peer's close decides nothing that the peer cannot know.
    #[test]
    fn fault_13_a_peer_speaks_for_itself_only() {
        for (code, own, greeting, exit_code) in [
            // Only this side knows whether it is done, or done except for some entries, or has a bug.
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
            // The source of an entry without which a set does not arrive.
            (13, Side::Sender, false, 7),
            (10, Side::Sender, false, 5),
            (10, Side::Receiver, false, 9),
            // A dialler that was let in cannot be refused later.
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
            assert!([5, 6, 8].contains(&reason.of_failed().exit_code()));
            assert!([7, 10].contains(&reason.of_omitted().exit_code()));
            assert_eq!(reason.of_abandoned().exit_code(), 7);
        }
        let own = Failure::on(Side::Sender, Reason::Internal, "a bug").heard_by(Side::Sender, false);
        assert_eq!((own.reason, own.side), (Reason::Internal, Some(Side::Sender)));
    }
}
