//! `--bwlimit` at work: a token bucket shared by all parcels of a session.

use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::protocol::wire::limits::BLOCK_BYTES;
use crate::session::observe::gauge::Gauge;
use crate::session::schedule::{Rate, Schedule};

/// Capacity of the bucket when no parcel waits.
const BURST: Duration = Duration::from_millis(50);
/// Capacity while a parcel waits. Timers fire late on a busy host, and the larger capacity makes up for that. It is
/// below three percent of ten seconds.
const LATE: Duration = Duration::from_millis(250);
/// A grant is this part of a second.
const SLICES_PER_SECOND: u64 = 100;
/// Minimum grant: smaller ones would make small packets.
const SLICE_BYTES_MIN: usize = 1024;
/// Resolution of the timer.
const TIMER: Duration = Duration::from_millis(1);
/// How long a rate is used before the wall clock is checked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At a low rate, the parcels in flight hold this many seconds of data, so that acks come before everything has been
/// sent.
const PARCELS_FOR: u64 = 2;

/// Limits the rate to the schedule.
pub struct Throttle {
    schedule: Schedule,
    /// Local time of day, counted from midnight.
    time_of_day: Box<dyn Fn() -> Duration + Send + Sync>,
    /// The schedule's last answer, and its time.
    looked_up: Mutex<Option<(Rate, Instant)>>,
    bucket: Mutex<Bucket>,
    /// A fair lock: its holder waits for bytes, the others for their turn.
    turn: tokio::sync::Mutex<()>,
    /// Parcels waiting for a permit.
    pub(super) waiting: Gauge,
}

/// Permission to send bytes.
pub(super) struct Permit {
    /// Number of bytes.
    pub(super) bytes: usize,
    /// The bytes were taken from the bucket, because a limit was set.
    is_drawn: bool,
}

struct Bucket {
    /// Bytes available now; negative after an overdraft.
    level: f64,
    /// Time of `level`.
    filled: Instant,
}

