//! Datagram sizes of a path.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quinn::MtuDiscoveryConfig;

use crate::transport::address::{self, canonical};

/// Payload that every path carries (RFC 9000, section 14).
pub(in crate::transport) const MIN: u16 = 1200;
/// MTU of Ethernet, used when the system does not know the route's MTU.
const ETHERNET: u32 = 1500;
/// A route that carries this much is loopback; acks are requested accordingly.
const LOOPBACK_MIN: u16 = 16_000;
/// Minimum time before large datagrams are tried again on a path that seems to have stopped carrying them. To
/// quinn-proto, heavy random loss can look like that, as packets differ in size by a few bytes. A search costs a few
/// probes without data. On this host, bursts that overflow a socket's buffer can look like that, too.
const COOL_DOWN: Duration = Duration::from_secs(5);
const COOL_DOWN_LOOPBACK: Duration = Duration::from_secs(1);
/// The search ends below this step.
const STEP: u16 = 20;
/// Largest payload of UDP, by its length field of 16 bits and what counts in it: the header of IPv4, not of IPv6.
const PAYLOAD_V4_MAX: u16 = 65_507;
pub(in crate::transport) const PAYLOAD_MAX: u16 = 65_527;
/// Headers of IP and UDP.
const HEADERS_V4_BYTES: u32 = 28;
const HEADERS_V6_BYTES: u32 = 48;

/// UDP payload sizes of a path. All begin with [`MIN`], which is never given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct Mtu {
    /// The largest size to try.
    pub(in crate::transport) max: u16,
    /// The peer has an address of this host.
    is_here: bool,
}

impl Mtu {
    /// For the peer at `address`, from a host with the addresses `own`.
    ///
    /// It begins at 1200, even when the network card allows more. A larger handshake that some tunnel on the path
    /// does not carry would be repeated twice, a second apart. An address of this host may also be a relay into such
    /// a tunnel. Discovery finds the usual Ethernet MTU four round trips after TLS, when the first bytes of a file
    /// are sent; with jumbo frames on the card but not on the path, it takes about fifteen.
    pub(in crate::transport) fn to(address: SocketAddr, own: &[IpAddr]) -> Self {
        let address = canonical(address);
        let ip = address.ip();
        let carries = route_mtu(address).unwrap_or_else(|error| {
            tracing::debug!(%error, %address, "the system does not tell the MTU");
            ETHERNET
        });
        let mtu = Self { max: payload(ip, carries), is_here: address::is_this_machine(ip, own) };
        tracing::debug!(%address, ?mtu, "datagram sizes");
        mtu
    }

    /// Whether the peer is on this host and its route carries more than any network.
    pub(in crate::transport) fn is_of_loopback(self) -> bool {
        self.is_here && self.max >= LOOPBACK_MIN
    }

    /// The search for larger datagrams.
    ///
    /// On loopback one probe of the largest size decides: quinn would try ten sizes up to 64 KiB and read their
    /// padding byte by byte, 7 ms of processor time on either side. A relay that does not carry it stays at 1200.
    pub(in crate::transport) fn discovery(self) -> MtuDiscoveryConfig {
        let is_of_loopback = self.is_of_loopback();
        let mut config = MtuDiscoveryConfig::default();
        config
            .upper_bound(self.max)
            // The first step of the search would be half of this, so it jumps to the end at once.
            .minimum_change(if is_of_loopback { self.max - MIN } else { STEP })
            .black_hole_cooldown(if is_of_loopback { COOL_DOWN_LOOPBACK } else { COOL_DOWN });
        config
    }
}

/// The largest payload in a packet to `ip` of `mtu` bytes.
fn payload(ip: IpAddr, mtu: u32) -> u16 {
    let (headers, max) = match ip {
        IpAddr::V4(_) => (HEADERS_V4_BYTES, PAYLOAD_V4_MAX),
        IpAddr::V6(_) => (HEADERS_V6_BYTES, PAYLOAD_MAX),
    };
    u16::try_from(mtu.saturating_sub(headers)).unwrap_or(max).clamp(MIN, max)
}

/// The kernel's MTU of the route to `address`: that of the interface, or less if the route or an earlier answer of a
/// router says so. Nothing is sent.
#[cfg(target_os = "linux")]
fn route_mtu(address: SocketAddr) -> io::Result<u32> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

    let socket = address::towards(address)?;
    Ok(if address.is_ipv4() { ip_mtu(&socket) } else { ipv6_mtu(&socket) }?)
}

#[cfg(not(target_os = "linux"))]
fn route_mtu(_: SocketAddr) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::testing::host::skip;

    #[test]
    fn headers_are_those_of_the_family_and_the_length_has_16_bits() {
        let v4 = Ipv4Addr::LOCALHOST.into();
        let v6 = Ipv6Addr::LOCALHOST.into();
        for (ip, mtu, bytes) in [
            (v4, 1500, 1472),
            (v6, 1500, 1452),
            (v4, 9000, 8972),
            (v6, 9000, 8952),
            (v4, 65_536, 65_507),
            (v6, 65_536, 65_488),
            (v6, u32::MAX, 65_527),
            (v4, 576, 1200),
            (v6, 0, 1200),
        ] {
            assert_eq!(payload(ip, mtu), bytes, "{ip}, {mtu}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_way_to_this_machine_is_that_of_loopback() {
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let address = SocketAddr::new(ip.parse().unwrap(), 4750);
            let Ok(carries) = route_mtu(canonical(address)) else {
                skip(&format!("no way to {ip}"));
                continue;
            };
            let max = payload(canonical(address).ip(), carries);
            assert!(carries >= 1280, "{ip}: {carries}");
            let mtu = Mtu::to(address, &[]);
            assert_eq!(mtu, Mtu { max, is_here: true }, "{ip}");
            assert_eq!(mtu.is_of_loopback(), max >= LOOPBACK_MIN, "{ip}");
        }
    }

    #[test]
    fn another_machine_is_met_with_what_every_path_carries() {
        // Documentation addresses (RFC 5737, RFC 3849); nothing is sent to them.
        for address in ["192.0.2.1:4750", "[2001:db8::1]:4750"] {
            let mtu = Mtu::to(address.parse().unwrap(), &[]);
            assert!((1200..=PAYLOAD_MAX).contains(&mtu.max), "{mtu:?}");
            assert!(!mtu.is_of_loopback(), "{mtu:?}");
        }
    }
}
