//! The connections that carry parcels. When one is lost, its parcels are sent again over the others.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::debug;

use super::joining::Joining;
use super::retry::Retry;
use crate::transport::{Connection, RecvStream, TransportError};

/// Interval between decisions on the number of connections for parcels.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// In bytes a second. Below this rate, one processor is never the bottleneck of a connection.
const FAST_BYTES_PER_S: u64 = 100 * 1024 * 1024;
/// Time to stay with one connection after the network was found to be the limit; doubles each time.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(64);

/// Whether `bytes` in this time are fast enough for extra connections to help.
pub(super) fn is_fast(bytes: u64, time: Duration) -> bool {
    u128::from(bytes) * 1000 > u128::from(FAST_BYTES_PER_S) * time.as_millis()
}

/// One connection of a session.
#[derive(Clone)]
pub(super) struct Lane<C> {
    /// Number 0 also carries the control stream.
    pub(super) number: u32,
    pub(super) connection: C,
    /// Parcels of this side in flight.
    parcels: Arc<AtomicUsize>,
    /// Its parcels read nothing more.
    is_left: Arc<AtomicBool>,
    /// Gone with the last clone.
    _held: Option<mpsc::Sender<Infallible>>,
}

impl<C> Lane<C> {
    pub(super) fn new(number: u32, connection: C) -> Self {
        Self { number, connection, parcels: Arc::default(), is_left: Arc::default(), _held: None }
    }

    /// The lane of the connection that carries the control stream, and its end.
    pub(super) fn first(connection: C) -> (Self, LaneEnd) {
        let (held, end) = mpsc::channel(1);
        (Self { _held: Some(held), ..Self::new(0, connection) }, LaneEnd(end))
    }
}

impl<C: Connection> Lane<C> {
    /// The connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_closed()
    }

    /// Lets its parcels read nothing more: what has arrived is sent again over another connection. Unread, it goes with
    /// the memory of this one.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Relaxed);
    }

    /// `stream` until this lane is left.
    pub(super) fn reader(&self, stream: C::Recv) -> LaneReader<C::Recv> {
        LaneReader { stream, is_left: Arc::clone(&self.is_left) }
    }

    /// Counts a parcel until the guard is dropped.
    pub(super) fn count(&self) -> Counted {
        self.parcels.fetch_add(1, Relaxed);
        Counted(Arc::clone(&self.parcels))
    }
}

/// The end of a lane: no parcel holds its connection, and the memory of it, any more.
pub(super) struct LaneEnd(mpsc::Receiver<Infallible>);

impl LaneEnd {
    pub(super) async fn reached(mut self) {
        self.0.recv().await;
    }
}

/// A stream of a lane that may be left.
pub(super) struct LaneReader<R> {
    stream: R,
    is_left: Arc<AtomicBool>,
}

impl<R: RecvStream> RecvStream for LaneReader<R> {
    async fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, TransportError> {
        if self.is_left.load(Relaxed) {
            return Err(TransportError::Lost("another connection takes over".to_owned()));
        }
        self.stream.read(room).await
    }
}

/// A parcel in flight.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Opens a stream on a lane with room; among several, on the one with the fewest parcels. `None` when all lanes are
/// lost.
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
                // Opening fails only at the end of the connection.
                Poll::Ready(Err(_)) => *open = None,
                Poll::Pending => {}
            }
        }
        if opening.iter().all(Option::is_none) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// The connections of a sender, and how many of them it uses.
pub(super) struct Lanes<C> {
    joining: Joining<C>,
    lanes: Vec<Lane<C>>,
    first_end: Option<LaneEnd>,
    spread: Spread,
}

impl<C: Connection> Lanes<C> {
    pub(super) fn new(first: C, joining: Joining<C>) -> Self {
        let spread = Spread::new(joining.is_automatic());
        let mut lanes = Self { joining, lanes: Vec::new(), first_end: None, spread };
        lanes.set_first(first);
        lanes
    }

    /// The listener takes extra connections at these ports.
    pub(super) fn offered(&mut self, ports: Vec<u16>) {
        self.joining.offered(ports);
    }

    /// Maximum number of extra connections.
    pub(super) fn extra_max(&self) -> u32 {
        self.joining.max()
    }

    /// The next connection that joins, and its number.
    pub(super) async fn next(&mut self) -> Option<(u32, C)> {
        self.joining.next().await
    }

    /// How long to wait for a lost connection to be replaced.
    pub(super) fn retry(&self) -> Retry {
        self.joining.retry()
    }

    /// Starts to use an extra connection.
    pub(super) fn add(&mut self, number: u32, connection: C) {
        debug!(lane = number, peer = %connection.remote_address(), "an extra connection");
        self.lanes.push(Lane::new(number, connection));
    }

    /// Forgets the connection that carried the control stream.
    pub(super) fn drop_first(&mut self) {
        self.lanes.retain(|lane| lane.number != 0);
    }

    /// The end of that connection.
    pub(super) fn end_of_first(&mut self) -> Option<LaneEnd> {
        self.first_end.take()
    }

    /// Starts to use the connection that carries the control stream.
    pub(super) fn set_first(&mut self, connection: C) {
        let (lane, end) = Lane::first(connection);
        self.lanes.insert(0, lane);
        self.first_end = Some(end);
    }

    /// Drops lost connections. Returns the numbers of the extra ones.
    pub(super) fn forget_lost(&mut self) -> Vec<u32> {
        let lost: Vec<_> = self.lanes.extract_if(.., |lane| lane.is_lost()).map(|lane| lane.number).collect();
        lost.into_iter().filter(|number| *number > 0).collect()
    }

    /// Whether parcels have at least one connection.
    pub(super) fn has_any(&self) -> bool {
        !self.in_use().is_empty()
    }

    /// The connections in use for parcels.
    pub(super) fn in_use(&self) -> Vec<Lane<C>> {
        self.lanes.iter().filter(|lane| !lane.is_lost()).take(self.spread.in_use).cloned().collect()
    }

    /// How long the fullest congestion window has been full.
    pub(super) fn window_full(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.connection.stats().window_full).max().unwrap_or_default()
    }

    /// Decides how many connections to use. `sent_bytes` have been sent by `now`, counted from any fixed moment; the
    /// last argument says whether the network was the limit since the last call.
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

/// The number of connections to use. Several flows take more than one flow's share of a full link, so extra ones are
/// used only while the network is not the limit.
struct Spread {
    automatic: bool,
    in_use: usize,
    judged: Duration,
    sent_bytes: u64,
    looked: Duration,
    /// How long the network has been the limit since the last decision.
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

    /// Decides once a second, from the MiB sent in it and the milliseconds in which the network was the limit.
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
    fn extra_connections_help_above_a_hundred_mib_a_second() {
        assert!(is_fast(101 * MIB, Duration::from_secs(1)) && !is_fast(99 * MIB, Duration::from_secs(1)));
        assert!(is_fast(51 * MIB, Duration::from_millis(500)));
    }
}
