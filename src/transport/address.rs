//! Addresses: written by the user, resolved from a name, or listed in a ticket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::{fmt, io};

use super::inherited::InheritedSocket;
use crate::protocol::path::printable;

/// Default UDP port of a waiting side.
pub const DEFAULT_PORT: u16 = 4750;
/// Maximum addresses of this host in a ticket, which should stay short.
const NAMED_MAX: usize = 6;
/// Maximum IPv4 addresses among them, so that a host with many bridges still lists its IPv6.
const NAMED_V4_MAX: usize = 4;
/// Maximum characters of a host: 253 for a domain name, some more for an IPv6 address with a scope.
const HOST_CHARS_MAX: usize = 300;

/// Address to listen on.
#[derive(Debug, Clone, Default)]
pub enum ListenAddress {
    /// All addresses, port 4750, or a free port if it is taken.
    #[default]
    Any,
    /// Exactly this one; port 0 is any free port.
    At(SocketAddr),
    /// Wherever this socket is bound.
    Inherited(InheritedSocket),
    /// All addresses, the first free port of these.
    Within(PortRange),
}

/// UDP ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// All of them.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    /// Reads `A-B` and `A`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err("expected ports A-B from 1 to 65535, for example 50000-50009"),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A host as written, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// UDP port, not 0.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is invalid.
    #[error("`{text}` is not a valid HOST[:PORT]: {why}")]
    Syntax {
        /// The text, escaped.
        text: String,
        /// The problem.
        why: &'static str,
    },
    /// Unknown name, or the name service did not answer.
    #[error("the name {host} cannot be resolved: {why}")]
    Unresolved {
        /// The name, escaped.
        host: String,
        /// The system's message.
        why: String,
    },
}

impl FromStr for HostPort {
    type Err = AddressError;

    /// Reads `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` and a bare IPv6 address.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        split(text).map_err(|why| AddressError::Syntax { text: printable(text.as_bytes()), why })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn split(text: &str) -> Result<HostPort, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        check_v6(host)?;
        match rest {
            "" => (host, None),
            _ => (host, Some(rest.strip_prefix(':').ok_or("only `:PORT` may follow the bracket")?)),
        }
    } else if text.matches(':').count() > 1 {
        check_v6(text).map_err(|_| "put an IPv6 address with a port in brackets: [ADDRESS]:PORT")?;
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.starts_with('-') {
        return Err("a host must not begin with a dash");
    }
    if host.len() > HOST_CHARS_MAX {
        return Err("the host is too long");
    }
    if !host.chars().all(|c| c.is_alphanumeric() || ".-_:%".contains(c)) {
        return Err("a host may contain only letters, digits, dots, dashes and underscores");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("a port is a number from 1 to 65535"),
        },
        Some(_) => return Err("a port is a number from 1 to 65535"),
    };
    Ok(HostPort { host: host.to_owned(), port })
}

/// A scope is left to the resolver.
fn check_v6(text: &str) -> Result<(), &'static str> {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().map(drop).map_err(|_| "only an IPv6 address may be in brackets")
}

/// The addresses of `target`, in the system's order of preference, without duplicates.
///
/// # Errors
///
/// [`AddressError::Unresolved`].
pub async fn resolve(target: &HostPort) -> Result<Vec<SocketAddr>, AddressError> {
    let unresolved = |why: String| AddressError::Unresolved { host: printable(target.host.as_bytes()), why };
    let found = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(|e| unresolved(e.to_string()))?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolved("it has no address".to_owned()));
    }
    Ok(addresses)
}

/// Addresses of this host's interfaces; none if the system does not tell.
pub(super) fn of_this_machine() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine are not known");
            Vec::new()
        }
    }
}

/// A socket from which the system would send to `peer`. Nothing is sent.
pub(super) fn towards(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket)
}

/// The address of this host on the way to `peer`.
///
/// # Errors
///
/// There is no way.
pub fn own_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    Ok(towards(peer)?.local_addr()?.ip())
}

/// Whether `ip` belongs to this host, whose addresses are `own`. Packets to it use loopback, with its large MTU, even
/// when it is the address of another interface.
pub(super) fn is_this_machine(ip: IpAddr, own: &[IpAddr]) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || own.contains(&ip)
}

/// The addresses for a ticket, when the socket is bound to `bound` on a host with the addresses `own`. A specific
/// bound address stands alone. Otherwise the addresses that other hosts may reach, IPv4 first; a peer on this host
/// reaches them too. Loopback only where there is no other. Link-local addresses are left out: they need a scope, which
/// is only valid on this host.
pub(super) fn to_name(bound: SocketAddr, own: &[IpAddr]) -> Vec<SocketAddr> {
    let port = bound.port();
    if !bound.ip().is_unspecified() {
        return vec![SocketAddr::new(bound.ip().to_canonical(), port)];
    }
    let mut named: Vec<IpAddr> = Vec::new();
    let mut add = |ips: &mut dyn Iterator<Item = IpAddr>, max: usize| {
        for ip in ips {
            if named.len() < max && !named.contains(&ip) {
                named.push(ip);
            }
        }
    };
    let v4 = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_link_local());
    add(&mut own.iter().copied().filter(v4), NAMED_V4_MAX);
    if bound.is_ipv6() {
        let v6 = |ip: &IpAddr| match ip {
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unique_local());
        add(&mut own.iter().copied().filter(|ip| v6(ip) && !is_local(ip)), NAMED_MAX);
        add(&mut own.iter().copied().filter(|ip| v6(ip) && is_local(ip)), NAMED_MAX);
    }
    if named.is_empty() {
        named.push(Ipv4Addr::LOCALHOST.into());
    }
    named.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

