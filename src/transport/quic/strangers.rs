//! Unauthenticated diallers: the cost of each, their maximum number, and which one makes room.
//!
//! The oldest leave first. An honest dialler authenticates a round trip after its handshake, so a new one is more
//! likely to be honest than one that has long been silent.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::VarInt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::transport::limits::Limits;

/// Bytes of all streams that a stranger may send: the greeting, and the manifest of a sender that does not wait for
/// the answer. About the first congestion window.
pub(in crate::transport) const WINDOW_BYTES: u32 = 32 * 1024;
/// Bidirectional streams that a stranger may open: the control stream.
pub(in crate::transport) const STREAMS_BIDI: u32 = 1;
/// Maximum strangers. Each may hold the window plus buffered datagrams of its streams and handshake, about 200 KiB.
const STRANGERS_MAX: usize = 48;
/// Maximum from one address, or one /64 network of IPv6.
const STRANGERS_OF_ADDRESS_MAX: usize = 16;
/// Maximum strangers while nobody can be let in and they are only told so.
const STRANGERS_CLOSED_MAX: usize = 4;
/// Handshakes per second. Each costs about a millisecond of processor time, and frees its memory a second after its
/// end.
const HANDSHAKES_PER_S: u32 = 32;
/// The same while nobody can be let in and a session is running.
const HANDSHAKES_CLOSED_PER_S: u32 = 16;
/// Maximum strangers without address validation; more must validate their address by Retry.
const UNVALIDATED_MAX: usize = 8;

/// The strangers of one listener.
#[derive(Debug, Clone, Default)]
pub(in crate::transport) struct Strangers(Arc<Mutex<Present>>);

#[derive(Debug, Default)]
struct Present {
    /// In order of arrival.
    all: VecDeque<Arc<Known>>,
    /// Nobody can be let in.
    is_closed: bool,
    /// Start of the current second, and the handshakes in it.
    second: Option<(Instant, u32)>,
}

/// A stranger's record.
#[derive(Debug)]
struct Known {
    network: IpAddr,
    has_to_leave: watch::Sender<bool>,
}

/// A dialler while it is a stranger.
#[derive(Debug)]
pub(in crate::transport) struct Stranger {
    known: Arc<Known>,
    strangers: Strangers,
}

/// The decision on a new dialler.
#[derive(Debug)]
pub(in crate::transport) enum Admission {
    In(Stranger),
    /// It must prove its address first.
    Validate,
    /// There are too many at the moment.
    Refuse,
}

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody can be let in.
    pub(in crate::transport) fn close_to_newcomers(&self) {
        let mut present = self.lock();
        present.is_closed = true;
        while present.all.len() > STRANGERS_CLOSED_MAX {
            present.evict(None);
        }
    }

    /// Decides on a new dialler from `ip`. Another stranger may have to leave for it.
    pub(in crate::transport) fn enter(&self, ip: IpAddr, is_validated: bool) -> Admission {
        let mut present = self.lock();
        if !is_validated && present.all.len() >= UNVALIDATED_MAX.min(present.max()) {
            return Admission::Validate;
        }
        if !present.may_begin() {
            return Admission::Refuse;
        }
        let network = network(ip);
        if present.all.iter().filter(|known| known.network == network).count() >= STRANGERS_OF_ADDRESS_MAX {
            present.evict(Some(network));
        }
        if present.all.len() >= present.max() {
            present.evict(None);
        }
        let known = Arc::new(Known { network, has_to_leave: watch::Sender::new(false) });
        present.all.push_back(known.clone());
        Admission::In(Stranger { known, strangers: self.clone() })
    }
}

impl Present {
    fn max(&self) -> usize {
        if self.is_closed { STRANGERS_CLOSED_MAX } else { STRANGERS_MAX }
    }

    /// Counts a handshake; false when this second has no more.
    fn may_begin(&mut self) -> bool {
        let max = if self.is_closed { HANDSHAKES_CLOSED_PER_S } else { HANDSHAKES_PER_S };
        let now = Instant::now();
        let (began, came) = self.second.get_or_insert((now, 0));
        if began.elapsed() >= Duration::from_secs(1) {
            (*began, *came) = (now, 0);
        }
        *came += 1;
        *came <= max
    }

