//! Whether an existing file has the time of an entry, as its file system keeps times.

use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FsWord, Stat, fstatfs};

use super::attributes::meta_of;
use crate::protocol::wire::entry::Time;

/// File systems of this kind keep even seconds only.
const MSDOS_SUPER_MAGIC: FsWord = 0x4d44;
/// Clocks of file systems tick at least this often.
const SETTLED_AFTER_S: u64 = 2;
/// Decimal digits of nanoseconds.
const DIGITS: u32 = 9;

/// Whether the file in `holder` has the modification time `wanted`, or what its file system would keep of it.
///
/// A file system drops the last digits of all times alike. The kernel sets the change time of a file to the present, so
/// digits that are zero there too are those that this file system drops.
pub(super) fn has_time(holder: &OwnedFd, stat: &Stat, wanted: Time) -> bool {
    let there = meta_of(stat).mtime;
    if there == wanted {
        return true;
    }
    let changed = u32::try_from(stat.st_ctime_nsec).unwrap_or(1);
    if there == truncated(wanted, zeros(there.nanos).min(zeros(changed))) {
        return true;
    }
    there.nanos == 0 && there.seconds == wanted.seconds & !1 && keeps_even_seconds(holder)
}

/// Whether a file of this time cannot have changed twice within one tick of a clock: its time is not of the moment.
pub(super) fn is_settled(modified: Time, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    now.cast_signed().abs_diff(modified.seconds) > SETTLED_AFTER_S
}

/// How many of the last digits are zero.
fn zeros(nanos: u32) -> u32 {
    (1..=DIGITS)
        .take_while(|digits| nanos.is_multiple_of(10_u32.pow(*digits)))
        .count()
        .try_into()
        .unwrap_or(0)
}

/// Without the last digits of the nanoseconds.
fn truncated(time: Time, digits: u32) -> Time {
    let unit = 10_u32.pow(digits);
    Time { nanos: time.nanos / unit * unit, ..time }
}

fn keeps_even_seconds(holder: &OwnedFd) -> bool {
    fstatfs(holder).is_ok_and(|found| found.f_type == MSDOS_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::fs::fstat;

    use super::*;

    /// A file with this modification time and change time.
    fn agrees(there: (i64, u32), changed_nanos: u32, wanted: (i64, u32)) -> bool {
        let temp = tempfile::tempdir().unwrap();
        let holder = OwnedFd::from(File::open(temp.path()).unwrap());
        let mut stat = fstat(&holder).unwrap();
        (stat.st_mtime, stat.st_mtime_nsec) = (there.0, there.1.into());
        stat.st_ctime_nsec = changed_nanos.into();
        has_time(&holder, &stat, Time { seconds: wanted.0, nanos: wanted.1 })
    }

    #[test]
    fn a_time_of_the_moment_may_stand_for_two_contents() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_010);
        for (seconds, settled) in
            [(1_700_000_007, true), (1_700_000_008, false), (1_700_000_012, false), (0, true)]
        {
            assert_eq!(is_settled(Time { seconds, nanos: 0 }, now), settled, "{seconds}");
        }
    }

    #[test]
    fn a_time_agrees_as_far_as_the_file_system_keeps_it() {
        let sent = (1_700_000_001, 123_456_789);
        assert!(agrees(sent, 987_654_321, sent));
        assert!(!agrees((1_700_000_001, 123_456_788), 987_654_321, sent));
        // Whole seconds, on a disk that keeps no more, and on one that does.
        assert!(agrees((1_700_000_001, 0), 0, sent));
        assert!(!agrees((1_700_000_001, 0), 987_654_321, sent));
        assert!(!agrees((1_700_000_001, 0), 987_000_000, sent));
        // Hundreds of nanoseconds, and hundredths of seconds.
        assert!(agrees((1_700_000_001, 123_456_700), 987_654_300, sent));
        assert!(agrees((1_700_000_001, 120_000_000), 980_000_000, sent));
        assert!(!agrees((1_700_000_001, 120_000_000), 987_654_300, sent));
        // Another second, and even seconds on a disk that keeps odd ones.
        assert!(!agrees((1_700_000_002, 123_456_789), 0, sent));
        assert!(!agrees((1_700_000_000, 0), 0, sent));
        // A sender that keeps whole seconds.
        assert!(agrees((1_700_000_001, 0), 987_654_321, (1_700_000_001, 0)));
        assert!(!agrees((1_700_000_001, 1), 987_654_321, (1_700_000_001, 0)));
    }
}
