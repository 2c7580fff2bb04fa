//! What holds a transfer back, and for which share of the time.

use std::time::Duration;

use crate::protocol::wire::activity::Activity;

/// The bottlenecks, in the words that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bottleneck {
    /// The path between the two: bandwidth, loss, round trips.
    Network,
    /// Writing and syncing.
    ReceiverDisk,
    /// Walking and reading.
    SenderDisk,
    /// The processor of either side.
    Processor,
    /// What the sender may hold until it is acknowledged.
    Memory,
    /// The receiver gave no stream or byte credit.
    Credits,
    /// What a side was told to take at most.
    Bwlimit,
}

impl Bottleneck {
    /// All of them; where two have the same share, the first is named.
    pub const ALL: [Self; 7] = [
        Self::Network,
        Self::ReceiverDisk,
        Self::SenderDisk,
        Self::Processor,
        Self::Memory,
        Self::Credits,
        Self::Bwlimit,
    ];

    /// As shown and as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::ReceiverDisk => "receiver's disk",
            Self::SenderDisk => "sender's disk",
            Self::Processor => "processor",
            Self::Memory => "memory budget",
            Self::Credits => "peer's credits",
            Self::Bwlimit => "bandwidth limit",
        }
    }

    /// The bottleneck, from what holds each side. Bytes pile up before the narrowest place and run dry behind it. So a
    /// sender that finds its cause in itself is believed; one that waits for credit, memory or acks asks what holds
    /// the receiver. But for a receiver at the end of its processor: it loses packets, and acks late what it does
    /// not lose, which to the sender looks like the network.
    pub fn between(sender: Activity, receiver: Activity) -> Self {
        match (sender, receiver) {
            (Activity::Limited, _) | (_, Activity::Limited) => Self::Bwlimit,
            (Activity::Network, Activity::Processor) => Self::Processor,
            (Activity::Network, _) => Self::Network,
            (Activity::Disk, _) => Self::SenderDisk,
            (_, Activity::Disk) => Self::ReceiverDisk,
            (Activity::Processor, _) | (_, Activity::Processor) => Self::Processor,
            (Activity::Memory, _) => Self::Memory,
            (Activity::Credits, _) => Self::Credits,
            (Activity::Waiting | Activity::Receiving, _) => Self::Network,
        }
    }
}

/// How much of the processor this process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processor {
    /// There is more.
    #[default]
    Idle,
    /// As much as one core has. A connection has one task for its packets, so more may be of no use to it.
    OneCore,
    /// All cores that it may use.
    AllCores,
}

/// A sender at one moment: parcels by what they wait for, and the state of the whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct SenderSnapshot {
    /// Something waits for `--bwlimit`.
    pub limited: bool,
    /// What the process uses.
    pub processor: Processor,
    /// The congestion window was what held the connection, for most of the time since the last look.
    pub window_full: bool,
    /// At the disk: walking, hashing and reading.
    pub reading: u64,
    /// Without a stream credit.
    pub opening: u64,
    /// Without a block of memory.
    pub allocating: u64,
    /// At QUIC, which takes no more just now.
    pub writing: u64,
    /// Sent, not acked.
    pub acking: u64,
}

impl SenderSnapshot {
    /// What holds the sender. All cores in use explain everything else. Then the congestion window, which is
    /// measured and not guessed. A disk is the cause where most parcels are; memory and credits are when parcels
    /// wait for them while neither of those and no core is busy.
    pub fn activity(&self) -> Activity {
        if self.limited {
            Activity::Limited
        } else if self.processor == Processor::AllCores {
            Activity::Processor
        } else if self.window_full {
            Activity::Network
        } else if self.reading > self.allocating + self.writing && self.reading >= self.acking {
            Activity::Disk
        } else if self.processor == Processor::OneCore {
            Activity::Processor
        } else if self.allocating > 0 {
            Activity::Memory
        } else if self.writing > 0 || (self.opening > 0 && self.acking == 0) {
            Activity::Credits
        } else {
            Activity::Waiting
        }
    }
}

