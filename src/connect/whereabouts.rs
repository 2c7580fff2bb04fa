//! Where a peer is: addresses, and names that may have other addresses later.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::protocol::failure::{Failure, Reason};
use crate::transport::Network;
use crate::transport::address::HostPort;

/// Time for the other names once one is resolved.
const FURTHER_TIME: Duration = Duration::from_secs(2);

/// Where a peer is.
#[derive(Debug, Clone, Default)]
pub(super) struct Whereabouts {
    /// Its addresses, best first.
    pub(super) addresses: Vec<SocketAddr>,
    /// Names that the addresses came from, each with those it had when it was last resolved.
    pub(super) hosts: Vec<(HostPort, Vec<SocketAddr>)>,
}

impl Whereabouts {
    /// These addresses and no others.
    pub(super) fn at(addresses: &[SocketAddr]) -> Self {
        Self { addresses: addresses.to_vec(), hosts: Vec::new() }
    }

    /// The addresses that `hosts` have now.
    pub(super) async fn of<N: Network>(network: &N, hosts: &[HostPort]) -> Result<Self, Failure> {
        let found = resolve_all(network, hosts, None).await?;
        let found = found.into_iter().map(Option::unwrap_or_default);
        let mut place = Self { addresses: Vec::new(), hosts: hosts.iter().cloned().zip(found).collect() };
        place.collect(None);
        Ok(place)
    }

    /// Takes over the addresses that the names have now; a name that is not resolved soon keeps those that it had. The
    /// first address stays the first: the peer was reached there.
    pub(super) async fn look_again<N: Network>(&mut self, network: &N) {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, _)| host.clone()).collect();
        if hosts.is_empty() {
            return;
        }
        let end = Instant::now() + FURTHER_TIME;
        let Ok(found) = resolve_all(network, &hosts, Some(end)).await else { return };
        for ((_, addresses), found) in self.hosts.iter_mut().zip(found) {
            *addresses = found.unwrap_or_else(|| std::mem::take(addresses));
        }
        self.collect(self.addresses.first().copied());
    }

    /// `first`, then those of all names in order, without duplicates.
    fn collect(&mut self, first: Option<SocketAddr>) {
        let mut seen = HashSet::new();
        let named = self.hosts.iter().flat_map(|(_, addresses)| addresses).copied();
        self.addresses = first.into_iter().chain(named).filter(|address| seen.insert(*address)).collect();
    }
}

/// The addresses of each of `hosts` that can be resolved until `end`, or until soon after the first one. The names are
/// resolved at the same time, and one that takes long holds up no other.
async fn resolve_all<N: Network>(
    network: &N,
    hosts: &[HostPort],
    mut end: Option<Instant>,
) -> Result<Vec<Option<Vec<SocketAddr>>>, Failure> {
    let mut resolving = JoinSet::new();
    for (number, host) in hosts.iter().cloned().enumerate() {
        let network = network.clone();
        resolving.spawn(async move { (number, network.resolve(&host).await) });
    }
    let (mut found, mut failure) = (vec![None; hosts.len()], None);
    while let Some(resolved) = next(&mut resolving, end).await {
        match resolved {
            (number, Ok(addresses)) => {
                found[number] = Some(addresses);
                end.get_or_insert_with(|| Instant::now() + FURTHER_TIME);
            }
            (_, Err(error)) => {
                failure.get_or_insert_with(|| Failure::new(Reason::Unreachable, error.to_string()));
            }
        }
    }
    match failure {
        Some(failure) if found.iter().flatten().all(Vec::is_empty) => Err(failure),
        _ => Ok(found),
    }
}

/// The next that has ended, by `end`.
async fn next<T: 'static>(tasks: &mut JoinSet<T>, end: Option<Instant>) -> Option<T> {
    let ended = match end {
        Some(end) => timeout_at(end, tasks.join_next()).await.ok()?,
        None => tasks.join_next().await,
    };
    ended?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connection::MemoryLimits;
    use crate::testing::network::MemoryNetwork;

    #[tokio::test(start_paused = true)]
    async fn a_name_that_takes_long_holds_up_no_other_and_is_looked_up_again() {
        let network = MemoryNetwork::new([1; 32], MemoryLimits::default());
        let hosts = ["slow", "desk", "unknown"].map(|name| name.parse::<HostPort>().unwrap());
        let [old, new, slow] = [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 9)));
        network.names("slow", Duration::from_secs(60), slow);
        network.names("desk", Duration::from_secs(1), old);
        let began = Instant::now();
        let mut place = Whereabouts::of(&network, &hosts).await.unwrap();
        assert_eq!((place.addresses.clone(), began.elapsed().as_secs()), (vec![old], 3));
        network.names("desk", Duration::ZERO, new);
        network.names("slow", Duration::ZERO, slow);
        place.look_again(&network).await;
        assert_eq!(place.addresses, [old, slow, new]);
        // A name that cannot be resolved any more, or not soon, keeps its addresses.
        network.names("slow", Duration::from_secs(60), old);
        place.look_again(&network).await;
        assert_eq!(place.addresses, [old, slow, new]);
        let failed = Whereabouts::of(&network, &hosts[2..]).await.unwrap_err();
        assert_eq!(failed.reason, Reason::Unreachable);
    }
}