    /// Evicts the oldest stranger, of `network` or of all.
    fn evict(&mut self, network: Option<IpAddr>) {
        let at = self.all.iter().position(|known| network.is_none_or(|network| known.network == network));
        if let Some(known) = at.and_then(|at| self.all.remove(at)) {
            known.has_to_leave.send_replace(true);
        }
    }
}

impl Stranger {
    /// Waits until this dialler must make room, if it is still a stranger then.
    pub(in crate::transport) fn has_to_leave(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut has_to_leave = self.known.has_to_leave.subscribe();
        async move {
            if has_to_leave.wait_for(|has_to_leave| *has_to_leave).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// The dialler is authenticated: gives `connection` the credit of `limits`.
    pub(in crate::transport) fn let_in(self, connection: &quinn::Connection, limits: &Limits) {
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams.saturating_add(1)));
        connection.set_receive_window(VarInt::from_u32(limits.receive_window_bytes));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.lock().all.retain(|known| !Arc::ptr_eq(known, &self.known));
    }
}

/// The addresses of one owner: an IPv4 address, or an IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(strangers: &Strangers, from: &str) -> Stranger {
        match strangers.enter(ip(from), true) {
            Admission::In(stranger) => stranger,
            other => panic!("{other:?}"),
        }
    }

    fn left(stranger: &Stranger) -> bool {
        *stranger.known.has_to_leave.borrow()
    }

    #[tokio::test(start_paused = true)]
    async fn fault_5_the_one_that_was_silent_longest_makes_room() {
        let strangers = Strangers::default();
        let other = enter(&strangers, "192.0.2.2");
        let mut all: VecDeque<_> =
            (0..STRANGERS_OF_ADDRESS_MAX).map(|_| enter(&strangers, "192.0.2.1")).collect();
        assert!(!all.iter().any(left));
        all.push_back(enter(&strangers, "::ffff:192.0.2.1"));
        assert_eq!(all.iter().position(left), Some(0), "of the same address the oldest");
        assert!(!left(&other), "another address pays nothing for it");
        all.pop_front();
        for number in all.len() + 1..STRANGERS_MAX {
            tokio::time::advance(Duration::from_secs(1)).await;
            all.push_back(enter(&strangers, &format!("2001:db8:0:{number}::1")));
        }
        assert!(!left(&other));
        let newest = enter(&strangers, "2001:db8::1");
        assert!(left(&other) && !left(&newest), "of all the oldest");
        other.has_to_leave().await;
        drop((all, other, newest));
        assert_eq!(strangers.lock().all.len(), 0);
    }

    #[test]
    fn fault_5_one_network_of_ipv6_is_one_owner() {
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:2")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:2::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn attack_12_many_have_to_show_that_they_receive() {
        let strangers = Strangers::default();
        let _all: Vec<_> = (0..UNVALIDATED_MAX).map(|_| enter(&strangers, "192.0.2.1")).collect();
        assert!(matches!(strangers.enter(ip("192.0.2.9"), false), Admission::Validate));
        assert!(matches!(strangers.enter(ip("192.0.2.9"), true), Admission::In(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_5_handshakes_per_second_are_limited() {
        let strangers = Strangers::default();
        for second in 0..3 {
            let came =
                (0..100).filter(|_| matches!(strangers.enter(ip("192.0.2.1"), true), Admission::In(_)));
            assert_eq!(came.count(), HANDSHAKES_PER_S as usize, "in second {second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fault_5_while_nobody_can_be_let_in_few_are_told_so() {
        let strangers = Strangers::default();
        let before: Vec<_> = (0..10).map(|_| enter(&strangers, "192.0.2.1")).collect();
        tokio::time::advance(Duration::from_secs(1)).await;
        strangers.close_to_newcomers();
        assert_eq!(before.iter().filter(|stranger| left(stranger)).count(), 10 - STRANGERS_CLOSED_MAX);
        for second in 0..3 {
            let came =
                (0..100).filter(|_| matches!(strangers.enter(ip("192.0.2.1"), true), Admission::In(_)));
            assert_eq!(came.count(), HANDSHAKES_CLOSED_PER_S as usize, "in second {second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(strangers.lock().all.len() <= STRANGERS_CLOSED_MAX);
    }
}
