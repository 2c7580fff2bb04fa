//! Time as this side lived it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often drivers tick: progress is told, and stalls are looked for.
pub(super) const TICK_EVERY: Duration = Duration::from_millis(100);
/// From this gap between two ticks on this side was away: the process was stopped, or something held its driver up.
const AWAY_MIN: Duration = Duration::from_millis(500);

/// Counts from the start of a transfer. What the peer sent while this side was away waits to be read, so that time is
/// not the peer's silence: a gap counts as one tick.
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
    /// Begins now.
    pub(super) fn start() -> Self {
        let started = Instant::now();
        Self { started, last: Mutex::new(LastTick { at: started, away: Duration::ZERO }) }
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// To be called every [`TICK_EVERY`], before anything is judged.
    pub(super) fn tick(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = last.at.elapsed();
        last.at += gap;
        if gap >= AWAY_MIN {
            last.away += gap - TICK_EVERY;
        }
    }

    /// The time since the start that this side was there.
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
        // A busy machine is late at times, and its time counts.
        advance(Duration::from_millis(400)).await;
        clock.tick();
        assert_eq!(clock.now(), Duration::from_millis(1500));
    }
}