/// A receiver at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverSnapshot {
    /// Something waits for `--bwlimit`.
    pub limited: bool,
    /// What the process uses.
    pub processor: Processor,
    /// Work that the disk has: parcels that wait for it, and names, commits and hashes.
    pub writing: u64,
    /// Parcels that wait for bytes.
    pub starving: u64,
    /// Bytes have come since the last look.
    pub receiving: bool,
}

impl ReceiverSnapshot {
    /// What holds the receiver: its disk where at least half of the parcels wait for it, unless all cores are busy,
    /// which is what writes into memory look like.
    pub fn activity(&self) -> Activity {
        if self.limited {
            Activity::Limited
        } else if self.processor == Processor::AllCores {
            Activity::Processor
        } else if self.writing > 0 && self.writing >= self.starving {
            Activity::Disk
        } else if self.processor == Processor::OneCore {
            Activity::Processor
        } else if self.receiving {
            Activity::Receiving
        } else if self.writing > 0 {
            // No cause, but the peer shall know that this side is not dead.
            Activity::Disk
        } else {
            Activity::Waiting
        }
    }
}

/// How long each bottleneck held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares([Duration; Bottleneck::ALL.len()]);

impl Shares {
    /// `bottleneck` held for `time`.
    pub fn add(&mut self, bottleneck: Bottleneck, time: Duration) {
        self.0[bottleneck as usize] += time;
    }

