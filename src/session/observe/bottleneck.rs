//! Finds the bottleneck of this side at each tick, tells the peer, and sums up the shares of time.

use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;

use super::processor::{ProcessorGauge, ProcessorUse};
use crate::event::Advice;
use crate::protocol::engine::bottleneck::{Bottleneck, Processor, Shares};
use crate::protocol::failure::Side;
use crate::protocol::wire::activity::Activity;
use crate::session::budget::Budget;

/// Maximum time between two heart-beats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// Above this share of one core, in percent, the process uses all of it.
const CORE_BUSY_PERCENT: u128 = 90;
/// From this share of one core, in percent, the processor is the bottleneck if all cores of the host are busy.
const OWN_PART_PERCENT: u128 = 50;
/// A quota is the bottleneck if it pauses this process for at least this share of the time, in percent,
const WITHHELD_PERCENT: u128 = 10;
/// and if work and pauses together take at least this share.
const QUOTA_BUSY_PERCENT: u128 = 75;

/// Transfers shorter than this get no advice on making them faster.
const ADVICE_MIN: Duration = Duration::from_secs(1);

/// The bottleneck of the transfer, as one side sees it.
pub(in crate::session) struct BottleneckMeter {
    side: Side,
    processor_use: ProcessorGauge,
    cores: u32,
    began: Instant,
    looked: Instant,
    used: ProcessorUse,
    quota: Quota,
    /// Total time that the congestion window was full, as of the last look; and the part of it not yet attributed to
    /// a look.
    full: Duration,
    full_unspent: Duration,
    bottleneck: Bottleneck,
    shares: Shares,
    said: Option<(Activity, Instant)>,
}

fn is_part(part: Duration, percent: u128, of: Duration) -> bool {
    part.as_nanos() * 100 >= percent * of.as_nanos()
}

/// Sums that decay by a quarter at each look. The system reports a pause only after its end, so a look may miss a
/// pause and the next one may see two.
#[derive(Default)]
struct Quota {
    own: Duration,
    withheld: Duration,
    time: Duration,
}

impl Quota {
    fn add(&mut self, own: Duration, withheld: Duration, time: Duration) {
        for (sum, more) in [(&mut self.own, own), (&mut self.withheld, withheld), (&mut self.time, time)] {
            *sum = *sum * 3 / 4 + more;
        }
    }

    /// Whether the quota was the bottleneck: it paused this process, and pauses and work together were most of the
    /// time.
    fn is_used_up(&self) -> bool {
        is_part(self.withheld, WITHHELD_PERCENT, self.time)
            && is_part(self.own + self.withheld, QUOTA_BUSY_PERCENT, self.time)
    }
}

/// The time since the last look.
pub(in crate::session) struct Look {
    pub(in crate::session) processor: Processor,
    time: Duration,
}

impl Look {
    /// Duration since the last look.
    pub(in crate::session) fn time(&self) -> Duration {
        self.time
    }
}

impl BottleneckMeter {
    pub(in crate::session) fn new(side: Side, processor_use: ProcessorGauge) -> Self {
        let used = processor_use();
        Self {
            side,
            processor_use,
            cores: available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            began: Instant::now(),
            looked: Instant::now(),
            used,
            quota: Quota::default(),
            full: Duration::ZERO,
            full_unspent: Duration::ZERO,
            bottleneck: Bottleneck::Network,
            shares: Shares::default(),
            said: None,
        }
    }

    /// Forgets the shares so far.
    pub(in crate::session) fn begin_again(&mut self) {
        let now = Instant::now();
        (self.began, self.looked, self.shares) = (now, now, Shares::default());
    }

    /// Processor use of the process and the host since the last look.
    pub(in crate::session) fn look(&mut self) -> Look {
        let (now, used_now) = (Instant::now(), (self.processor_use)());
        let time = now - std::mem::replace(&mut self.looked, now);
        let used_before = std::mem::replace(&mut self.used, used_now);
        let own = used_now.own.saturating_sub(used_before.own);
        let withheld = used_now.withheld.saturating_sub(used_before.withheld);
        self.quota.add(own, withheld, time);
        let has_used = |percent| is_part(own, percent, time);
        let processor = if time.is_zero() {
            Processor::Idle
        } else if has_used(CORE_BUSY_PERCENT * u128::from(self.cores))
            || has_used(OWN_PART_PERCENT) && used_now.is_exhausted_since(&used_before)
            || self.quota.is_used_up()
        {
            Processor::AllCores
        } else if has_used(CORE_BUSY_PERCENT) {
            Processor::OneCore
        } else {
            Processor::Idle
        };
        Look { processor, time }
    }

