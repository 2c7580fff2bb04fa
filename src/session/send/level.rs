//! When a sender compresses, and how hard.

use std::time::Duration;

use crate::protocol::engine::bottleneck::Bottleneck;
use crate::session::compression::Compression;

/// Levels of `auto`, from the cheapest on.
const LEVELS: [i32; 2] = [1, 3];
/// The bottleneck is judged after this time at first, so that short transfers gain too,
const FIRST_JUDGEMENT: Duration = Duration::from_millis(300);
/// and then after this time.
const JUDGED_EVERY: Duration = Duration::from_secs(1);
/// After the processor was the bottleneck, the level stays low for this time, which doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// Chooses the level.
pub(super) struct LevelChoice {
    compression: Compression,
    /// How many of [`LEVELS`] are allowed; 0 compresses nothing.
    step: usize,
    /// Since when the looks below are counted.
    since: Duration,
    looks: u32,
    by_network: u32,
    by_processor: u32,
    pause: Duration,
    paused_until: Duration,
}

impl LevelChoice {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            step: 0,
            since: Duration::ZERO,
            looks: 0,
            by_network: 0,
            by_processor: 0,
            pause: PAUSE_MIN,
            paused_until: Duration::ZERO,
        }
    }

    /// The level that does not depend on the bottleneck.
    pub(super) fn fixed(&self) -> Option<i32> {
        match self.compression {
            Compression::Level(level) => Some(level),
            Compression::Auto | Compression::Off => None,
        }
    }

    /// Counts a look at the bottleneck. `by_network` if it was certainly the network, or the rate limit. Returns the
    /// level from now on; 0 compresses nothing.
    pub(super) fn look(&mut self, now: Duration, by_network: bool, bottleneck: Bottleneck) -> i32 {
        match self.compression {
            Compression::Off => return 0,
            Compression::Level(level) => return level,
            Compression::Auto => {}
        }
        self.looks += 1;
        self.by_network += u32::from(by_network);
        self.by_processor += u32::from(bottleneck == Bottleneck::Processor);
        let needed = if self.since.is_zero() { FIRST_JUDGEMENT } else { JUDGED_EVERY };
        if now.saturating_sub(self.since) >= needed {
            self.judge(now);
            (self.since, self.looks, self.by_network, self.by_processor) = (now, 0, 0, 0);
        }
        self.step.checked_sub(1).map_or(0, |at| LEVELS[at])
    }

    fn judge(&mut self, now: Duration) {
        let is_most = |part: u32| part * 2 > self.looks;
        if is_most(self.by_processor) {
            self.step = self.step.saturating_sub(1);
            self.paused_until = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else if is_most(self.by_network) && now >= self.paused_until {
            self.step = (self.step + 1).min(LEVELS.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten looks a second; returns the level after each of `seconds` seconds.
    fn levels(
        choice: &mut LevelChoice,
        from: u64,
        seconds: u64,
        by_network: bool,
        bottleneck: Bottleneck,
    ) -> Vec<i32> {
        let mut levels = Vec::new();
        for tenth in from * 10 + 1..=(from + seconds) * 10 {
            let level = choice.look(Duration::from_millis(tenth * 100), by_network, bottleneck);
            if tenth % 10 == 0 {
                levels.push(level);
            }
        }
        levels
    }

    #[test]
    fn compression_begins_with_the_network_and_gives_way_to_the_processor() {
        let mut choice = LevelChoice::new(Compression::Auto);
        assert_eq!(levels(&mut choice, 0, 3, true, Bottleneck::Network), [1, 3, 3]);
        assert_eq!(levels(&mut choice, 3, 2, false, Bottleneck::ReceiverDisk), [3, 3]);
        assert_eq!(levels(&mut choice, 5, 3, false, Bottleneck::Processor), [3, 1, 0]);
        // It has a pause, which is longer each time.
        assert_eq!(levels(&mut choice, 8, 8, true, Bottleneck::Network)[..3], [0, 0, 0]);
        let mut again = Vec::new();
        for round in 0..4 {
            levels(&mut choice, 20 + round * 40, 2, false, Bottleneck::Processor);
            let after = levels(&mut choice, 22 + round * 40, 38, true, Bottleneck::Network);
            again.push(after.iter().filter(|level| **level == 0).count());
        }
        assert!(again.is_sorted() && again[0] < again[3], "{again:?}");
    }

    #[test]
    fn nothing_else_turns_it_on() {
        for bottleneck in [Bottleneck::Network, Bottleneck::SenderDisk, Bottleneck::Processor] {
            let mut choice = LevelChoice::new(Compression::Auto);
            assert_eq!(levels(&mut choice, 0, 2, false, bottleneck), [0, 0]);
        }
        for (compression, level) in [(Compression::Off, 0), (Compression::Level(7), 7)] {
            let mut choice = LevelChoice::new(compression);
            assert_eq!(choice.look(Duration::ZERO, true, Bottleneck::Network), level);
        }
    }
}
