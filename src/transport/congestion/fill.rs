//! Tells when a growing window fills the path, long before the round ends.

use std::time::{Duration, Instant};

use super::sampler::Sample;
use super::tuning::{
    FULL_BLOCK_TIME_MIN, FULL_BLOCKS, FULL_BLOCKS_PER_RTT, FULL_DELAY_MAX, FULL_DELAY_MIN, FULL_PACKETS_MIN,
    FULL_PERCENT,
};

/// Where a block of packets began.
#[derive(Debug, Clone, Copy)]
struct FillBlock {
    sent: Instant,
    sent_bytes: u64,
    acked: Instant,
    acked_bytes: u64,
    least: Duration,
}

/// Compares arrivals with the packets sent a round trip before, over blocks of packets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    block: Option<FillBlock>,
    /// The usual share of arrivals, per thousand sent.
    usual_permille: Option<u64>,
    full_blocks: u32,
}

impl Fill {
    /// For a path on which `permille` of a thousand usually arrive.
    pub(super) fn usually(permille: u64) -> Self {
        Self { usual_permille: Some(permille), ..Self::default() }
    }

    /// Whether the last blocks brought less than is usual.
    pub(super) fn is_full(&self) -> bool {
        self.full_blocks >= FULL_BLOCKS
    }

    /// Takes the next acks, on a path of `min_rtt`. With `delay`, a block whose packets are all late counts as well.
    pub(super) fn acked(
        &mut self,
        now: Instant,
        sample: &Sample,
        min_rtt: Duration,
        packet_bytes: u64,
        delay: bool,
    ) {
        let begin = FillBlock {
            sent: sample.sent,
            sent_bytes: sample.sent_before,
            acked: now,
            acked_bytes: sample.delivered,
            least: Duration::MAX,
        };
        let block = self.block.get_or_insert(begin);
        block.least = block.least.min(sample.rtt);
        let sending = sample.sent.saturating_duration_since(block.sent);
        let acking = now.saturating_duration_since(block.acked);
        let sent = sample.sent_before.saturating_sub(block.sent_bytes);
        let is_long = sending.min(acking) >= (min_rtt / FULL_BLOCKS_PER_RTT).max(FULL_BLOCK_TIME_MIN);
        if !is_long || sent < FULL_PACKETS_MIN * packet_bytes {
            return;
        }
        let acked = u128::from(sample.delivered - block.acked_bytes);
        let arrived = acked * sending.as_nanos() * 1000 / (u128::from(sent) * acking.as_nanos());
        let permille = u64::try_from(arrived).unwrap_or(u64::MAX).min(1000);
        let late = delay && block.least > min_rtt + (min_rtt / 8).clamp(FULL_DELAY_MIN, FULL_DELAY_MAX);
        self.block = Some(begin);
        let usual = self.usual_permille.unwrap_or(permille);
        if permille * 100 < usual * FULL_PERCENT || late {
            self.full_blocks += 1;
        } else {
            self.full_blocks = 0;
            self.usual_permille = Some((usual * 3 + permille) / 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a path counts as full when this share of packets arrives, `rtt_ms` later.
    fn is_full(arriving_percent: u64, rtt_ms: u64, usual_permille: u64) -> bool {
        let start = Instant::now();
        let rtt = Duration::from_millis(100);
        let mut fill = Fill::usually(usual_permille);
        for packet in 0..1000 {
            let sent = start + Duration::from_micros(packet * 100);
            let sample = Sample {
                acked: 1000,
                rtt: Duration::from_millis(rtt_ms),
                rate: None,
                app_limited: false,
                round: false,
                sent,
                sent_before: packet * 1000,
                delivered: packet * 10 * arriving_percent,
                overtaken: 0,
            };
            fill.acked(sent + rtt, &sample, rtt, 1000, true);
        }
        fill.is_full()
    }

    #[test]
    fn a_path_is_full_when_less_arrives_than_is_usual_or_all_is_late() {
        assert!(!is_full(100, 100, 1000));
        assert!(!is_full(95, 105, 1000));
        assert!(is_full(80, 100, 1000), "a fifth does not arrive");
        assert!(!is_full(80, 100, 800), "that is noise");
        assert!(is_full(100, 120, 1000), "all of it waits");
    }
}
