//! The activity that a side reports in a heart-beat.

/// What a side is doing and what limits it, for a peer that gets no acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for the peer.
    Waiting,
    /// Its disk is busy: slow, not dead.
    Disk,
    /// Bytes have arrived since its last report.
    Receiving,
    /// At its rate limit.
    Limited,
    /// Its processor is busy.
    Processor,
    /// A sender: all its memory is waiting for acks.
    Memory,
    /// A sender: the congestion window is full.
    Network,
    /// A sender: out of stream or byte credit.
    Credits,
    /// A person is asked, before anything else happens.
    Asking,
    /// Everything is delivered, and a program runs before the end.
    Program,
}

impl Activity {
    /// All activities; the index of each is its number on the wire.
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Disk,
        Self::Receiving,
        Self::Limited,
        Self::Processor,
        Self::Memory,
        Self::Network,
        Self::Credits,
        Self::Asking,
        Self::Program,
    ];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The activity with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}
