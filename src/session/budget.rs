//! Divides the memory budget.

use std::time::Duration;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::limits::{
    BLOCK_BYTES, CONNECTIONS_MAX, OPEN_ENTRIES_MAX, PIECES_MAX, STREAMS_MAX,
};
use crate::session::schedule::Rate;
use crate::transport::{Congestion, Limits};

/// Maximum parcels in flight by default: so many, and more where memory allows. A stream's credit comes back two round
/// trips after it was used: one for the ack, one until QUIC has acked that. A path of 800 Mbit/s and 200 ms needs 40
/// streams of 1 MiB.
const STREAMS_DEFAULT: u32 = 32;
const STREAMS_DEFAULT_MAX: u32 = 128;

/// Memory of the program before it transfers anything: code, threads, TLS, the allocator's reserve.
const PROGRAM_BYTES: u64 = 12 * 1024 * 1024;
/// Memory of an open entry on either side, with its path and its places in queues.
const ENTRY_BYTES: u64 = 512;
/// Memory of a piece of an old file: 16 bytes of its hash, and its place.
const PIECE_BYTES: u64 = 24;
/// Under a rate limit, the receive window holds the data of this time: enough for long round trips, and short beside
/// the ten seconds within which the limit must hold.
const RATE_WINDOW: Duration = Duration::from_millis(300);
/// Minimum window under a rate limit: a few packets.
const RATE_WINDOW_BYTES_MIN: u64 = 16 * 1024;
/// Chunks that the memory of a receiver into a pipe must hold.
const PIPE_CHUNKS_MIN: u64 = 8;
/// Bytes of a record besides its data, at most.
const RECORD_BYTES: u64 = 4 * 1024;
/// Minimum open entries, however small the budget: two steps of the walk.
const OPEN_ENTRIES_MIN: usize = 512;

/// Memory of an extra socket, in blocks: the datagrams it receives at a time.
const SOCKET_BLOCKS: usize = 8;
/// Minimum memory for an extra connection: its socket, four parcels, two blocks each in the window.
const EXTRA_BLOCKS_MIN: usize = SOCKET_BLOCKS + 4 * 3;

/// How much memory a session may use for what, derived from one number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The budget as the user gave it.
    asked_bytes: u64,
    asked_streams: Option<u32>,
    memory_bytes: u64,
    streams: u32,
    rate: Rate,
}

impl Budget {
    /// Divides `memory_bytes`; `streams` overrides the maximum parcels in flight. There are never more parcels than
    /// blocks: parcels waiting for a block would fill the windows while those that hold one starve.
    pub fn new(memory_bytes: u64, streams: Option<u32>) -> Self {
        Self::of(memory_bytes, memory_bytes, streams)
    }

    /// The budget of each of `sessions` sessions that share this one.
    pub fn shared_by(self, sessions: u32) -> Self {
        Self::of(self.asked_bytes, self.memory_bytes / u64::from(sessions.max(1)), self.asked_streams)
            .with_rate(self.rate)
    }

