//! Loss: is it noise, which stays whatever the rate, or does it come from sending too fast?

use std::time::{Duration, Instant};

use super::tally::Stretch;
use super::tuning::{
    BLAME_TIME, CAUSED_PERMILLE, CAUTION_TIME, LOSS_DELAY_ROUND_TRIPS, LOSS_HEAVY_PERMILLE, LOSS_PERMILLE,
    NOISE_KEPT_PERCENT, NOISE_PERMILLE_MAX, NOISE_TIME, NOISE_UNEXPLAINED_PERMILLE, TRIAL_LOST_MIN,
    TRIAL_PACKETS_MIN, UNSURE_PERMILLE,
};

/// What a stretch of packets says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossVerdict {
    /// No more than usual.
    Usual,
    /// More than usual: a lower rate for a round shows whether the rate is the cause.
    Try,
    /// Too much at this rate, for one stretch.
    Lossy,
    /// Too much, and not only for a moment.
    Sustained,
}

/// Circumstances of a stretch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) packet_bytes: u64,
    pub(super) smoothed_rtt: Duration,
    /// All packets of the round have waited in a queue.
    pub(super) queued: bool,
    /// In start-up, with the bandwidth growing or not.
    pub(super) starting: Option<bool>,
}

/// Packets sent at a low rate, and their outcome.
#[derive(Debug, Clone, Copy)]
struct Trial {
    from: Instant,
    to: Option<Instant>,
    sent: Stretch,
    /// Loss at the rate before, in a thousand.
    before: u64,
    queued: bool,
}

impl Trial {
    fn covers(&self, sent: Instant) -> bool {
        sent >= self.from && self.to.is_none_or(|to| sent < to)
    }
}

/// Tells noise from congestion.
#[derive(Debug, Clone, Default)]
pub(super) struct LossJudge {
    stretch: Stretch,
    /// The stretch begins here; earlier packets have been acked or declared lost.
    from: Option<Instant>,
    /// The rate is steady.
    steady: bool,
    last_lossy: bool,
    /// Lost in a thousand in the last stretch at a steady rate.
    steady_permille: u64,
    /// The least of all stretches of start-up.
    starting_permille: Option<u64>,
    /// Lost in a thousand whatever the rate.
    noise_permille: u64,
    trial: Option<Trial>,
    tried_at: Option<Instant>,
    /// What trials with too few packets have seen.
    inconclusive: Stretch,
    /// Until then, loss above the usual is taken for congestion without a trial.
    blamed_until: Option<Instant>,
    cautious_until: Option<Instant>,
    /// By this time, packets sent into a queue have been declared lost.
    queued_until: Option<Instant>,
    /// Earlier packets have been accounted for.
    reacted_at: Option<Instant>,
}

impl LossJudge {
    /// Lost in a thousand whatever the rate.
    pub(super) fn noise_permille(&self) -> u64 {
        self.noise_permille
    }

    /// As many are lost as an earlier transfer found, until this one knows better.
    pub(super) fn presume(&mut self, noise_permille: u64) {
        self.noise_permille = self.noise_permille.max(noise_permille);
    }

    /// Whether packets of `sent` have not been answered for yet.
    pub(super) fn counts(&self, sent: Instant) -> bool {
        self.reacted_at.is_none_or(|at| sent > at)
    }