impl Throttle {
    /// Follows `schedule`; `time_of_day` gives the time since midnight.
    pub fn new(schedule: Schedule, time_of_day: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            schedule,
            time_of_day: Box::new(time_of_day),
            looked_up: Mutex::default(),
            bucket: Mutex::new(Bucket { level: 0.0, filled: Instant::now() }),
            turn: tokio::sync::Mutex::default(),
            waiting: Gauge::default(),
        }
    }

    /// Waits until some of `bytes` may be sent, at least one. Unused bytes must be given back.
    pub(super) async fn take(&self, bytes: usize) -> Permit {
        if self.schedule.is_unlimited() || bytes == 0 {
            return Permit { bytes, is_drawn: false };
        }
        self.waiting.during(self.take_slice(bytes)).await
    }

    async fn take_slice(&self, bytes: usize) -> Permit {
        let _turn = self.turn.lock().await;
        let mut brim = BURST;
        loop {
            let Some(rate) = self.rate() else { return Permit { bytes, is_drawn: false } };
            let wait = match self.bucket().draw(bytes, rate, brim) {
                Ok(bytes) => return Permit { bytes, is_drawn: true },
                Err(wait) => wait,
            };
            // The wait is limited because the rate may change meanwhile.
            sleep(wait.min(LOOK_EVERY)).await;
            brim = LATE;
        }
    }

    /// Returns the unused part of `permit`: only `bytes` were sent or read.
    pub(super) fn give_back(&self, permit: Permit, bytes: usize) {
        if permit.is_drawn {
            self.bucket().level += (permit.bytes - bytes) as f64;
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `parcels` of `parcel_bytes` each to keep in flight: fewer at a low rate, because all of them share
    /// it and none would be acked for a long time.
    pub(super) fn parcels_at_once(&self, parcels: usize, parcel_bytes: u64) -> usize {
        let Some(rate) = self.rate() else { return parcels };
        let enough = PARCELS_FOR + rate.get().saturating_mul(PARCELS_FOR) / parcel_bytes;
        parcels.min(usize::try_from(enough).unwrap_or(usize::MAX))
    }

    /// The current rate.
    pub(super) fn rate(&self) -> Rate {
        if self.schedule.is_unlimited() {
            return None;
        }
        let now = Instant::now();
        let mut looked_up = self.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
        match *looked_up {
            Some((rate, at)) if now - at < LOOK_EVERY => rate,
            _ => {
                let rate = self.schedule.rate_at((self.time_of_day)());
                *looked_up = Some((rate, now));
                rate
            }
        }
    }
}

impl Bucket {
    /// Takes some of `bytes`, or returns how long to wait.
    fn draw(&mut self, bytes: usize, rate: NonZeroU64, brim: Duration) -> Result<usize, Duration> {
        let now = Instant::now();
        let (since, per_second) = (now - self.filled, rate.get() as f64);
        self.filled = now;
        // Returned bytes stay, even above the capacity.
        let brim = self.level.max(brim.as_secs_f64() * per_second);
        self.level = (self.level + since.as_secs_f64() * per_second).min(brim);
        if self.level > 0.0 {
            let granted = bytes.min(slice_bytes(rate));
            self.level -= granted as f64;
            return Ok(granted);
        }
        Err(Duration::from_secs_f64(-self.level / per_second).max(TIMER))
    }
}

/// The size of a grant.
fn slice_bytes(rate: NonZeroU64) -> usize {
    usize::try_from(rate.get() / SLICES_PER_SECOND).unwrap_or(usize::MAX).clamp(SLICE_BYTES_MIN, BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::task::{JoinSet, yield_now};
    use tokio::time::{advance, timeout};

    use super::super::schedule::Window;
    use super::*;

    const KIB: u64 = 1024;

    fn steady(rate: u64) -> Schedule {
        Schedule { windows: Vec::new(), otherwise: NonZeroU64::new(rate) }
    }

    /// Starts `takers` that take every grant, a block at a time, and counts their bytes.
    fn take_always(throttle: &Arc<Throttle>, takers: usize, took: &Arc<AtomicUsize>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for taker in 0..takers {
            let (throttle, took) = (Arc::clone(throttle), Arc::clone(took));
            tasks.spawn(async move {
                loop {
                    let permit = throttle.take(BLOCK_BYTES - taker).await;
                    // Readers may find less than they took.
                    let used = if taker % 2 == 0 { permit.bytes } else { permit.bytes.div_ceil(3) };
                    throttle.give_back(permit, used);
                    took.fetch_add(used, Relaxed);
                }
            });
        }
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_are_within_three_percent_at_every_rate() {
        for rate in [50 * KIB, 100 * KIB, KIB * KIB, 5 * KIB * KIB, 100 * KIB * KIB, KIB * KIB * KIB] {
            for takers in [1, 32] {
                let throttle = Arc::new(Throttle::new(steady(rate), || Duration::ZERO));
                let took = Arc::default();
                let _tasks = take_always(&throttle, takers, &took);
                sleep(Duration::from_secs(10)).await;
                let ratio = took.load(Relaxed) as f64 / (10 * rate) as f64;
                assert!((0.97..=1.03).contains(&ratio), "{rate} B/s, {takers} takers: {ratio}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_smooth() {
        for rate in [50 * KIB, 5 * KIB * KIB, 100 * KIB * KIB] {
            let throttle = Arc::new(Throttle::new(steady(rate), || Duration::ZERO));
            let took = Arc::default();
            let _tasks = take_always(&throttle, 32, &took);
            for tenth in 0..20 {
                let before = took.load(Relaxed);
                sleep(Duration::from_millis(100)).await;
                let ratio = (took.load(Relaxed) - before) as f64 / (rate as f64 / 10.0);
                assert!((0.7..=1.3).contains(&ratio), "{rate} B/s, tenth {tenth}: {ratio}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_good_but_for_its_end() {
        let rate = 100 * KIB;
        let throttle = Arc::new(Throttle::new(steady(rate), || Duration::ZERO));
        throttle.take(1).await;
        advance(Duration::from_secs(60)).await;
        let took = Arc::default();
        let _tasks = take_always(&throttle, 4, &took);
        sleep(Duration::from_secs(1)).await;
        assert!((took.load(Relaxed) as f64) < 1.1 * rate as f64, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn timers_that_come_late_cost_nothing() {
        let rate = 100 * KIB;
        let throttle = Arc::new(Throttle::new(steady(rate), || Duration::ZERO));
        let took = Arc::default();
        let _tasks = take_always(&throttle, 4, &took);
        for _ in 0..50 {
            for _ in 0..20 {
                yield_now().await;
            }
            advance(Duration::from_millis(200)).await;
        }
        let ratio = took.load(Relaxed) as f64 / (10 * rate) as f64;
        assert!((0.97..=1.03).contains(&ratio), "{ratio}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_follows_the_clock_on_the_wall() {
        let start = Instant::now();
        // 10 s before eight.
        let time_of_day = move || Duration::from_secs(8 * 3600 - 10) + start.elapsed();
        let window = Window { from: 8 * 60, to: 18 * 60, rate: NonZeroU64::new(100 * KIB) };
        let schedule = Schedule { windows: vec![window], otherwise: NonZeroU64::new(1000 * KIB) };
        let throttle = Arc::new(Throttle::new(schedule, time_of_day));
        let took: Arc<AtomicUsize> = Arc::default();
        let _tasks = take_always(&throttle, 32, &took);
        let mut ratios = Vec::new();
        for rate in [1000 * KIB, 100 * KIB] {
            let before = took.load(Relaxed);
            sleep(Duration::from_secs(10)).await;
            ratios.push((took.load(Relaxed) - before) as f64 / (10 * rate) as f64);
        }
        assert!((0.97..=1.03).contains(&ratios[0]), "{ratios:?}");
        // The change is noticed within a second; until then the old rate holds.
        assert!((0.97..=1.93).contains(&ratios[1]), "{ratios:?}");
        let before = took.load(Relaxed);
        sleep(Duration::from_secs(10)).await;
        let ratio = (took.load(Relaxed) - before) as f64 / (1000 * KIB) as f64;
        assert!((0.97..=1.03).contains(&ratio), "{ratio}");
    }

    /// Readers take a block and find a packet; their returned bytes never came from the bucket.
    #[tokio::test(start_paused = true)]
    async fn bytes_unused_without_a_limit_do_not_count_under_one() {
        let rate = 100 * KIB;
        let start = Instant::now();
        let time_of_day = move || Duration::from_secs(8 * 3600 - 10) + start.elapsed();
        let window = Window { from: 8 * 60, to: 18 * 60, rate: NonZeroU64::new(rate) };
        let throttle = Throttle::new(Schedule { windows: vec![window], otherwise: None }, time_of_day);
        for _ in 0..1000 {
            let permit = throttle.take(BLOCK_BYTES).await;
            throttle.give_back(permit, 1400);
        }
        advance(Duration::from_secs(11)).await;
        let throttle = Arc::new(throttle);
        let took: Arc<AtomicUsize> = Arc::default();
        let _tasks = take_always(&throttle, 32, &took);
        sleep(Duration::from_secs(10)).await;
        let ratio = took.load(Relaxed) as f64 / (10 * rate) as f64;
        assert!((0.97..=1.03).contains(&ratio), "{ratio}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let night = Window { from: 0, to: 60, rate: NonZeroU64::new(KIB) };
        let in_the_morning = || Duration::from_secs(8 * 3600);
        for schedule in [Schedule::default(), Schedule { windows: vec![night], otherwise: None }] {
            let throttle = Throttle::new(schedule, in_the_morning);
            for _ in 0..100 {
                let permit = timeout(Duration::ZERO, throttle.take(BLOCK_BYTES)).await;
                assert_eq!(permit.expect("it waits").bytes, BLOCK_BYTES);
            }
            assert_eq!(throttle.parcels_at_once(32, KIB * KIB), 32);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_parcels_share_a_low_rate() {
        let at_once = |rate| Throttle::new(steady(rate), || Duration::ZERO).parcels_at_once(32, KIB * KIB);
        assert_eq!(at_once(10 * KIB), 2);
        assert_eq!(at_once(5 * KIB * KIB), 12);
        assert_eq!(at_once(KIB * KIB * KIB), 32);
    }
}
