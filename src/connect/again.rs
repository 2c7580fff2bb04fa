//! Dialling again: a lost connection is replaced by another one to the same peer.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::whereabouts::Whereabouts;
use crate::auth::Expected;
use crate::protocol::failure::Failure;
use crate::session::handshake::{Membership, join};
use crate::session::{Carried, Joiner, Link, transport_failure};
use crate::transport::{Connection, Limits, Network};

/// Pause after the first attempt that fails; doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// Label of the TLS exporter that seeds the lengths of the pauses. The peer does not use it.
const PAUSE_LABEL: &[u8] = b"EXPORTER-towline-pause";

/// Dials the peer of a session whenever its connection is lost.
pub(super) struct Again<N: Network> {
    network: N,
    limits: Limits,
    /// First the address that the first connection reached.
    place: Whereabouts,
    membership: Membership,
    joiner: Joiner<N::Connection>,
    carried: Carried<N::Connection>,
    endpoint: watch::Sender<N::Endpoint>,
    seed: [u8; 32],
}

impl<N: Network> Again<N> {
    /// For the session of `link`, whose peer is at `place`. `endpoint` becomes that of the connection in
    /// use.
    pub(super) fn new(
        link: &Link<N::Connection>,
        place: &Whereabouts,
        joiner: Joiner<N::Connection>,
        (network, limits): (N, Limits),
        endpoint: watch::Sender<N::Endpoint>,
    ) -> Result<Self, Failure> {
        let reached = link.connection.remote_address();
        let others = place.addresses.iter().copied().filter(|address| *address != reached);
        let addresses = std::iter::once(reached).chain(others).collect();
        Ok(Self {
            network,
            limits,
            place: Whereabouts { addresses, hosts: place.hosts.clone() },
            membership: Membership::of(&link.connection)?,
            joiner,
            carried: link.carried(),
            endpoint,
            seed: link.connection.export_keying_material(PAUSE_LABEL).map_err(transport_failure)?,
        })
    }

    /// Returns at the end of the session.
    pub(super) async fn run(mut self) {
        let (mut lost, mut replaced) = (self.carried.clone(), self.carried.clone());
        while lost.is_lost().await {
            let goes_on = tokio::select! {
                biased;
                goes_on = replaced.is_replaced() => goes_on,
                () = self.dial() => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Tries until the session takes over a connection, which ends this.
    async fn dial(&mut self) {
        let mut pauses = Pauses::new(self.seed);
        loop {
            match self.attempt().await {
                Ok(connection) => {
                    self.joiner.join(0, connection.clone()).await;
                    connection.closed().await;
                }
                Err(error) => {
                    debug!(addresses = ?self.place.addresses, %error, "the peer is not reached again yet")
                }
            }
            // Its name may have another address meanwhile.
            tokio::join!(sleep(pauses.next()), self.place.look_again(&self.network));
        }
    }

    async fn attempt(&self) -> Result<N::Connection, Failure> {
        let Membership { key, fingerprint } = self.membership;
        let dialling = self.network.dial(&self.place.addresses, Expected::Key(fingerprint), &self.limits);
        let (connection, endpoint) = dialling.await.map_err(transport_failure)?;
        join(&connection, &key, 0).await?;
        self.endpoint.send_replace(endpoint);
        Ok(connection)
    }
}

/// The pauses between attempts: from half to one and a half of a length that doubles, so that many diallers do not
/// come at once.
struct Pauses {
    length: Duration,
    seed: [u8; 32],
}

impl Pauses {
    fn new(seed: [u8; 32]) -> Self {
        Self { length: PAUSE, seed }
    }

    fn next(&mut self) -> Duration {
        self.seed = *blake3::hash(&self.seed).as_bytes();
        let pause = self.length.mul_f64(0.5 + f64::from(self.seed[0]) / 255.0);
        self.length = (self.length * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ_from_one_dialler_to_the_next() {
        let mut pauses = Pauses::new([1; 32]);
        let mut length = PAUSE;
        for _ in 0..20 {
            let pause = pauses.next();
            assert!((length / 2..=length * 3 / 2).contains(&pause), "{pause:?} for {length:?}");
            length = (length * 2).min(PAUSE_MAX);
        }
        assert_ne!(Pauses::new([1; 32]).next(), Pauses::new([2; 32]).next());
    }
}
