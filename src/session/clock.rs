//! The time this process was running.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Interval of the drivers' ticks, which report progress and check for stalls.
pub(super) const TICK_EVERY: Duration = Duration::from_millis(100);
/// A longer gap between two ticks means that the process was stopped or its driver delayed.
const AWAY_MIN: Duration = Duration::from_millis(500);

/// Time since the start of a transfer. A gap counts as one tick: the peer was not silent then, its data was waiting
/// to be read.
pub(super) struct Clock {
    started: Instant,
    last: Mutex<LastTick>,
}

#[derive(Clone, Copy)]
struct LastTick {
    at: Instant,
    away: Duration,
}

impl Clock {
    /// Starts the clock.
    pub(super) fn start() -> Self {
        let started = Instant::now();
        Self { started, last: Mutex::new(LastTick { at: started, away: Duration::ZERO }) }
    }

    /// The moment of the start.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Call this every [`TICK_EVERY`], before judging any time-out.
    pub(super) fn tick(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = last.at.elapsed();
        last.at += gap;
        if gap >= AWAY_MIN {
            last.away += gap - TICK_EVERY;
        }
    }

    /// Running time since the start.
    pub(super) fn now(&self) -> Duration {
        let away = self.last.lock().unwrap_or_else(PoisonError::into_inner).away;
        self.started.elapsed().saturating_sub(away)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_2_time_away_does_not_count() {
        let clock = Clock::start();
        for _ in 0..10 {
            advance(TICK_EVERY).await;
            clock.tick();
        }
        assert_eq!(clock.now(), Duration::from_secs(1));
        advance(Duration::from_secs(12)).await;
        clock.tick();
        assert_eq!(clock.now(), Duration::from_secs(1) + TICK_EVERY);
        // Ticks of a busy host come late at times; that time counts.
        advance(Duration::from_millis(400)).await;
        clock.tick();
        assert_eq!(clock.now(), Duration::from_millis(1500));
    }
}
