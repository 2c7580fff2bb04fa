//! `--bwlimit`: the rate limit by time of day.

use std::num::NonZeroU64;
use std::time::Duration;

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;

/// Bytes a second; `None` is unlimited.
pub type Rate = Option<NonZeroU64>;

/// A part of every day with a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first minute, below [`DAY_MINUTES`].
    pub from: u16,
    /// The minute after the last, at most [`DAY_MINUTES`]. If not after `from`, the window passes midnight.
    pub to: u16,
    /// The rate in this window.
    pub rate: Rate,
}

impl Window {
    /// Whether `minute` of the day is in the window.
    pub fn is_open(&self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Rates by time of day. The default is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// Windows; the first of two that overlap counts.
    pub windows: Vec<Window>,
    /// The rate outside all windows.
    pub otherwise: Rate,
}

impl Schedule {
    /// The rate at `time_of_day`, counted from midnight.
    pub fn rate_at(&self, time_of_day: Duration) -> Rate {
        let minute = u16::try_from(time_of_day.as_secs() / 60).unwrap_or(DAY_MINUTES) % DAY_MINUTES;
        self.windows.iter().find(|window| window.is_open(minute)).map_or(self.otherwise, |window| window.rate)
    }

    /// Whether the rate is always unlimited.
    pub fn is_unlimited(&self) -> bool {
        self.otherwise.is_none() && self.windows.iter().all(|window| window.rate.is_none())
    }

    /// The highest rate, unless it is unlimited at times.
    pub fn greatest_rate(&self) -> Rate {
        let rates: Option<Vec<_>> = self.windows.iter().map(|window| window.rate).collect();
        rates?.into_iter().max().max(Some(self.otherwise?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64, minutes: u64, seconds: u64) -> Duration {
        Duration::from_secs(hours * 3600 + minutes * 60 + seconds)
    }

    #[test]
    fn a_window_has_its_first_minute_and_not_its_last() {
        let schedule = Schedule {
            windows: vec![Window { from: 8 * 60, to: 18 * 60, rate: NonZeroU64::new(2) }],
            otherwise: NonZeroU64::new(10),
        };
        for (time, rate) in [
            (at(0, 0, 0), 10),
            (at(7, 59, 59), 10),
            (at(8, 0, 0), 2),
            (at(17, 59, 59), 2),
            (at(18, 0, 0), 10),
            (at(23, 59, 59), 10),
        ] {
            assert_eq!(schedule.rate_at(time), NonZeroU64::new(rate), "{time:?}");
        }
        assert_eq!(schedule.greatest_rate(), NonZeroU64::new(10));
    }

    #[test]
    fn a_window_goes_over_midnight_and_outside_nothing_is_held_back() {
        let night = Window { from: 22 * 60 + 30, to: 6 * 60, rate: NonZeroU64::new(5) };
        let noon = Window { from: 12 * 60, to: 13 * 60, rate: None };
        let schedule = Schedule { windows: vec![night, noon], otherwise: None };
        for (time, rate) in [
            (at(22, 29, 59), 0),
            (at(22, 30, 0), 5),
            (at(0, 0, 0), 5),
            (at(5, 59, 59), 5),
            (at(6, 0, 0), 0),
            (at(12, 30, 0), 0),
        ] {
            assert_eq!(schedule.rate_at(time), NonZeroU64::new(rate), "{time:?}");
        }
        assert_eq!(schedule.greatest_rate(), None);
        assert!(!schedule.is_unlimited());
    }

    #[test]
    fn the_whole_day_is_a_window_too() {
        let all = Window { from: 0, to: DAY_MINUTES, rate: NonZeroU64::new(5) };
        assert!((0..DAY_MINUTES).all(|minute| all.is_open(minute)));
        assert!(Schedule::default().is_unlimited());
        assert_eq!(Schedule::default().rate_at(at(1, 0, 0)), None);
    }
}