    /// Loss of packets sent so far does not cause another reaction.
    pub(super) fn reacted(&mut self, now: Instant, smoothed_rtt: Duration) {
        self.reacted_at = Some(now);
        self.from = Some(now + called_after(smoothed_rtt));
        self.stretch = Stretch::default();
    }

    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        if self.from.is_none_or(|from| now >= from) {
            self.stretch.acked += bytes;
        }
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.covers(sent)) {
            trial.sent.acked += bytes;
        }
    }

    pub(super) fn lost(&mut self, now: Instant, sent: Instant, bytes: u64) {
        if self.from.is_none_or(|from| now >= from) {
            self.stretch.lost += bytes;
        }
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.covers(sent)) {
            trial.sent.lost += bytes;
        }
    }

    /// Another state has begun: stretches do not span two. In a `steady` one, packets sent before do not count.
    pub(super) fn restart(&mut self, now: Instant, steady: bool, smoothed_rtt: Duration) {
        self.steady = steady;
        if steady {
            self.from = Some(now + called_after(smoothed_rtt));
        }
        self.stretch = Stretch::default();
        self.last_lossy = false;
    }

    /// Whether a trial is due: loss at a steady rate is not known to be noise, or has not been tried for long.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let old = self.tried_at.is_none_or(|at| now.saturating_duration_since(at) > NOISE_TIME);
        self.is_unexplained() || old && self.noise_permille >= NOISE_UNEXPLAINED_PERMILLE
    }

    /// The last stretch at a steady rate lost more than is known to be noise.
    fn is_unexplained(&self) -> bool {
        self.steady_permille >= self.noise_permille + self.noise_permille / 8 + NOISE_UNEXPLAINED_PERMILLE
    }

    /// So much more that noise and the rate must be told apart clearly.
    pub(super) fn is_unsure(&self) -> bool {
        self.steady_permille >= self.noise_permille + self.noise_permille / 8 + UNSURE_PERMILLE
    }

    /// The rate has caused loss recently: a policer drops everything above a rate.
    pub(super) fn is_cautious(&self, now: Instant) -> bool {
        self.cautious_until.is_some_and(|until| now < until)
    }

    /// Packets are sent at a low rate from now on.
    pub(super) fn begin_trial(&mut self, now: Instant) {
        let (before, sent) = (self.steady_permille, std::mem::take(&mut self.inconclusive));
        self.trial = Some(Trial { from: now, to: None, sent, before, queued: false });
    }

    /// The low rate is over; `queued` if there was a queue even so.
    pub(super) fn end_trial(&mut self, now: Instant, queued: bool) {
        if let Some(trial) = &mut self.trial {
            trial.to = Some(now);
            trial.queued = queued;
        }
    }

    /// A round has ended.
    pub(super) fn judge(&mut self, now: Instant, at: &Circumstances) -> LossVerdict {
        if at.queued {
            self.queued_until = Some(now + 2 * called_after(at.smoothed_rtt));
        }
        if self.trial_fails(now, at) {
            self.blamed_until = Some(now + BLAME_TIME);
            self.cautious_until = Some(now + CAUTION_TIME);
            return LossVerdict::Sustained;
        }
        if !self.stretch.is_long_enough(at.packet_bytes) {
            return LossVerdict::Usual;
        }
        let permille = std::mem::take(&mut self.stretch).lost_permille();
        let queued = self.queued_until.is_some_and(|until| now < until);
        // Loss in a queue is explained by it.
        if self.steady && !queued {
            self.steady_permille = self.steady_permille.midpoint(permille);
        }
        if permille * 100 < self.noise_permille * NOISE_KEPT_PERCENT {
            self.noise_permille = self.noise_permille.midpoint(permille);
        }
        if let Some(growing) = at.starting {
            return self.judge_start(permille, growing);
        }
        let lossy = permille >= self.noise_permille + LOSS_PERMILLE;
        let again = lossy && self.last_lossy;
        let heavy = permille >= self.noise_permille + LOSS_HEAVY_PERMILLE;
        self.last_lossy = lossy;
        let blamed = self.blamed_until.is_some_and(|until| now < until);
        if lossy && !queued && !blamed {
            return if self.trial.is_some() { LossVerdict::Usual } else { LossVerdict::Try };
        }
        match (lossy, again || heavy) {
            (_, true) => LossVerdict::Sustained,
            (true, false) => LossVerdict::Lossy,
            (false, false) => LossVerdict::Usual,
        }
    }

    /// While the rate doubles, noise stays as it is; loss that jumps is a full path.
    fn judge_start(&mut self, permille: u64, growing: bool) -> LossVerdict {
        let least = self.starting_permille.unwrap_or(permille).min(permille);
        self.starting_permille = Some(least);
        let jumps = permille >= least + LOSS_PERMILLE;
        let lossy = jumps || !growing && permille >= self.noise_permille + LOSS_PERMILLE;
        if lossy { LossVerdict::Lossy } else { LossVerdict::Usual }
    }

    /// Takes the outcome of a trial once it is known. True when loss was above the usual and fell with the rate.
    fn trial_fails(&mut self, now: Instant, at: &Circumstances) -> bool {
        let Some(trial) = self.trial else { return false };
        if trial.to.is_none_or(|to| now < to + called_after(at.smoothed_rtt)) {
            return false;
        }
        self.trial = None;
        self.tried_at = Some(now);
        if trial.queued {
            return false;
        }
        let bytes = trial.sent.acked + trial.sent.lost;
        let expected = bytes / at.packet_bytes * trial.before / 1000;
        if bytes < TRIAL_PACKETS_MIN * at.packet_bytes || trial.before > 0 && expected < TRIAL_LOST_MIN {
            self.inconclusive = trial.sent;
            return false;
        }
        let permille = trial.sent.lost_permille();
        let stays = permille * 100 >= trial.before * NOISE_KEPT_PERCENT;
        if stays && permille <= NOISE_PERMILLE_MAX {
            let (noise, known) = (permille.min(trial.before), self.noise_permille > 0);
            self.noise_permille = if known { self.noise_permille.midpoint(noise) } else { noise };
            return false;
        }
        let too_much = trial.before >= self.noise_permille + CAUSED_PERMILLE;
        self.noise_permille = self.noise_permille.min(permille);
        too_much
    }
}

