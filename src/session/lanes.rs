//! The connections that parcels go over. Each may be lost, and what was on it is sent again over the others.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tracing::debug;

use super::joining::Joining;
use crate::transport::Connection;

/// How often it is decided over how many connections parcels go.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// Slower than this, one processor is never what holds a connection back. Bytes a second.
const FAST_BYTES_PER_S: u64 = 100 * 1024 * 1024;
/// How long one connection is kept to after the network was found to be the limit; twice as long each time.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(64);

/// Whether so many bytes in so long are fast enough for extra connections to be of use.
pub(super) fn is_fast(bytes: u64, time: Duration) -> bool {
    u128::from(bytes) * 1000 > u128::from(FAST_BYTES_PER_S) * time.as_millis()
}

/// One connection of a session.
#[derive(Clone)]
pub(super) struct Lane<C> {
    /// 0 carries the control stream, too.
    pub(super) number: u32,
    pub(super) connection: C,
    /// Parcels of this side on the way.
    parcels: Arc<AtomicUsize>,
}

impl<C> Lane<C> {
    pub(super) fn new(number: u32, connection: C) -> Self {
        Self { number, connection, parcels: Arc::default() }
    }
}

impl<C: Connection> Lane<C> {
    /// The connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_closed()
    }

    /// Counts a parcel until the guard is dropped.
    pub(super) fn count(&self) -> Counted {
        self.parcels.fetch_add(1, Relaxed);
        Counted(Arc::clone(&self.parcels))
    }
}

