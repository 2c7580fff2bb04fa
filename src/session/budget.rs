//! How the memory budget is shared out.

use std::time::Duration;

use crate::protocol::limits::{BLOCK_BYTES, STREAMS_MAX};
use crate::transport::{Congestion, Limits};

/// Parcels on the way at once, unless asked for otherwise.
const STREAMS_DEFAULT: u32 = 16;

/// What a session may hold in memory, from one number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    memory_bytes: u64,
    streams: u32,
}

impl Budget {
    /// Shares out `memory_bytes`; `streams` overrules the number of parcels on the way at once. There are never more
    /// of them than blocks: parcels that wait for a block would fill the windows, and those that hold one starve.
    pub fn new(memory_bytes: u64, streams: Option<u32>) -> Self {
        let budget = Self { memory_bytes, streams: 1 };
        let fit = u32::try_from(budget.blocks()).unwrap_or(STREAMS_MAX);
        Self { streams: streams.unwrap_or(STREAMS_DEFAULT).min(fit).clamp(1, STREAMS_MAX), ..budget }
    }

    /// A quarter for blocks: read and not yet acknowledged by QUIC, or read from QUIC and not yet written.
    pub(super) fn blocks(&self) -> usize {
        usize::try_from(self.memory_bytes / 4 / BLOCK_BYTES as u64).unwrap_or(usize::MAX).max(2)
    }

    /// Parcels on the way at once.
    pub(super) fn streams(&self) -> usize {
        self.streams as usize
    }

    /// A quarter for what QUIC has received and nobody has read. The rest is for the program, entries, packets,
    /// and what the allocator wastes.
    pub fn limits(
        &self,
        idle_timeout: Duration,
        connect_timeout: Duration,
        congestion: Congestion,
    ) -> Limits {
        let window = self.memory_bytes / 4;
        let window_bytes = u32::try_from(window).unwrap_or(u32::MAX);
        Limits {
            receive_window_bytes: window_bytes,
            stream_window_bytes: (window_bytes / 8).max(1024 * 1024 + 64 * 1024).min(window_bytes),
            send_window_bytes: window,
            streams: self.streams,
            idle_timeout,
            connect_timeout,
            congestion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_blocks_stay_within_half_of_the_memory() {
        for mib in [8u64, 16, 64, 1024] {
            let budget = Budget::new(mib << 20, None);
            let limits = budget.limits(Duration::ZERO, Duration::ZERO, Congestion::Cubic);
            let held = u64::from(limits.receive_window_bytes) + (budget.blocks() * BLOCK_BYTES) as u64;
            assert!(held <= (mib << 20) / 2);
            assert!(limits.stream_window_bytes <= limits.receive_window_bytes);
            assert!(budget.streams() <= budget.blocks());
        }
        assert_eq!(Budget::new(64 << 20, Some(3)).streams(), 3);
        assert_eq!(Budget::new(8 << 20, Some(1000)).streams(), 8);
    }
}
