//! How large the datagrams of a path may be.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::address;
use super::quic::canonical;

/// Payload that every path carries (RFC 9000, section 14).
const MIN: u16 = 1200;
/// MTU of Ethernet, where the system does not tell that of the way to the peer.
const ETHERNET: u32 = 1500;
/// Datagrams on this machine never fall below this size, four to a batch of the kernel: what is lost there did not
/// fit a socket's buffer, and quinn would take bursts of it for a path that carries less.
const LOOPBACK_MIN: u16 = 16_000;
/// Largest payload of UDP, by its length field of 16 bits and what counts in it: the header of IPv4, not of IPv6.
const PAYLOAD_V4_MAX: u16 = 65_507;
pub(super) const PAYLOAD_MAX: u16 = 65_527;
/// Headers of IP and UDP.
const HEADERS_V4_BYTES: u32 = 28;
const HEADERS_V6_BYTES: u32 = 48;

/// UDP payloads of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mtu {
    /// Never less.
    pub(super) min: u16,
    /// To begin with.
    pub(super) first: u16,
    /// To try.
    pub(super) max: u16,
}

impl Mtu {
    /// For the peer at `address`, from a machine with the addresses `own`.
    ///
    /// On this machine the kernel's word is enough. quinn would look for the largest size with ten probes of up to
    /// 64 KiB and read their padding byte by byte, 7 ms of processor time on either side.
    ///
    /// Towards another machine it begins at 1200, although the network card takes more: a larger handshake that
    /// some tunnel on the way does not carry is repeated after a second, twice. Discovery has found a usual
    /// Ethernet's MTU four round trips after TLS, when the first bytes of a file begin to flow; where the card takes
    /// jumbo frames and the path does not, it takes some fifteen.
    pub(super) fn to(address: SocketAddr, own: &[IpAddr]) -> Self {
        let address = canonical(address);
        let ip = address.ip();
        let carries = route_mtu(address).unwrap_or_else(|error| {
            tracing::debug!(%error, %address, "the system does not tell the MTU");
            ETHERNET
        });
        let max = payload(ip, carries);
        let (min, first) =
            if address::is_this_machine(ip, own) { (LOOPBACK_MIN.min(max), max) } else { (MIN, MIN) };
        tracing::debug!(%address, min, first, max, "datagram sizes");
        Self { min, first, max }
    }

    /// Whether the peer is on this machine and the way to it carries more than any network does.
    pub(super) fn is_of_loopback(self) -> bool {
        self.min >= LOOPBACK_MIN
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

/// What the kernel knows of the way to `address`: the MTU of the interface, or less if the route or an earlier
/// answer of a router says so. Nothing is sent.
#[cfg(target_os = "linux")]
fn route_mtu(address: SocketAddr) -> io::Result<u32> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(if address.is_ipv4() { ip_mtu(&socket) } else { ipv6_mtu(&socket) }?)
}

#[cfg(not(target_os = "linux"))]
fn route_mtu(_: SocketAddr) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
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
            assert_eq!(mtu, Mtu { min: LOOPBACK_MIN.min(max), first: max, max }, "{ip}");
            assert_eq!(mtu.is_of_loopback(), max >= LOOPBACK_MIN, "{ip}");
        }
    }

    #[test]
    fn another_machine_is_met_with_what_every_path_carries() {
        // Documentation addresses (RFC 5737, RFC 3849); nothing is sent to them.
        for address in ["192.0.2.1:4750", "[2001:db8::1]:4750"] {
            let mtu = Mtu::to(address.parse().unwrap(), &[]);
            assert_eq!((mtu.min, mtu.first), (1200, 1200));
            assert!((1200..=PAYLOAD_MAX).contains(&mtu.max), "{mtu:?}");
            assert!(!mtu.is_of_loopback(), "{mtu:?}");
        }
    }
}
