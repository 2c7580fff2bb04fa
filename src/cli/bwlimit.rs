//! `--bwlimit` as people write it: `2M`, or `08:00-18:00=2M,22:00-06:00=off,10M`.

use std::num::NonZeroU64;

use crate::node::size::{exact, parse_size};
use crate::session::schedule::{DAY_MINUTES, Rate, Schedule, Window};

/// The smallest `--bwlimit`, bytes a second: below it, even the overhead of a parcel would not get through.
const RATE_MIN: u64 = 1024;

/// Parses rates and windows, separated by commas.
///
/// # Errors
/// A sentence for people.
pub(super) fn parse_bwlimit(text: &str) -> Result<Schedule, String> {
    let mut windows: Vec<Window> = Vec::new();
    let mut otherwise = None;
    for part in text.split(',').map(str::trim) {
        let Some((times, rate)) = part.split_once('=') else {
            if otherwise.replace(parse_rate(part)?).is_some() {
                return Err("there are two rates without a window; give only one".to_owned());
            }
            continue;
        };
        let window = parse_window(times, parse_rate(rate)?)?;
        let taken = (0..DAY_MINUTES).find(|m| window.is_open(*m) && windows.iter().any(|w| w.is_open(*m)));
        if let Some(minute) = taken {
            return Err(format!("two windows overlap at {:02}:{:02}", minute / 60, minute % 60));
        }
        windows.push(window);
    }
    Ok(Schedule { windows, otherwise: otherwise.flatten() })
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let size = text.strip_suffix("/s").unwrap_or(text);
    let rate = parse_size(size).map_err(|e| match e.starts_with("expected") {
        true => format!("`{text}` is not a rate; expected bytes a second such as 512k or 2M, or `off`"),
        false => e,
    })?;
    match NonZeroU64::new(rate) {
        Some(rate) if rate.get() < RATE_MIN => {
            Err(format!("{rate} bytes a second is too low; the minimum is {}", exact(RATE_MIN)))
        }
        rate => Ok(rate),
    }
}

fn parse_window(times: &str, rate: Rate) -> Result<Window, String> {
    let wrong = || format!("`{times}` is not a window; expected HH:MM-HH:MM, such as 08:00-18:00");
    let (from, to) = times.split_once('-').ok_or_else(wrong)?;
    let (from, to) = parse_minute(from).zip(parse_minute(to)).ok_or_else(wrong)?;
    if from == to || from == DAY_MINUTES {
        return Err(format!(
            "`{times}` is not a window; the whole day is 00:00-24:00, or a rate without a time"
        ));
    }
    Ok(Window { from, to, rate })
}

/// Minutes since midnight; 24:00 is the end of the day.
fn parse_minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: (u16, u16), to: (u16, u16), rate: u64) -> Window {
        Window { from: from.0 * 60 + from.1, to: to.0 * 60 + to.1, rate: NonZeroU64::new(rate) }
    }

    #[test]
    fn a_rate_without_a_window_always_applies() {
        for (text, rate) in
            [("2M", 2 << 20), ("2MiB/s", 2 << 20), ("512k", 512 << 10), ("0", 0), ("off", 0), ("1024", 1024)]
        {
            let schedule = Schedule { windows: Vec::new(), otherwise: NonZeroU64::new(rate) };
            assert_eq!(parse_bwlimit(text), Ok(schedule), "{text}");
        }
    }

    #[test]
    fn windows_apply_in_their_time_and_the_rate_outside() {
        let day = window((8, 0), (18, 0), 2 << 20);
        assert_eq!(parse_bwlimit("08:00-18:00=2M"), Ok(Schedule { windows: vec![day], otherwise: None }));
        assert_eq!(
            parse_bwlimit("08:00-18:00=2M, 10M"),
            Ok(Schedule { windows: vec![day], otherwise: NonZeroU64::new(10 << 20) })
        );
        let night = window((22, 30), (6, 5), 0);
        assert_eq!(
            parse_bwlimit("1G,8:00-18:00=2M,22:30-6:05=off"),
            Ok(Schedule { windows: vec![day, night], otherwise: NonZeroU64::new(1 << 30) })
        );
        assert!(parse_bwlimit("00:00-24:00=1M").is_ok());
    }

    #[test]
    fn invalid_rates_say_why() {
        for (text, why) in [
            ("", "`` is not a rate"),
            ("fast", "`fast` is not a rate; expected bytes a second such as 512k or 2M, or `off`"),
            ("2MB", "write 2M or 2MiB"),
            ("100", "100 bytes a second is too low; the minimum is 1k"),
            ("1M,2M", "two rates without a window"),
            ("1M,", "`` is not a rate"),
            ("08:00=1M", "`08:00` is not a window; expected HH:MM-HH:MM"),
            ("8-18=1M", "`8-18` is not a window"),
            ("08:60-09:00=1M", "is not a window"),
            ("08:00-24:01=1M", "is not a window"),
            ("+8:00-09:00=1M", "is not a window"),
            ("08:00-08:00=1M", "the whole day is 00:00-24:00"),
            ("08:00-18:00=", "`` is not a rate"),
            ("08:00-18:00=1M,17:59-20:00=2M", "two windows overlap at 17:59"),
            ("22:00-06:00=1M,00:00-01:00=2M", "two windows overlap at 00:00"),
        ] {
            let error = parse_bwlimit(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
