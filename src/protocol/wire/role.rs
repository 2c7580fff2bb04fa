//! The roles of the two sides.

use crate::protocol::failure::Side;

/// The role of a side. The dialler names its role, and the listener must have the counterpart: a bench is not a
/// transfer, and never writes to a disk unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has files to send.
    Send,
    /// It receives.
    Receive,
    /// It measures, as the sender.
    BenchSend,
    /// It measures, as the receiver.
    BenchReceive,
}

impl Role {
    /// All roles; the index of each is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Send, Self::Receive, Self::BenchSend, Self::BenchReceive];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The role with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Its side.
    pub fn side(self) -> Side {
        match self {
            Self::Send | Self::BenchSend => Side::Sender,
            Self::Receive | Self::BenchReceive => Side::Receiver,
        }
    }

    /// The counterpart, which the other side must have.
    pub fn counterpart(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::BenchSend => Self::BenchReceive,
            Self::BenchReceive => Self::BenchSend,
        }
    }

    /// The command for this role.
    pub fn command(self) -> &'static str {
        match self {
            Self::Send => "towline send",
            Self::Receive => "towline receive",
            Self::BenchSend | Self::BenchReceive => "towline bench",
        }
    }
}
