//! What holds a transfer back.

use std::time::Duration;

/// The brakes, in the words that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Brake {
    /// The path between the two: bandwidth, loss, round trips.
    Network,
    /// Writing and syncing.
    ReceiverDisk,
    /// Walking and reading.
    SenderDisk,
    /// The receiver gave no stream or byte credit.
    Credits,
    /// What a side was told to take at most.
    Bwlimit,
}

impl Brake {
    /// As shown and as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::ReceiverDisk => "receiver's disk",
            Self::SenderDisk => "sender's disk",
            Self::Credits => "peer's credits",
            Self::Bwlimit => "--bwlimit",
        }
    }
}

/// How long each part of the work took, added up over parallel streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The sender waited for its disk.
    pub reading: Duration,
    /// The receiver waited for its disk.
    pub writing: Duration,
    /// The receiver waited for bytes.
    pub starving: Duration,
}

impl Times {
    /// The part that took most. A receiver that starves waits for the sender's disk or for the network; the
    /// sender knows how long it read.
    pub fn limited_by(&self) -> Brake {
        if self.writing > self.starving {
            Brake::ReceiverDisk
        } else if self.reading > self.starving / 2 {
            Brake::SenderDisk
        } else {
            Brake::Network
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_names_the_brake() {
        let s = Duration::from_secs;
        let times = |reading, writing, starving| Times {
            reading: s(reading),
            writing: s(writing),
            starving: s(starving),
        };
        assert_eq!(times(0, 5, 1).limited_by(), Brake::ReceiverDisk);
        assert_eq!(times(4, 1, 5).limited_by(), Brake::SenderDisk);
        assert_eq!(times(1, 1, 9).limited_by(), Brake::Network);
    }
}
