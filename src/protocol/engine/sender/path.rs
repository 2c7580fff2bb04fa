//! What a sender knows of the path, and whether an old file saves time on it.

use std::time::Duration;

/// Bytes a second that a side reads, cuts and hashes.
const CUT_BYTES_PER_S: u64 = 256 * 1024 * 1024;
/// Bytes a second to expect of a path with a round trip of at least [`FAR`], before anything was measured.
const FAR_BYTES_PER_S: u64 = 16 * 1024 * 1024;
const FAR: Duration = Duration::from_millis(5);
/// Time that is spent even if an old file is small.
const BEGIN: Duration = Duration::from_millis(100);

/// What is known of the path to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathFacts {
    /// Round-trip time.
    pub rtt: Duration,
    /// Bytes a second: measured while the network was the bottleneck, or a rate limit.
    pub bytes_per_s: Option<u64>,
}

/// Whether to take what an old file of `old_bytes` has, when `bytes` have to be sent. It costs two round trips, the old
/// file is read at the receiver before anything can be matched, and all of both files is read once more. That must be
/// less than half of the time that sending takes, because the files may have nothing in common.
pub(super) fn pays(bytes: u64, old_bytes: u64, path: PathFacts) -> bool {
    let expected = (path.rtt >= FAR).then_some(FAR_BYTES_PER_S);
    let Some(rate) = path.bytes_per_s.or(expected) else { return false };
    let time = |bytes: u64, rate: u64| {
        let ms = u128::from(bytes) * 1000 / u128::from(rate.max(1));
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    };
    let cutting = time(bytes.saturating_add(old_bytes), CUT_BYTES_PER_S);
    time(bytes, rate) / 2 > cutting.saturating_add(BEGIN).saturating_add(2 * path.rtt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn path(rtt_ms: u64, mib_per_s: impl Into<Option<u64>>) -> PathFacts {
        PathFacts {
            rtt: Duration::from_millis(rtt_ms),
            bytes_per_s: mib_per_s.into().map(|mib: u64| mib * MIB),
        }
    }

    #[test]
    fn an_old_file_is_used_where_that_saves_time() {
        for (mib, path, is_used) in [
            // Nothing is known of a path in the same building.
            (4096, path(0, None), false),
            (4096, path(1, None), false),
            // A far one is slow until the contrary is measured.
            (4096, path(20, None), true),
            (4, path(20, None), false),
            (4096, path(20, 100), false),
            // 300 Mbit/s.
            (4096, path(20, 35), true),
            (32, path(100, 35), false),
            (256, path(100, 35), true),
            // 10 Mbit/s.
            (2, path(20, 1), true),
            // Loopback with --bwlimit 20M, and a disk that takes no more.
            (256, path(0, 20), true),
            (4096, path(0, 1500), false),
        ] {
            assert_eq!(pays(mib * MIB, mib * MIB, path), is_used, "{mib} MiB, {path:?}");
        }
        assert!(!pays(2 * MIB, 4096 * MIB, path(20, 1)), "the old file is far larger");
    }
}