    /// Percent of the time, the greatest first, 100 together; without those under one half. Of no time at all
    /// nothing is known, and that is nobody's part.
    pub fn percent(&self) -> Vec<(Bottleneck, u8)> {
        let total: u128 = self.0.iter().map(Duration::as_nanos).sum();
        if total == 0 {
            return Vec::new();
        }
        // Rounded so that they come to 100: the greatest rests get what is missing.
        let mut parts: Vec<(Bottleneck, u128, u128)> = Bottleneck::ALL
            .iter()
            .zip(&self.0)
            .map(|(bottleneck, time)| {
                (*bottleneck, time.as_nanos() * 100 / total, time.as_nanos() * 100 % total)
            })
            .collect();
        let missing = 100 - parts.iter().map(|(_, whole, _)| whole).sum::<u128>();
        parts.sort_by_key(|(bottleneck, _, rest)| (std::cmp::Reverse(*rest), *bottleneck));
        for (_, whole, _) in parts.iter_mut().take(usize::try_from(missing).unwrap_or(0)) {
            *whole += 1;
        }
        parts.sort_by_key(|(bottleneck, whole, _)| (std::cmp::Reverse(*whole), *bottleneck));
        let shares = parts.into_iter().filter(|(_, whole, _)| *whole > 0);
        shares.map(|(bottleneck, whole, _)| (bottleneck, u8::try_from(whole).unwrap_or(100))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVITIES: [Activity; 8] = [
        Activity::Waiting,
        Activity::Disk,
        Activity::Receiving,
        Activity::Limited,
        Activity::Processor,
        Activity::Memory,
        Activity::Network,
        Activity::Credits,
    ];

    #[test]
    fn the_narrowest_place_is_the_bottleneck() {
        use Activity::{Credits, Disk, Limited, Memory, Network, Processor, Receiving, Waiting};
        for (sender, receiver, bottleneck) in [
            (Waiting, Receiving, Bottleneck::Network),
            (Network, Receiving, Bottleneck::Network),
            (Network, Disk, Bottleneck::Network),
            (Network, Processor, Bottleneck::Processor),
            (Disk, Waiting, Bottleneck::SenderDisk),
            (Credits, Disk, Bottleneck::ReceiverDisk),
            (Memory, Disk, Bottleneck::ReceiverDisk),
            (Waiting, Disk, Bottleneck::ReceiverDisk),
            (Memory, Receiving, Bottleneck::Memory),
            (Credits, Receiving, Bottleneck::Credits),
            (Processor, Receiving, Bottleneck::Processor),
            (Credits, Processor, Bottleneck::Processor),
        ] {
            assert_eq!(Bottleneck::between(sender, receiver), bottleneck, "{sender:?}, {receiver:?}");
        }
        for other in ACTIVITIES {
            assert_eq!(Bottleneck::between(Limited, other), Bottleneck::Bwlimit);
            assert_eq!(Bottleneck::between(other, Limited), Bottleneck::Bwlimit);
        }
    }

    #[test]
    fn what_holds_a_sender() {
        let calm = SenderSnapshot::default();
        let one_core = SenderSnapshot { processor: Processor::OneCore, ..calm };
        for (moment, activity) in [
            (calm, Activity::Waiting),
            (SenderSnapshot { limited: true, window_full: true, ..calm }, Activity::Limited),
            (SenderSnapshot { window_full: true, reading: 9, ..one_core }, Activity::Network),
            (
                SenderSnapshot { window_full: true, processor: Processor::AllCores, ..calm },
                Activity::Processor,
            ),
            (SenderSnapshot { reading: 3, writing: 2, acking: 3, ..calm }, Activity::Disk),
            (SenderSnapshot { reading: 3, writing: 3, ..one_core }, Activity::Processor),
            (SenderSnapshot { reading: 3, acking: 20, ..calm }, Activity::Waiting),
            (SenderSnapshot { allocating: 1, writing: 20, ..calm }, Activity::Memory),
            (SenderSnapshot { writing: 2, acking: 5, ..calm }, Activity::Credits),
            (SenderSnapshot { opening: 1, acking: 0, ..calm }, Activity::Credits),
            (SenderSnapshot { opening: 1, acking: 9, ..calm }, Activity::Waiting),
        ] {
            assert_eq!(moment.activity(), activity, "{moment:?}");
        }
    }

    #[test]
    fn what_holds_a_receiver() {
        let calm = ReceiverSnapshot::default();
        let one_core = ReceiverSnapshot { processor: Processor::OneCore, ..calm };
        for (moment, activity) in [
            (calm, Activity::Waiting),
            (ReceiverSnapshot { limited: true, writing: 5, ..calm }, Activity::Limited),
            (ReceiverSnapshot { writing: 5, starving: 5, ..one_core }, Activity::Disk),
            (ReceiverSnapshot { writing: 5, processor: Processor::AllCores, ..calm }, Activity::Processor),
            (ReceiverSnapshot { writing: 1, starving: 9, ..one_core }, Activity::Processor),
            (ReceiverSnapshot { writing: 1, starving: 9, receiving: true, ..calm }, Activity::Receiving),
            (ReceiverSnapshot { writing: 1, starving: 9, ..calm }, Activity::Disk),
            (ReceiverSnapshot { starving: 9, ..calm }, Activity::Waiting),
        ] {
            assert_eq!(moment.activity(), activity, "{moment:?}");
        }
    }

    #[test]
    fn shares_come_to_a_hundred_the_greatest_first() {
        let mut shares = Shares::default();
        assert_eq!(shares.percent(), []);
        for bottleneck in Bottleneck::ALL {
            shares.add(bottleneck, Duration::from_secs(1));
        }
        shares.add(Bottleneck::SenderDisk, Duration::from_secs(1));
        // Seven eighths are 12.5 % each; of equal rests the first ones are rounded up.
        let percent = shares.percent();
        assert_eq!(percent.iter().map(|(_, share)| u32::from(*share)).sum::<u32>(), 100);
        assert_eq!(percent[0], (Bottleneck::SenderDisk, 25));
        assert_eq!(percent[1], (Bottleneck::Network, 13));
        assert_eq!(percent[6], (Bottleneck::Bwlimit, 12));

        let mut shares = Shares::default();
        shares.add(Bottleneck::ReceiverDisk, Duration::from_millis(1_800));
        shares.add(Bottleneck::Network, Duration::from_millis(8_190));
        shares.add(Bottleneck::Credits, Duration::from_millis(10));
        assert_eq!(shares.percent(), [(Bottleneck::Network, 82), (Bottleneck::ReceiverDisk, 18)]);
    }
}