/// A parcel on its way.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Opens a stream on whichever of `lanes` has room; of several, on the one with the fewest parcels. `None` when all of
/// them are lost.
pub(super) async fn open_any<C: Connection>(
    mut lanes: Vec<Lane<C>>,
) -> Option<(Lane<C>, Counted, C::Send, C::Recv)> {
    lanes.sort_by_key(|lane| lane.parcels.load(Relaxed));
    let mut opening: Vec<_> = lanes.iter().map(|lane| Some(Box::pin(lane.connection.open_bi()))).collect();
    poll_fn(|context| {
        for (lane, open) in lanes.iter().zip(&mut opening) {
            let Some(future) = open else { continue };
            match Pin::new(future).poll(context) {
                Poll::Ready(Ok((send, recv))) => {
                    return Poll::Ready(Some((lane.clone(), lane.count(), send, recv)));
                }
                // Nothing but the end of the connection fails.
                Poll::Ready(Err(_)) => *open = None,
                Poll::Pending => {}
            }
        }
        if opening.iter().all(Option::is_none) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// The connections that a sender has, and how many of them it uses.
pub(super) struct Lanes<C> {
    joining: Joining<C>,
    lanes: Vec<Lane<C>>,
    spread: Spread,
}

impl<C: Connection> Lanes<C> {
    pub(super) fn new(first: C, joining: Joining<C>) -> Self {
        let spread = Spread::new(joining.is_automatic());
        Self { joining, lanes: vec![Lane::new(0, first)], spread }
    }

    /// The listener takes extra connections at these ports.
    pub(super) fn offered(&mut self, ports: Vec<u16>) {
        self.joining.offered(ports);
    }

    /// How many extra connections there may be.
    pub(super) fn extra_max(&self) -> u32 {
        self.joining.max()
    }

    /// The next connection that joins, and its number.
    pub(super) async fn next(&mut self) -> Option<(u32, C)> {
        self.joining.next().await
    }

    /// How long a lost connection may be waited for.
    pub(super) fn replaced_within(&self) -> Option<Duration> {
        self.joining.replaced_within()
    }

    /// Parcels may go over an extra connection.
    pub(super) fn add(&mut self, number: u32, connection: C) {
        debug!(lane = number, peer = %connection.remote_address(), "an extra connection");
        self.lanes.push(Lane::new(number, connection));
    }

    /// Parcels may go over the connection that carries the control stream now.
    pub(super) fn set_first(&mut self, connection: C) {
        self.lanes.retain(|lane| lane.number != 0);
        self.lanes.insert(0, Lane::new(0, connection));
    }

    /// Lets go of the connections that are lost; gives the numbers of those that were extra ones.
    pub(super) fn forget_lost(&mut self) -> Vec<u32> {
        let lost: Vec<_> = self.lanes.extract_if(.., |lane| lane.is_lost()).map(|lane| lane.number).collect();
        lost.into_iter().filter(|number| *number > 0).collect()
    }

    /// Parcels may go over at least one.
    pub(super) fn has_any(&self) -> bool {
        !self.in_use().is_empty()
    }

    /// Those that parcels may go over now.
    pub(super) fn in_use(&self) -> Vec<Lane<C>> {
        self.lanes.iter().filter(|lane| !lane.is_lost()).take(self.spread.in_use).cloned().collect()
    }

    /// How long the window of the one that was held back most has been full.
    pub(super) fn window_full(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.connection.stats().window_full).max().unwrap_or_default()
    }

    /// Decides over how many connections parcels go; `sent_bytes` have gone by `now`, since any fixed moment, and
    /// since the last call it was the network that held them back, or not.
    pub(super) fn judge(&mut self, now: Duration, sent_bytes: u64, by_network: bool) {
        if self.joining.max() == 0 {
            return;
        }
        self.spread.judge(now, sent_bytes, self.lanes.len(), by_network);
        if self.spread.in_use > self.lanes.len() {
            self.joining.want();
        }
    }
}

/// Over how many connections parcels go. Several flows take more than one flow's share of a link that is full, so
/// further ones are used only while the network is not the limit.
struct Spread {
    automatic: bool,
    in_use: usize,
    judged: Duration,
    sent_bytes: u64,
    looked: Duration,
    /// For so long it has been the network, since it was judged.
    by_network: Duration,
    patience: Duration,
    hold_until: Duration,
}

impl Spread {
    fn new(automatic: bool) -> Self {
        Self {
            automatic,
            in_use: if automatic { 1 } else { usize::MAX },
            judged: Duration::ZERO,
            sent_bytes: 0,
            looked: Duration::ZERO,
            by_network: Duration::ZERO,
            patience: PATIENCE,
            hold_until: Duration::ZERO,
        }
    }

    fn judge(&mut self, now: Duration, sent_bytes: u64, lanes: usize, by_network: bool) {
        let since = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        if by_network {
            self.by_network += since;
        }
        let time = now.saturating_sub(self.judged);
        if time < JUDGE_EVERY {
            return;
        }
        let by_network = std::mem::take(&mut self.by_network);
        let is_fast = is_fast(sent_bytes.saturating_sub(self.sent_bytes), time);
        if by_network > time / 2 && self.in_use > 1 {
            debug!(?by_network, "the network is the limit: one connection");
            self.in_use = 1;
            self.hold_until = now + self.patience;
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        } else if by_network < time / 10 && now >= self.hold_until {
            match self.automatic {
                true if is_fast && self.in_use <= lanes => self.in_use += 1,
                true => {}
                false => self.in_use = usize::MAX,
            }
        }
        (self.judged, self.sent_bytes) = (now, sent_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Judges each second: MiB sent in it, milliseconds in which the network held them back.
    struct Seconds {
        spread: Spread,
        now: u64,
        sent: u64,
        lanes: usize,
    }

    impl Seconds {
        fn new(automatic: bool, lanes: usize) -> Self {
            Self { spread: Spread::new(automatic), now: 0, sent: 0, lanes }
        }

        fn next(&mut self, mib: u64, network_ms: u64) -> usize {
            self.now += 1;
            self.sent += mib * MIB;
            let second = Duration::from_secs(self.now);
            let calm = second - Duration::from_millis(network_ms);
            self.spread.judge(calm, self.sent, self.lanes, false);
            self.spread.judge(second, self.sent, self.lanes, true);
            self.lanes.min(self.spread.in_use)
        }
    }

    #[test]
    fn extra_connections_are_added_one_a_second_while_the_processor_is_the_limit() {
        let mut seconds = Seconds::new(true, 3);
        let used: Vec<_> =
            [(500, 20), (90, 20), (500, 200), (500, 20)].map(|(mib, full)| seconds.next(mib, full)).into();
        assert_eq!(used, [2, 2, 2, 3]);
        let mut slow = Seconds::new(true, 3);
        assert_eq!([slow.next(50, 0), slow.next(50, 0)], [1, 1]);
    }

    /// [W-6]
    #[test]
    fn a_full_link_is_left_to_one_connection_for_longer_each_time() {
        for automatic in [true, false] {
            let mut seconds = Seconds::new(automatic, 2);
            seconds.next(500, 0);
            assert_eq!(seconds.next(500, 0), 2);
            assert_eq!(seconds.next(500, 600), 1);
            assert_eq!([seconds.next(500, 0), seconds.next(500, 0)], [1, 2]);
            assert_eq!(seconds.next(500, 0), 2, "what was before does not count");
            assert_eq!(seconds.next(500, 900), 1);
            let used: Vec<_> = (0..4).map(|_| seconds.next(500, 0)).collect();
            assert_eq!(used, [1, 1, 1, 2]);
        }
    }

    #[test]
    fn those_that_were_asked_for_are_used_at_once() {
        let mut seconds = Seconds::new(false, 4);
        assert_eq!([seconds.next(1, 0), seconds.next(1, 300)], [4, 4]);
    }

    #[test]
    fn fast_is_more_than_one_processor_ever_has_trouble_with() {
        assert!(is_fast(101 * MIB, Duration::from_secs(1)) && !is_fast(99 * MIB, Duration::from_secs(1)));
        assert!(is_fast(51 * MIB, Duration::from_millis(500)));
    }
}
