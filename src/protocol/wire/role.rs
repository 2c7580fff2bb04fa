//! What a side is there to do.

use crate::protocol::failure::Side;

/// What a side is there to do. The dialler says it, and the listener must be there for the counterpart: a bench is
/// no transfer, and nobody's disk is written to by one unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has files to send.
    Send,
    /// It wants to receive.
    Receive,
    /// It measures, and sends.
    BenchSend,
    /// It measures, and receives.
    BenchReceive,
}

impl Role {
    /// All of them; the place of each is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Send, Self::Receive, Self::BenchSend, Self::BenchReceive];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The role of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Which side it is.
    pub fn side(self) -> Side {
        match self {
            Self::Send | Self::BenchSend => Side::Sender,
            Self::Receive | Self::BenchReceive => Side::Receiver,
        }
    }

    /// What the other side must be there to do.
    pub fn counterpart(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::BenchSend => Self::BenchReceive,
            Self::BenchReceive => Self::BenchSend,
        }
    }

    /// The command that a person gave for it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Send => "towline send",
            Self::Receive => "towline receive",
            Self::BenchSend | Self::BenchReceive => "towline bench",
        }
    }
}
