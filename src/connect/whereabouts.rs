//! Where a peer is: addresses, and names that may have other addresses later.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

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
    /// Names that the addresses came from.
    pub(super) hosts: Vec<HostPort>,
}

impl Whereabouts {
    /// These addresses and no others.
    pub(super) fn at(addresses: &[SocketAddr]) -> Self {
        Self { addresses: addresses.to_vec(), hosts: Vec::new() }
    }

    /// The addresses that `hosts` have now.
    pub(super) async fn of<N: Network>(network: &N, hosts: &[HostPort]) -> Result<Self, Failure> {
        Ok(Self { addresses: resolve_all(network, hosts).await?, hosts: hosts.to_vec() })
    }

    /// Takes over the addresses that the names have now, if they are told soon. The first address stays the first: the peer was reached there.
    pub(super) async fn look_again<N: Network>(&mut self, network: &N) {
        if self.hosts.is_empty() {
            return;
        }
        if let Ok(Ok(found)) = timeout(FURTHER_TIME, resolve_all(network, &self.hosts)).await {
            self.addresses.truncate(1);
            let first = self.addresses.first().copied();
            self.addresses.extend(found.into_iter().filter(|address| Some(*address) != first));
        }
    }
}

/// The addresses of all `hosts` that can be resolved, in order and without duplicates. The names are resolved at the same
/// time, and one that takes long holds up no other.
async fn resolve_all<N: Network>(network: &N, hosts: &[HostPort]) -> Result<Vec<SocketAddr>, Failure> {
    let mut resolving = JoinSet::new();
    for (number, host) in hosts.iter().cloned().enumerate() {
        let network = network.clone();
        resolving.spawn(async move { (number, network.resolve(&host).await) });
    }
    let mut found = vec![Vec::new(); hosts.len()];
    let (mut failure, mut end) = (None, None);
    while let Some(resolved) = next(&mut resolving, end).await {
        match resolved {
            (number, Ok(addresses)) => {
                found[number] = addresses;
                end.get_or_insert_with(|| Instant::now() + FURTHER_TIME);
            }
            (_, Err(error)) => {
                failure.get_or_insert_with(|| Failure::new(Reason::Unreachable, error.to_string()));
            }
        }
    }
    let mut seen = HashSet::new();
    let addresses: Vec<_> = found.into_iter().flatten().filter(|address| seen.insert(*address)).collect();
    match failure {
        Some(failure) if addresses.is_empty() => Err(failure),
        _ => Ok(addresses),
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
        let failed = Whereabouts::of(&network, &hosts[2..]).await.unwrap_err();
        assert_eq!(failed.reason, Reason::Unreachable);
    }
}
