//! The numbers of the controller in `rate.rs`.

use std::time::Duration;

/// Windows in percent of what the path holds.
pub(super) const STARTUP_PERCENT: u64 = 200;
/// While the bandwidth still grows: what is acked now was sent when the window was half as large.
pub(super) const STARTUP_GROWING_PERCENT: u64 = 300;
/// Growth in percent of what is acked. With 100, quinn's pacer would let the rate grow by 1.92 a round, not by 2.
pub(super) const STARTUP_GROWTH_PERCENT: u64 = 125;
pub(super) const CRUISE_PERCENT: u64 = 105;
pub(super) const UP_PERCENT: u64 = 125;
pub(super) const DOWN_PERCENT: u64 = 85;
pub(super) const PROBE_RTT_PERCENT: u64 = 50;
/// Minimum window beside a flow that holds the queue.
pub(super) const COMPETE_PERCENT: u64 = 135;
/// Minimum window in packets (as the draft's `BBR.MinPipeCwnd`).
pub(super) const WINDOW_PACKETS_MIN: u64 = 4;
/// Maximum extra for acks that come late and together; if they do not, the excess is a queue.
pub(super) const LATE_ACKS_PERCENT: u64 = 15;
/// Added to any share, in packets: the peer acks every second one.
pub(super) const SPARE_PACKETS: u64 = 3;
/// Minimum round trip assumed: on shorter paths the scheduler decides when an ack is seen.
pub(super) const RTT_FLOOR: Duration = Duration::from_millis(2);
/// Start-up ends after this many rounds without a quarter more bandwidth.
pub(super) const STARTUP_FLAT_ROUNDS: u32 = 3;
/// Growth of a round, in percent, that promises more.
pub(super) const GROWTH_PERCENT: u64 = 125;
/// While probing upwards, minimum part of the window's growth that must arrive.
pub(super) const UP_GROWTH_PERCENT: u64 = 110;
/// After this many of these in a row the link has changed: start again.
pub(super) const UP_GROWTHS_TO_STARTUP: u32 = 2;
/// Loss per thousand in a stretch, above noise, that is too much if another stretch follows.
pub(super) const LOSS_PERMILLE: u64 = 100;
/// Loss per thousand in a stretch, above noise, that is too much at once.
pub(super) const LOSS_HEAVY_PERMILLE: u64 = 300;
/// Loss is noise when at least this part of it remains at a lower rate.
pub(super) const NOISE_KEPT_PERCENT: u64 = 50;
/// Maximum noise.
pub(super) const NOISE_PERMILLE_MAX: u64 = 400;
/// Loss this far above noise needs another look.
pub(super) const NOISE_UNEXPLAINED_PERMILLE: u64 = 10;
/// The window of a trial, in percent of what the path holds, and its minimum packets.
pub(super) const TRIAL_PERCENT: u64 = 70;
pub(super) const TRIAL_PACKETS_MIN: u64 = 30;
/// How long loss above the usual counts as congestion after a trial has shown it once.
pub(super) const BLAME_TIME: Duration = Duration::from_secs(2);
/// One stretch of loss lowers the bandwidth to what arrives, but not below this part.
pub(super) const LOSS_KEEPS_PERCENT: u64 = 10;
/// The window's ceiling after a stretch of loss or a mark.
pub(super) const CEILING_PERCENT: u64 = 85;
/// A round of probing at the ceiling without such loss raises it to this.
pub(super) const CEILING_GROWTH_PERCENT: u64 = 125;
/// Rounds of a long queue and of less than [`STALE_PERCENT`] of the bandwidth that invalidate the estimate.
pub(super) const STALE_ROUNDS: u32 = 3;
pub(super) const STALE_PERCENT: u64 = 70;
/// Cruise: rounds, or time when that is longer, plus up to half of it.
pub(super) const CRUISE_ROUNDS: u32 = 6;
pub(super) const CRUISE_TIME: Duration = Duration::from_millis(800);
/// Below this part of the earlier probes' start, without a visible queue, another flow is growing.
pub(super) const DISPLACED_PERCENT: u64 = 93;
/// Then a flow that makes way keeps this part for this time.
pub(super) const DISPLACED_KEEPS_PERCENT: u64 = 15;
pub(super) const DISPLACED_TIME: Duration = Duration::from_secs(8);
/// The first window is for a round trip up to this. A longer one has more, so that the rate is the same, up to so many
/// times as much.
pub(super) const FIRST_WINDOW_TIME: Duration = Duration::from_millis(150);
pub(super) const FIRST_WINDOW_PERCENT_MAX: u64 = 400;
/// The first window of a known path, in percent of what it held (RFC 9959 allows no more).
pub(super) const JUMP_PERCENT: u64 = 50;
/// A known path is found again at this part of its bandwidth; then it is seen whether it carries more.
pub(super) const RESUMED_PERCENT: u64 = 90;
/// A path is known only if its least round trip is within these parts of the known one. RFC 9959 allows from half to
/// ten times; a longer one here may be the queue of others. The slack is for handshakes, which keep a processor busy.
pub(super) const RESUMED_RTT_PERCENT_MIN: u32 = 50;
pub(super) const RESUMED_RTT_PERCENT_MAX: u32 = 150;
pub(super) const RESUMED_RTT_SLACK: Duration = Duration::from_millis(2);
/// Minimum time for probing the round trip, besides one round.
pub(super) const PROBE_RTT_TIME: Duration = Duration::from_millis(100);
/// Cycles in a row that do not empty the queue, after which another flow must hold it.
pub(super) const FULL_CYCLES: u32 = 2;
/// Time beside such a flow until the next look at the queue.
pub(super) const COMPETE_TIME: Duration = Duration::from_secs(4);
/// QUIC declares a packet lost when it is older than this many round trips and a later one has been acked.
pub(crate) const LOSS_DELAY_ROUND_TRIPS: f32 = 2.0;
/// The same in percent.
#[cfg(test)]
pub(crate) const LOSS_DELAY_PERCENT: u64 = 200;
/// Bytes that were overtaken count no more beyond this, in percent of what the path holds.
pub(super) const OVERTAKEN_PERCENT_MAX: u64 = 60;
/// The same while the losses of start-up are not all called so.
pub(super) const OVERTAKEN_PERCENT_START: u64 = 20;
/// Start-up compares what is sent with what arrives over blocks: so many a round trip, of at least so many packets.
pub(super) const FULL_BLOCKS_PER_RTT: u32 = 16;
pub(super) const FULL_PACKETS_MIN: u64 = 64;
/// Minimum duration of a block, because packets leave in bursts.
pub(super) const FULL_BLOCK_TIME_MIN: Duration = Duration::from_millis(4);
/// The path is full when less than this arrives of what is sent, or all packets are later than at best by an eighth
/// of the round trip within these bounds (as in RFC 9406), for so many blocks in a row.
pub(super) const FULL_PERCENT: u64 = 90;
pub(super) const FULL_DELAY_MIN: Duration = Duration::from_millis(4);
pub(super) const FULL_DELAY_MAX: Duration = Duration::from_millis(16);
pub(super) const FULL_BLOCKS: u32 = 3;
/// Lost in a thousand above what is noise that lowers the rate when a trial has shown that the rate is the cause.
pub(super) const CAUSED_PERMILLE: u64 = 20;
/// Packets that a trial must lose if nothing changes, to say something.
pub(super) const TRIAL_LOST_MIN: u64 = 5;
/// Lost in a thousand above what is noise that makes a look at the queue a trial as well.
pub(super) const UNSURE_PERMILLE: u64 = 50;
/// How long noise is believed without another trial.
pub(super) const NOISE_TIME: Duration = Duration::from_secs(4);
/// For how long a probe upwards is a small one after a trial has shown that the rate causes loss, and its window.
pub(super) const CAUTION_TIME: Duration = Duration::from_secs(15);
pub(super) const CAUTIOUS_UP_PERCENT: u64 = 107;
/// The window between such probes.
pub(super) const CAUTIOUS_CRUISE_PERCENT: u64 = 97;
/// Rounds at the ceiling after which loss would have been seen.
pub(super) const CEILING_ROUNDS: u32 = 2;
/// quinn's pacer sends 1.25 windows a round trip. While less is in flight than may be, the window is only what is in
/// flight and a burst: what the path carries in this time, and so many packets at least. And it is at least so many
/// percent of what the path holds. Then quinn sends hardly faster than the path carries.
pub(super) const PACED_TIME: Duration = Duration::from_millis(2);
pub(super) const PACED_PACKETS: u64 = 20;
pub(super) const PACED_PERCENT: u64 = 84;
