//! Sizes and durations as people write them, in flags, variables and the config file alike.

use std::net::SocketAddr;
use std::time::Duration;

use crate::session::{Compression, Retry};
use crate::transport::address::PortRange;

/// Parses `30s`, `2m`, `1m 30s`.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; expected a duration such as 30s or 2m"))
}

/// Whether to wait for a peer that dials, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Forever.
    Yes,
    /// At most this long.
    For(Duration),
}

impl Wait {
    /// The limit, if there is one.
    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            Self::For(limit) => Some(limit),
            Self::No | Self::Yes => None,
        }
    }
}

/// Parses a duration, or `yes`, `no` and the like.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_wait(text: &str) -> Result<Wait, String> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Ok(Wait::Yes),
        "n" | "no" | "f" | "false" | "off" | "0" => Ok(Wait::No),
        _ => parse_duration(text).map(Wait::For),
    }
}

/// `auto`, `off`, or a level.
pub(super) fn parse_compression(text: &str) -> Result<Compression, String> {
    let (least, most) = (Compression::LEVELS.start(), Compression::LEVELS.end());
    match text {
        "auto" => Ok(Compression::Auto),
        "off" => Ok(Compression::Off),
        level => level
            .parse()
            .ok()
            .filter(|level| Compression::LEVELS.contains(level))
            .map(Compression::Level)
            .ok_or_else(|| format!("expected auto, off, or a level from {least} to {most}")),
    }
}

/// Parses a duration, `0` or `forever`.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_retry(text: &str) -> Result<Retry, String> {
    match text.to_ascii_lowercase().as_str() {
        "forever" => Ok(Retry::Forever),
        "0" | "off" => Ok(Retry::Off),
        _ => match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Ok(Retry::Off),
            Ok(limit) => Ok(Retry::For(limit)),
            Err(e) => Err(format!("{e}; expected a duration such as 60s or 5m, 0 or forever")),
        },
    }
}

/// Parses `ADDR:PORT`.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected ADDR:PORT, for example 0.0.0.0:4750, [::]:4750 or 192.0.2.7:0 for a free port".to_owned()
    })
}

/// Parses `A-B`.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_ports(text: &str) -> Result<PortRange, String> {
    text.parse().map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("30").unwrap_err().ends_with("expected a duration such as 30s or 2m"));
    }

    #[test]
    fn a_retry_is_a_duration_or_a_word() {
        assert_eq!(parse_retry("90s"), Ok(Retry::For(Duration::from_secs(90))));
        assert_eq!(parse_retry("Forever"), Ok(Retry::Forever));
        assert_eq!([parse_retry("0"), parse_retry("0s"), parse_retry("off")], [const { Ok(Retry::Off) }; 3]);
        assert!(parse_retry("60").unwrap_err().ends_with("such as 60s or 5m, 0 or forever"));
    }

    #[test]
    fn listening_needs_a_port() {
        assert!(parse_listen("[::]:4750").is_ok());
        assert!(parse_listen("localhost:1").is_err());
        assert!(parse_listen("::").is_err());
    }
}
