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
/// The least beside a flow that holds the queue.
pub(super) const COMPETE_PERCENT: u64 = 135;
/// Never less, in packets (as the draft's `BBR.MinPipeCwnd`).
pub(super) const WINDOW_PACKETS_MIN: u64 = 4;
/// On top for acks that come late and together, at most: it is a queue when they do not.
pub(super) const LATE_ACKS_PERCENT: u64 = 15;
/// On top of any share, in packets: the peer acks every second one.
pub(super) const SPARE_PACKETS: u64 = 3;
/// A path shorter than this is taken to be so long: there the scheduler decides when an ack is seen.
pub(super) const RTT_FLOOR: Duration = Duration::from_millis(2);
/// Start-up is over after so many rounds without a quarter more of bandwidth.
pub(super) const STARTUP_FLAT_ROUNDS: u32 = 3;
/// Growth of a round, in percent, that says that there is more to come.
pub(super) const GROWTH_PERCENT: u64 = 125;
/// While probing upwards, what the window adds must come back at least so much.
pub(super) const UP_GROWTH_PERCENT: u64 = 110;
/// After so many of these in a row the link has become another: start again.
pub(super) const UP_GROWTHS_TO_STARTUP: u32 = 2;
/// Lost in percent of a stretch of packets that is congestion when it goes on for another; below it is noise.
pub(super) const LOSS_PERCENT: u64 = 10;
/// Lost in percent of a stretch that is congestion at once.
pub(super) const LOSS_HEAVY_PERCENT: u64 = 30;
/// One stretch of loss brings the bandwidth down to what gets through, at most to this part.
pub(super) const LOSS_KEEPS_PERCENT: u64 = 10;
/// A stretch of loss or a mark leaves so much of the window as the ceiling.
pub(super) const CEILING_PERCENT: u64 = 85;
/// A round of probing at the ceiling without such loss raises it to so much.
pub(super) const CEILING_GROWTH_PERCENT: u64 = 125;
/// Rounds of a long queue and of less than [`STALE_PERCENT`] of the bandwidth that make the estimate void.
pub(super) const STALE_ROUNDS: u32 = 3;
pub(super) const STALE_PERCENT: u64 = 70;
/// Cruise: rounds, or time when that is longer, with up to half as much again.
pub(super) const CRUISE_ROUNDS: u32 = 6;
pub(super) const CRUISE_TIME: Duration = Duration::from_millis(800);
/// Less than this of what earlier probes began with, without a queue to see: another flow is on its way up.
pub(super) const DISPLACED_PERCENT: u64 = 93;
/// Then one that makes way keeps so much for so long.
pub(super) const DISPLACED_KEEPS_PERCENT: u64 = 15;
pub(super) const DISPLACED_TIME: Duration = Duration::from_secs(8);
/// Probing the round trip takes a round and at least so long.
pub(super) const PROBE_RTT_TIME: Duration = Duration::from_millis(100);
/// Cycles in a row that did not empty the queue, after which another flow must be holding it.
pub(super) const FULL_CYCLES: u32 = 2;
/// Time beside such a flow until the queue is looked at again.
pub(super) const COMPETE_TIME: Duration = Duration::from_secs(4);