    /// Whether the congestion window was full for most of the look; `full` is the total time so far. Acks come in
    /// bursts, so one look's excess is left for the next.
    pub(in crate::session) fn window_was_full(&mut self, look: &Look, full: Duration) -> bool {
        self.full_unspent += full.saturating_sub(std::mem::replace(&mut self.full, full));
        let was_full = !self.full_unspent.is_zero() && self.full_unspent >= look.time / 2;
        if was_full {
            self.full_unspent = self.full_unspent.saturating_sub(look.time);
        }
        was_full
    }

    /// Counts the look: `own` is the activity of this side, `peers` that of the other. Returns the activity to tell
    /// the peer, if any.
    pub(in crate::session) fn count(
        &mut self,
        look: &Look,
        own: Activity,
        peers: Activity,
    ) -> Option<Activity> {
        self.bottleneck = match self.side {
            Side::Sender => Bottleneck::between(own, peers),
            Side::Receiver => Bottleneck::between(peers, own),
        };
        self.shares.add(self.bottleneck, look.time);
        let is_news = self.said.is_none_or(|(said, at)| said != own || at.elapsed() >= HEARTBEAT_EVERY);
        is_news.then(|| {
            self.said = Some((own, Instant::now()));
            own
        })
    }

    /// The current bottleneck.
    pub(in crate::session) fn bottleneck(&self) -> Bottleneck {
        self.bottleneck
    }

    /// Advice, when the memory budget of this side was the bottleneck most of the time.
    pub(in crate::session) fn advice(&self, budget: &Budget) -> Option<Advice> {
        let &(bottleneck, percent) = self.shares().first()?;
        let or_streams = match (self.side, bottleneck) {
            (Side::Sender, Bottleneck::Memory) => false,
            (Side::Receiver, Bottleneck::Credits) => true,
            _ => return None,
        };
        let memory_bytes = budget.doubled_bytes();
        (self.began.elapsed() >= ADVICE_MIN).then_some(Advice::MoreMemory {
            percent,
            memory_bytes,
            or_streams,
        })
    }

