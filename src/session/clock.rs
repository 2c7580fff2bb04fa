//! Time as this side lived it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::PROGRESS_EVERY;

/// From this gap between two ticks on this side was away: the process was stopped, or something held its driver up.
const AWAY_MIN: Duration = Duration::from_millis(500);

/// Counts from the start of a transfer. What the peer sent while this side was away waits to be read, so that time is
/// not the peer's silence: a gap counts as one tick.
pub(super) struct Clock {
    started: Instant,
    ticks: Mutex<Ticks>,
}

#[derive(Clone, Copy)]
struct Ticks {
    last: Instant,
    away: Duration,
}

impl Clock {
    /// Begins now.
    pub(super) fn start() -> Self {
        let started = Instant::now();
        Self { started, ticks: Mutex::new(Ticks { last: started, away: Duration::ZERO }) }
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// To be called every [`PROGRESS_EVERY`], before anything is judged.
    pub(super) fn tick(&self) {
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = ticks.last.elapsed();
        ticks.last += gap;
        if gap >= AWAY_MIN {
            ticks.away += gap - PROGRESS_EVERY;
        }
    }

    /// The time since the start that this side was there.
    pub(super) fn now(&self) -> Duration {
        let away = self.ticks.lock().unwrap_or_else(PoisonError::into_inner).away;
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
            advance(PROGRESS_EVERY).await;
            clock.tick();
        }
        assert_eq!(clock.now(), Duration::from_secs(1));
        advance(Duration::from_secs(12)).await;
        clock.tick();
        assert_eq!(clock.now(), Duration::from_secs(1) + PROGRESS_EVERY);
        // A busy machine is late at times, and its time counts.
        advance(Duration::from_millis(400)).await;
        clock.tick();
        assert_eq!(clock.now(), Duration::from_millis(1500));
    }
}