/// How long after it was sent a packet is acked or called lost.
pub(super) fn called_after(smoothed_rtt: Duration) -> Duration {
    smoothed_rtt.mul_f32(LOSS_DELAY_ROUND_TRIPS) + smoothed_rtt / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const AT: Circumstances =
        Circumstances { packet_bytes: 1000, smoothed_rtt: RTT, queued: false, starting: None };

    /// A second of steady loss that is looked at, a trial of two rounds, and the verdict.
    fn tried(steady_permille: u64, trial_permille: u64) -> (LossJudge, LossVerdict) {
        let start = Instant::now();
        let mut judge = LossJudge::default();
        judge.restart(start, true, RTT);
        let mut now = start;
        for _ in 0..10 {
            now += RTT;
            judge.acked(now, now, 1000 * (1000 - steady_permille));
            judge.lost(now, now, 1000 * steady_permille);
            assert_ne!(judge.judge(now, &AT), LossVerdict::Sustained, "without a trial");
        }
        judge.begin_trial(now);
        judge.acked(now, now, 1000 * (1000 - trial_permille));
        judge.lost(now, now, 1000 * trial_permille);
        judge.end_trial(now + 2 * RTT, false);
        judge.restart(now, true, RTT);
        let verdict = judge.judge(now + 6 * RTT, &AT);
        (judge, verdict)
    }

    #[test]
    fn loss_that_a_lower_rate_does_not_change_is_noise() {
        for permille in [50, 120, 250] {
            let (judge, verdict) = tried(permille, permille);
            assert_eq!(verdict, LossVerdict::Usual);
            assert!(judge.noise_permille().abs_diff(permille) <= 10, "{judge:?}");
        }
    }

    #[test]
    fn loss_that_falls_with_the_rate_is_caused_by_it() {
        for (steady, trial) in [(50, 0), (120, 20), (250, 60), (600, 600)] {
            let (judge, verdict) = tried(steady, trial);
            assert_eq!((verdict, judge.noise_permille()), (LossVerdict::Sustained, 0), "{steady}, {trial}");
        }
    }

    #[test]
    fn loss_in_a_queue_needs_no_trial() {
        let now = Instant::now();
        let mut judge = LossJudge::default();
        judge.lost(now, now, 500_000);
        judge.acked(now, now, 500_000);
        let verdict = judge.judge(now, &Circumstances { queued: true, ..AT });
        assert_eq!(verdict, LossVerdict::Sustained);
    }
}