    /// Percent of the time so far, the greatest share first.
    pub(in crate::session) fn shares(&self) -> Vec<(Bottleneck, u8)> {
        let shares = self.shares.percent();
        if shares.is_empty() { vec![(self.bottleneck, 100)] } else { shares }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::super::processor::Ticks;
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn bursts_of_acks_count_for_the_time_that_they_are_about() {
        let mut meter = BottleneckMeter::new(Side::Sender, Arc::new(ProcessorUse::default));
        let mut seen = 0;
        let mut full = Duration::ZERO;
        for tick in 0..30 {
            advance(TICK).await;
            // A path of 300 ms whose window is full two thirds of the time.
            if tick % 3 == 2 {
                full += 2 * TICK;
            }
            let look = meter.look();
            seen += u32::from(meter.window_was_full(&look, full));
        }
        assert!((19..=20).contains(&seen), "{seen} of 30");
    }

    #[tokio::test(start_paused = true)]
    async fn the_peer_hears_of_news_at_once_and_else_once_a_second() {
        let mut meter = BottleneckMeter::new(Side::Receiver, Arc::new(ProcessorUse::default));
        let mut told = Vec::new();
        for tick in 0..30 {
            advance(TICK).await;
            let own = if tick < 5 { Activity::Disk } else { Activity::Receiving };
            let look = meter.look();
            if let Some(activity) = meter.count(&look, own, Activity::Credits) {
                told.push((tick, activity));
            }
        }
        let receiving = [5, 15, 25].map(|tick| (tick, Activity::Receiving));
        assert_eq!(told, [&[(0, Activity::Disk)], &receiving[..]].concat());
        assert_eq!(meter.bottleneck(), Bottleneck::Credits);
        assert_eq!(meter.shares(), [(Bottleneck::Credits, 83), (Bottleneck::ReceiverDisk, 17)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_whose_budget_was_the_limit_says_what_would_help() {
        let more = |or_streams| Some(Advice::MoreMemory { percent: 100, memory_bytes: 96 << 20, or_streams });
        for (side, own, peers, advice) in [
            (Side::Sender, Activity::Memory, Activity::Receiving, more(false)),
            (Side::Receiver, Activity::Receiving, Activity::Credits, more(true)),
            (Side::Receiver, Activity::Receiving, Activity::Memory, None),
            (Side::Sender, Activity::Network, Activity::Receiving, None),
        ] {
            let budget = Budget::new(48 << 20, None);
            let mut meter = BottleneckMeter::new(side, Arc::new(ProcessorUse::default));
            let mut spend = async |ticks| {
                for _ in 0..ticks {
                    advance(TICK).await;
                    let look = meter.look();
                    meter.count(&look, own, peers);
                }
                meter.advice(&budget)
            };
            assert_eq!(spend(9).await, None, "that was too short");
            assert_eq!(spend(1).await, advice);
        }
        assert_eq!(Budget::new(64 << 20, None).shared_by(2).doubled_bytes(), 128 << 20);
    }

    /// Time since the first call on this thread, by the test's clock.
    fn elapsed() -> Duration {
        thread_local!(static BEGAN: Instant = Instant::now());
        BEGAN.with(Instant::elapsed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_has_no_more_is_seen_by_those_who_use_a_good_part_of_it() {
        /// A host of two cores: all processes use the first percentage, and this one the second percentage of one
        /// core.
        fn share<const MACHINE: u64, const OWN: u32>() -> ProcessorUse {
            let ticks = u64::try_from(elapsed().as_millis()).unwrap_or(0) * 2;
            let machine = Some(Ticks { busy: ticks * MACHINE / 100, all: ticks });
            ProcessorUse { own: elapsed() * OWN / 100, machine, ..ProcessorUse::default() }
        }
        elapsed();
        for (processor_use, processor) in [
            (share::<95, 60> as fn() -> ProcessorUse, Processor::AllCores),
            (share::<95, 20>, Processor::Idle),
            (share::<80, 60>, Processor::Idle),
            (share::<80, 95>, Processor::OneCore),
        ] {
            let mut meter = BottleneckMeter::new(Side::Sender, Arc::new(processor_use));
            meter.cores = 2;
            advance(TICK).await;
            assert_eq!(meter.look().processor, processor);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_is_used_up_is_seen_by_those_who_had_work_left() {
        /// A process that works for the first percentage of the time and is paused for the second. The system reports
        /// pauses every 200 ms.
        fn share<const OWN: u32, const WITHHELD: u32>() -> ProcessorUse {
            let told = u32::try_from(elapsed().as_millis() / 200).unwrap();
            let withheld = 2 * TICK * told * WITHHELD / 100;
            ProcessorUse { own: elapsed() * OWN / 100, withheld, machine: None }
        }
        elapsed();
        for (processor_use, processor) in [
            (share::<20, 80> as fn() -> ProcessorUse, Processor::AllCores),
            (share::<8, 92>, Processor::AllCores),
            (share::<80, 15>, Processor::AllCores),
            (share::<5, 50>, Processor::Idle),
            (share::<40, 12>, Processor::Idle),
            (share::<80, 8>, Processor::Idle),
            (share::<60, 0>, Processor::Idle),
        ] {
            let mut meter = BottleneckMeter::new(Side::Sender, Arc::new(processor_use));
            meter.cores = 2;
            let mut looks = Vec::new();
            for _ in 0..16 {
                advance(TICK).await;
                looks.push(meter.look().processor);
            }
            assert_eq!(looks[6..], [processor; 10]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_in_use_is_seen_by_the_time_of_the_process() {
        /// One core has been busy since the start, whatever the clock says.
        fn busy() -> ProcessorUse {
            ProcessorUse { own: elapsed(), ..ProcessorUse::default() }
        }
        elapsed();
        let mut meter = BottleneckMeter::new(Side::Sender, Arc::new(busy));
        for (cores, processor) in [(1, Processor::AllCores), (2, Processor::OneCore), (8, Processor::OneCore)]
        {
            meter.cores = cores;
            advance(TICK).await;
            assert_eq!(meter.look().processor, processor, "{cores} cores");
        }
        meter.processor_use = Arc::new(ProcessorUse::default);
        advance(TICK).await;
        assert_eq!(meter.look().processor, Processor::Idle);
    }
}