    /// The whole budget.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn of(asked_bytes: u64, memory_bytes: u64, streams: Option<u32>) -> Self {
        let budget = Self { asked_bytes, asked_streams: streams, memory_bytes, streams: 1, rate: None };
        let fit = u32::try_from(budget.blocks()).unwrap_or(STREAMS_MAX);
        // The rest is for extra connections.
        let usual = (fit / 8 * 5).clamp(STREAMS_DEFAULT, STREAMS_DEFAULT_MAX);
        Self { streams: streams.unwrap_or(usual).min(fit).clamp(1, STREAMS_MAX), ..budget }
    }

    /// The budget that allows about twice as much data in flight.
    pub(super) fn doubled_bytes(&self) -> u64 {
        self.asked_bytes.saturating_mul(2)
    }

    /// Limits the window to `rate`, the most that will ever be read from the network.
    pub fn with_rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// Memory left after the program itself.
    fn shared_bytes(&self) -> u64 {
        self.memory_bytes.saturating_sub(PROGRAM_BYTES).max(self.memory_bytes / 4)
    }

    /// Blocks: three eighths of the rest. A block is in use from reading until QUIC's ack, or from QUIC until it is
    /// written.
    pub fn blocks(&self) -> usize {
        usize::try_from(self.shared_bytes() * 3 / 8 / BLOCK_BYTES as u64).unwrap_or(usize::MAX).max(2)
    }

    /// Maximum open entries: an eighth of the rest, at their usual size.
    pub(super) fn open_entries(&self) -> usize {
        let fit = self.shared_bytes() / 8 / ENTRY_BYTES;
        usize::try_from(fit).unwrap_or(usize::MAX).clamp(OPEN_ENTRIES_MIN, OPEN_ENTRIES_MAX)
    }

    /// Pieces of old files whose places a sender keeps: a sixteenth of the rest.
    pub(super) fn pieces(&self) -> usize {
        let fit = self.shared_bytes() / 16 / PIECE_BYTES;
        usize::try_from(fit).unwrap_or(usize::MAX).min(2 * PIECES_MAX)
    }

    /// Names of announced entries that a receiver keeps as hashes of 8 bytes: an eighth of the rest.
    pub(super) fn names(&self) -> usize {
        usize::try_from(self.shared_bytes() / 8 / 8).unwrap_or(usize::MAX)
    }

    /// Blocks left over in a receiver's part, with at most one parcel per block.
    fn spare_blocks(&self) -> usize {
        self.blocks().saturating_sub(self.streams() + 1)
    }

    /// Connections that fit the memory.
    pub fn connections_max(&self) -> u32 {
        let extra = u32::try_from(self.spare_blocks() / EXTRA_BLOCKS_MIN).unwrap_or(u32::MAX);
        (1 + extra.min(CONNECTIONS_MAX - 1)).min(CONNECTIONS_MAX)
    }

    /// Blocks of a sender with up to `extra` extra connections.
    pub(super) fn sender_blocks(&self, extra: u32) -> usize {
        self.blocks().saturating_sub(extra as usize * SOCKET_BLOCKS).max(2)
    }

    /// Blocks of a receiver with up to `extra` extra connections: one per possible parcel, so that no parcel waits
    /// for a block while others fill the windows.
    pub(super) fn receiver_blocks(&self, extra: u32) -> usize {
        self.streams() + 1 + extra as usize * self.share(extra).0
    }

    /// Whether a receiver can hand on chunks of 2^`chunk_log2` bytes, each of which it holds until it is verified. The
    /// same rule as for the chunks of a sender.
    ///
    /// # Errors
    ///
    /// It has too little memory.
    pub(super) fn check_pipe(&self, chunk_log2: u8) -> Result<(), Failure> {
        let needed = PIPE_CHUNKS_MIN << chunk_log2;
        if self.memory_bytes >= needed {
            return Ok(());
        }
        let message = format!(
            "chunks of {} MiB are too large for the {} MiB of memory of this receiver, which verifies each before it hands it on",
            (1_u64 << chunk_log2) >> 20,
            self.memory_bytes >> 20
        );
        Err(Failure::on(Side::Receiver, Reason::Refused, message.clone()).telling(message))
    }

    /// Blocks of a receiver that hands chunks of 2^`chunk_log2` bytes on: one whole chunk, of which compressed pieces
    /// may leave half of each block empty, and one to decompress.
    pub(super) fn pipe_blocks(&self, chunk_log2: u8) -> usize {
        let chunk = usize::try_from((1_u64 << chunk_log2) / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        (2 * chunk + 2).max(self.streams() + 1)
    }

    /// Chunks of 2^`chunk_log2` bytes that may be in flight to a receiver that takes them in order. All of them fit
    /// into the receive window while nobody reads them, so none of them keeps the first one from arriving: QUIC gives new
    /// credit once an eighth of the window has been read.
    pub(super) fn chunks_at_a_time(&self, chunk_log2: u8) -> u64 {
        let window = u64::from(self.window_bytes()) / 8 * 7;
        let fit = window / ((1 << chunk_log2) + RECORD_BYTES);
        fit.clamp(1, u64::from(self.streams))
    }

    /// For each of `extra` connections: its parcels, and the blocks of its window.
    fn share(&self, extra: u32) -> (usize, usize) {
        let each = self.spare_blocks() / (extra as usize).max(1);
        let each = each.saturating_sub(SOCKET_BLOCKS);
        let parcels = (each / 3).min(self.streams());
        (parcels, each - parcels)
    }

    /// The limits of each of `extra` connections, beside a first one with the limits `first`. An extra connection
    /// times out sooner, so that its parcels are sent again over another one before the transfer counts as stalled.
    pub fn extra_limits(&self, first: &Limits, extra: u32) -> Limits {
        let (parcels, blocks) = self.share(extra);
        let window_bytes = u32::try_from(blocks * BLOCK_BYTES).unwrap_or(u32::MAX);
        Limits {
            receive_window_bytes: window_bytes,
            stream_window_bytes: stream_window(window_bytes),
            // The first connection has one more stream, for control.
            streams: u32::try_from(parcels.saturating_sub(1)).unwrap_or(u32::MAX),
            idle_timeout: first.idle_timeout / 2,
            ..*first
        }
    }

    /// Maximum parcels in flight.
    pub fn streams(&self) -> usize {
        self.streams as usize
    }

    /// Bytes of the receive window.
    fn window_bytes(&self) -> u32 {
        let window = self.shared_bytes() * 3 / 8;
        // Data sent before the first read travels as fast as the network allows.
        let held = self.rate.map_or(u64::MAX, |rate| {
            let bytes = u128::from(rate.get()) * RATE_WINDOW.as_millis() / 1000;
            u64::try_from(bytes).unwrap_or(u64::MAX).max(RATE_WINDOW_BYTES_MIN)
        });
        u32::try_from(window.min(held)).unwrap_or(u32::MAX)
    }

    /// The limits of a connection. The receive window is as large as all [blocks](Self::blocks): it holds data that
    /// QUIC has received and this side has not read yet. The rest of the budget is for entries, packets and the
    /// allocator's waste. A stream gets only half of the window: an unread manifest may fill its share, and parcels
    /// must still arrive.
    pub fn limits(
        &self,
        idle_timeout: Duration,
        connect_timeout: Duration,
        congestion: Congestion,
    ) -> Limits {
        let window_bytes = self.window_bytes();
        Limits {
            receive_window_bytes: window_bytes,
            stream_window_bytes: stream_window(window_bytes),
            send_window_bytes: self.shared_bytes() * 3 / 8,
            streams: self.streams,
            idle_timeout,
            connect_timeout,
            congestion,
        }
    }
}

