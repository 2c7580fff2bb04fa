//! The bottleneck of a transfer, and its share of the time.

use std::time::Duration;

use crate::protocol::wire::activity::Activity;

/// The bottlenecks, in the words users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bottleneck {
    /// The network path: bandwidth, loss, round trips.
    Network,
    /// Writing and syncing.
    ReceiverDisk,
    /// Walking and reading.
    SenderDisk,
    /// The processor of either side.
    Processor,
    /// The sender's memory for unacked data.
    Memory,
    /// The receiver gave no stream or byte credit.
    Credits,
    /// The rate limit of a side.
    Bwlimit,
}

impl Bottleneck {
    /// All bottlenecks; where two have the same share, the first is named.
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

    /// The bottleneck, from the activities of both sides. Bytes pile up before the narrowest place and run dry after
    /// it. So a sender that finds the cause in itself is believed; one that waits for credit, memory or acks asks for
    /// the receiver's activity. A receiver with a busy processor comes first: it loses packets and acks the rest
    /// late, which the sender takes for the network.
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
            (Activity::Waiting | Activity::Receiving | Activity::Asking | Activity::Program, _) => {
                Self::Network
            }
        }
    }
}

/// How much of the processor this process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processor {
    /// Some is left.
    #[default]
    Idle,
    /// As much as one core. A connection has one task for its packets, so further cores may not help it.
    OneCore,
    /// All cores it may use.
    AllCores,
}

/// A snapshot of the sender: its parcels by what they wait for, and its overall state.
#[derive(Debug, Clone, Copy, Default)]
pub struct SenderSnapshot {
    /// Parcels wait for `--bwlimit`.
    pub limited: bool,
    /// Processor use of the process.
    pub processor: Processor,
    /// The congestion window was full for most of the time since the last look.
    pub window_full: bool,
    /// Waiting for the disk: walking, hashing and reading.
    pub reading: u64,
    /// Waiting for a stream credit.
    pub opening: u64,
    /// Waiting for a block of memory.
    pub allocating: u64,
    /// Waiting for QUIC to accept bytes.
    pub writing: u64,
    /// Sent, not acked.
    pub acking: u64,
}

impl SenderSnapshot {
    /// The sender's bottleneck: the first of these that applies. The rate limit holds parcels back. All cores are
    /// busy, which slows everything else down too. The congestion window is full, which is measured rather than
    /// inferred. More parcels wait for the disk than for memory and QUIC together, and at least as many as for acks.
    /// One core is busy. Parcels wait for memory, then for credits.
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

/// A snapshot of the receiver.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverSnapshot {
    /// Parcels wait for `--bwlimit`.
    pub limited: bool,
    /// Processor use of the process.
    pub processor: Processor,
    /// Work waiting for the disk: parcels, names, commits and hashes.
    pub writing: u64,
    /// A job of the disk runs, if only a checkpoint that nothing waits for.
    pub disk_works: bool,
    /// Parcels waiting for bytes.
    pub starving: u64,
    /// Bytes have arrived since the last look.
    pub receiving: bool,
}

impl ReceiverSnapshot {
    /// The receiver's bottleneck. It is the disk when at least as many parcels wait for the disk as for bytes. Busy
    /// cores take precedence: parcels also wait for a disk that is only memory, when all cores are busy.
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
        } else if self.writing > 0 || self.disk_works {
            // Not a cause, but shows the peer that this side is alive.
            Activity::Disk
        } else {
            Activity::Waiting
        }
    }
}

/// The time of each bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares([Duration; Bottleneck::ALL.len()]);

impl Shares {
    /// Adds `time` to `bottleneck`.
    pub fn add(&mut self, bottleneck: Bottleneck, time: Duration) {
        self.0[bottleneck as usize] += time;
    }

    /// Percent of the time, the greatest first, adding up to 100; shares under one half are left out. Without any
    /// time there are no shares.
    pub fn percent(&self) -> Vec<(Bottleneck, u8)> {
        let total: u128 = self.0.iter().map(Duration::as_nanos).sum();
        if total == 0 {
            return Vec::new();
        }
        // Rounded to add up to 100: the greatest remainders are rounded up.
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

    const ACTIVITIES: [Activity; 10] = [
        Activity::Waiting,
        Activity::Disk,
        Activity::Receiving,
        Activity::Limited,
        Activity::Processor,
        Activity::Memory,
        Activity::Network,
        Activity::Credits,
        Activity::Asking,
        Activity::Program,
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
    fn bottlenecks_of_a_sender() {
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
    fn bottlenecks_of_a_receiver() {
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
