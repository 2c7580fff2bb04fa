//! Numbers as people read them.

use std::time::Duration;

use indicatif::HumanBytes;

/// `1.50 GiB`, `12 B`.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Bytes a second over `elapsed`; 0 if `elapsed` is 0.
pub fn bytes_per_second(bytes: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos();
    let rate = (u128::from(bytes) * 1_000_000_000).checked_div(nanos).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// `0.004s`, `6.1s`, `1m 20s`.
pub fn duration(duration: Duration) -> String {
    if duration < Duration::from_millis(100) {
        format!("{:.3}s", duration.as_secs_f64())
    } else if duration < Duration::from_secs(60) {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    }
}

/// `5s`, `20m`, `3h`, `9d`: the largest unit that fits.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `60 s`, `5m`: a time that people count in seconds, without fractions of one.
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// `1 file`, `2 files`; the plural is given.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds() {
        let texts = [0, 12_900, 119_000, 120_000, 90_061_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(texts, ["0 s", "12 s", "119 s", "2m", "1day 1h 1m 1s"]);
    }

    #[test]
    fn numbers() {
        assert_eq!(bytes(2 << 30), "2.00 GiB");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes_per_second(300, Duration::from_secs(2)), 150);
        assert_eq!(bytes_per_second(300, Duration::ZERO), 0);
        assert_eq!(bytes_per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
        assert_eq!(duration(Duration::from_micros(4_100)), "0.004s");
        assert_eq!(duration(Duration::from_millis(6_140)), "6.1s");
        assert_eq!(duration(Duration::from_millis(80_900)), "1m 20s");
        let ages = [59, 60, 7199, 86_400].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["59s", "1m", "1h", "1d"]);
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(0, "entry", "entries"), "0 entries");
    }
}