/// The window of a stream. quinn sends new credit each time an eighth of it has been read. With 64 MiB of memory, a
/// parcel of 1 MiB ends before that.
fn stream_window(window_bytes: u32) -> u32 {
    window_bytes / 2
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    /// [W-22]
    #[test]
    fn windows_and_blocks_stay_within_the_memory() {
        for mib in [8u64, 12, 16, 64, 1024] {
            let budget = Budget::new(mib << 20, None);
            let limits = budget.limits(Duration::ZERO, Duration::ZERO, Congestion::Cubic);
            let held = u64::from(limits.receive_window_bytes) + (budget.blocks() * BLOCK_BYTES) as u64;
            let entries = budget.open_entries() as u64 * ENTRY_BYTES + budget.pieces() as u64 * PIECE_BYTES;
            let beside = if mib < 16 { 0 } else { PROGRAM_BYTES };
            assert!(held + entries + beside <= mib << 20, "{mib} MiB");
            assert!(held <= (mib << 20) * 3 / 4, "{mib} MiB");
            assert!(limits.stream_window_bytes <= limits.receive_window_bytes);
            assert!(budget.streams() <= budget.blocks());
        }
        for mib in [8u64, 16, 32, 64, 128, 1024] {
            let budget = Budget::new(mib << 20, None);
            let first = budget.limits(Duration::ZERO, Duration::ZERO, Congestion::Cubic);
            for extra in 1..budget.connections_max() {
                let limits = budget.extra_limits(&first, extra);
                let each = u64::from(limits.receive_window_bytes) + (SOCKET_BLOCKS * BLOCK_BYTES) as u64;
                let blocks = budget.receiver_blocks(extra);
                let parcels = budget.streams() + 1 + (limits.streams as usize + 1) * extra as usize;
                let beside = u64::from(extra) * each;
                assert!(limits.streams >= 3, "{mib} MiB, {extra} extra");
                assert!(parcels <= blocks.max(budget.streams() + 1), "{mib} MiB, {extra} extra");
                let room = ((budget.blocks()).max(budget.streams() + 1) * BLOCK_BYTES) as u64;
                assert!((blocks * BLOCK_BYTES) as u64 + beside <= room, "{mib} MiB, {extra} extra");
                let sockets = extra as usize * SOCKET_BLOCKS;
                assert!(budget.sender_blocks(extra) + sockets <= budget.blocks());
            }
        }
        let most = [8, 16, 64, 128, 1024].map(|mib| Budget::new(mib << 20, None).connections_max());
        assert_eq!(most, [1, 1, 2, 4, 16]);
        let usual = [8, 16, 64, 128, 1024].map(|mib| Budget::new(mib << 20, None).streams());
        assert_eq!(usual, [3, 6, 45, 105, 128]);
        assert_eq!(Budget::new(64 << 20, Some(3)).streams(), 3);
        assert_eq!(Budget::new(20 << 20, Some(1000)).streams(), 12);
    }

    #[test]
    fn a_parcel_needs_no_more_credit_than_it_begins_with() {
        let limits = Budget::new(64 << 20, None).limits(Duration::ZERO, Duration::ZERO, Congestion::Auto);
        assert!(limits.stream_window_bytes / 8 > 1024 * 1024 + 64 * 1024, "{limits:?}");
        assert!(limits.stream_window_bytes <= limits.receive_window_bytes / 2, "{limits:?}");
    }

    #[test]
    fn a_low_rate_has_a_small_window() {
        let limits = |rate| {
            let budget = Budget::new(64 << 20, None).with_rate(NonZeroU64::new(rate));
            budget.limits(Duration::ZERO, Duration::ZERO, Congestion::Cubic)
        };
        assert_eq!(limits(1000 * 1024).receive_window_bytes, 300 * 1024);
        assert_eq!(limits(1000 * 1024).stream_window_bytes, 150 * 1024);
        assert_eq!(limits(1024).receive_window_bytes, 16 * 1024);
        assert_eq!(limits(u64::MAX), limits(0));
    }
}