/// A dual-stack socket shows IPv4 peers as mapped IPv6 addresses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_port(text: &str) -> Result<(String, u16), AddressError> {
        text.parse::<HostPort>().map(|h| (h.host, h.port))
    }

    #[test]
    fn every_form_is_read() {
        for (text, host, port) in [
            ("backup", "backup", 4750),
            ("backup.example:1", "backup.example", 1),
            ("192.0.2.7:65535", "192.0.2.7", 65535),
            ("[2001:db8::7]", "2001:db8::7", 4750),
            ("[2001:db8::7]:99", "2001:db8::7", 99),
            ("2001:db8::7", "2001:db8::7", 4750),
            ("::1", "::1", 4750),
            ("fe80::1%eth0", "fe80::1%eth0", 4750),
        ] {
            assert_eq!(host_port(text), Ok((host.to_owned(), port)), "{text}");
            let shown = text.parse::<HostPort>().unwrap().to_string();
            assert_eq!(host_port(&shown), Ok((host.to_owned(), port)), "{shown}");
        }
    }

    #[test]
    fn invalid_addresses_say_why() {
        for (text, part) in [
            ("", "missing"),
            (":4750", "missing"),
            ("host:", "1 to 65535"),
            ("host:0", "1 to 65535"),
            ("host:65536", "1 to 65535"),
            ("host:+5", "1 to 65535"),
            ("[::1", "not closed"),
            ("[::1]x", "may follow the bracket"),
            ("[host]:1", "an IPv6 address"),
            ("a:b:c", "in brackets"),
            ("2001:db8::7:70000", "in brackets"),
            ("user@host", "only letters"),
            ("ho st", "only letters"),
        ] {
            let error = host_port(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = host_port("a\x1b[2J").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error}");
        assert!(host_port(&"a".repeat(301)).is_err());
    }

    #[test]
    fn ranges_of_ports_have_both_ends() {
        let range: PortRange = "50000-50002".parse().unwrap();
        assert_eq!(range.ports().collect::<Vec<_>>(), [50000, 50001, 50002]);
        assert_eq!(range.to_string().parse(), Ok(range));
        assert_eq!("65535".parse::<PortRange>().unwrap().ports().count(), 1);
        for text in ["", "0-5", "5-4", "1-65536", "1-", "-1", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn names_and_addresses_resolve() {
        let target: HostPort = "127.0.0.1:7".parse().unwrap();
        assert_eq!(resolve(&target).await, Ok(vec!["127.0.0.1:7".parse().unwrap()]));
        let target: HostPort = "[::1]:7".parse().unwrap();
        assert_eq!(resolve(&target).await, Ok(vec!["[::1]:7".parse().unwrap()]));
        // An impossible name: labels have at most 63 characters.
        let target: HostPort = "a".repeat(64).parse().unwrap();
        assert!(matches!(resolve(&target).await, Err(AddressError::Unresolved { .. })));
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn a_ticket_names_what_others_reach_and_loopback_only_where_there_is_nothing_else() {
        let own = ips(&["127.0.0.1", "::1", "fe80::1", "fd00::5", "2001:db8::5", "169.254.1.1", "10.0.0.5"]);
        let both = to_name("[::]:4750".parse().unwrap(), &own);
        let expected = ["10.0.0.5:4750", "[2001:db8::5]:4750", "[fd00::5]:4750"];
        assert_eq!(both, expected.map(|a| a.parse().unwrap()));
        let v4_only = to_name("0.0.0.0:9".parse().unwrap(), &own);
        assert_eq!(v4_only, ["10.0.0.5:9"].map(|a| a.parse().unwrap()));
        let alone = to_name("[::]:9".parse().unwrap(), &ips(&["127.0.0.1", "::1", "fe80::1"]));
        assert_eq!(alone, ["127.0.0.1:9"].map(|a| a.parse().unwrap()));
        let one = to_name("10.0.0.5:9".parse().unwrap(), &own);
        assert_eq!(one, ["10.0.0.5:9"].map(|a| a.parse().unwrap()));
    }

    #[test]
    fn a_ticket_stays_short() {
        let mut own: Vec<IpAddr> = (1..20).map(|i| IpAddr::from([10, 0, 0, i])).collect();
        own.extend((1..20).map(|i| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, i])));
        let named = to_name("[::]:1".parse().unwrap(), &own);
        assert_eq!(named.len(), NAMED_MAX);
        assert_eq!(named.iter().filter(|a| a.is_ipv6()).count(), 2);
    }

    #[test]
    fn this_machine_is_known_by_loopback_mapped_and_own_addresses() {
        let own = ips(&["10.0.0.5"]);
        for ip in ips(&["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.0.0.5", "::ffff:10.0.0.5"]) {
            assert!(is_this_machine(ip, &own), "{ip}");
        }
        for ip in ips(&["10.0.0.6", "2001:db8::1"]) {
            assert!(!is_this_machine(ip, &own), "{ip}");
        }
        assert!(of_this_machine().iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn a_mapped_address_is_shown_as_what_it_is() {
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
            ("1.2.3.4:5", "1.2.3.4:5"),
        ] {
            assert_eq!(canonical(address.parse().unwrap()), shown.parse().unwrap());
        }
    }
}
