//! What a side says of itself in a heart-beat.

/// What is going on at a side and what holds it, for a peer that hears no acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waits for the peer.
    Waiting,
    /// Its disk is at work: slow, not dead.
    Disk,
    /// Bytes have come since it last said something.
    Receiving,
    /// Takes no more than it was told to.
    Limited,
    /// Its processor is busy.
    Processor,
    /// A sender: all its memory waits to be acknowledged.
    Memory,
    /// A sender: the congestion window is full.
    Network,
    /// A sender: it has no stream or byte credit.
    Credits,
}

impl Activity {
    /// All of them; the place of each is its number on the wire.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Disk,
        Self::Receiving,
        Self::Limited,
        Self::Processor,
        Self::Memory,
        Self::Network,
        Self::Credits,
    ];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The activity of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}
