//! The local network: which machine there waits with the number of a code (mDNS, RFC 6762 and 6763).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::protocol::failure::{Failure, Reason};

const SERVICE: &str = "_towline._udp.local.";
/// The property that holds the number.
const NUMBER: &str = "n";
/// Longest search.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for further addresses of a machine, and for further machines with the same number.
const FURTHER_TIME: Duration = Duration::from_millis(700);
/// Bytes of the name that this machine has for the time of one wait. It says nothing about the machine.
const NAME_BYTES: usize = 8;

/// Answers searches for a number until dropped.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// Announces that this machine waits with `number` at `address`, or at the same port of all its addresses. `None`
    /// where nobody else could reach it, or where there is no multicast.
    pub(super) fn new(number: u16, address: SocketAddr) -> Option<Self> {
        if address.ip().is_loopback() {
            return None;
        }
        let announced = Self::announce(number, address);
        announced.inspect_err(|error| debug!(%error, "the code is not announced on the local network")).ok()
    }

    fn announce(number: u16, address: SocketAddr) -> Result<Self, mdns_sd::Error> {
        let info = told(number, address)?;
        let name = info.get_fullname().to_owned();
        let daemon = ServiceDaemon::new()?;
        daemon.register(info)?;
        Ok(Self { daemon, name })
    }
}

/// What everybody on the local network learns: the number, the address and a random name.
fn told(number: u16, address: SocketAddr) -> Result<ServiceInfo, mdns_sd::Error> {
    let mut name = [0; NAME_BYTES];
    getrandom::fill(&mut name).map_err(|error| mdns_sd::Error::Msg(error.to_string()))?;
    let name = data_encoding::HEXLOWER.encode(&name);
    let (host, properties) = (format!("towline-{name}.local."), [(NUMBER, number.to_string())]);
    let ip = Some(address.ip()).filter(|ip| !ip.is_unspecified());
    let ips: Vec<IpAddr> = ip.into_iter().collect();
    let mut info = ServiceInfo::new(SERVICE, &name, &host, &ips[..], address.port(), &properties[..])?;
    if ips.is_empty() {
        info = info.enable_addr_auto();
    }
    // The name is random, so no other machine has it.
    info.set_requires_probe(false);
    Ok(info)
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Best effort: what was announced is forgotten after two minutes.
        let _ = self.daemon.unregister(&self.name);
        let _ = self.daemon.shutdown();
    }
}

/// The addresses of the machine that waits with `number`.
///
/// # Errors
///
/// There is none, or more than one.
pub(super) async fn find(number: u16) -> Result<Vec<SocketAddr>, Failure> {
    let failed = |error: mdns_sd::Error| {
        Failure::new(Reason::Unreachable, format!("cannot search the local network: {error}"))
    };
    let daemon = ServiceDaemon::new().map_err(failed)?;
    let events = daemon.browse(SERVICE).map_err(failed)?;
    let mut found: HashMap<String, Vec<SocketAddr>> = HashMap::new();
    let mut deadline = Instant::now() + SEARCH_TIME_MAX;
    while let Ok(Ok(event)) = timeout_at(deadline, events.recv_async()).await {
        let ServiceEvent::ServiceResolved(service) = event else { continue };
        debug!(?service, "found on the local network");
        if service.get_property_val_str(NUMBER).and_then(|n| n.parse().ok()) == Some(number) {
            found.insert(service.get_fullname().to_owned(), addresses(&service));
            deadline = deadline.min(Instant::now() + FURTHER_TIME);
        }
    }
    let _ = daemon.shutdown();
    found.retain(|_, addresses| !addresses.is_empty());
    let count = found.len();
    match found.into_values().next() {
        Some(addresses) if count == 1 => Ok(addresses),
        Some(_) => {
            let message = format!(
                "{count} machines on this network wait with the number {number}; put the address of the right one before \
                 the code: ADDRESS/{number}-…"
            );
            Err(Failure::new(Reason::Unreachable, message))
        }
        None => {
            let message = format!(
                "no machine on this network waits with the number {number}; on another network, put its address before \
                 the code: ADDRESS/{number}-…"
            );
            Err(Failure::new(Reason::Unreachable, message))
        }
    }
}

/// IPv4 first, and addresses that work on one link or one machine only last.
fn addresses(service: &ResolvedService) -> Vec<SocketAddr> {
    let port = service.get_port();
    let mut addresses: Vec<_> = service.get_addresses().iter().filter_map(|ip| address(ip, port)).collect();
    addresses.sort_by_key(|at| (at.ip().is_loopback(), is_of_a_link(at), at.is_ipv6(), *at));
    addresses
}

fn address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match ip {
        ScopedIp::V4(v4) => Some((*v4.addr(), port).into()),
        ScopedIp::V6(v6) => {
            // The scope is meant for addresses of one link.
            let scope = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
            Some(SocketAddrV6::new(*v6.addr(), port, 0, scope).into())
        }
        _ => None,
    }
}

fn is_of_a_link(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// croc announced a part of its secret, and sent local addresses to whoever asked.
    #[test]
    fn attack_9_the_announcement_has_the_number_and_one_address_and_no_word_of_the_code() {
        let address = "192.0.2.7:4750".parse().unwrap();
        let [info, again] = [told(7, address), told(7, address)].map(Result::unwrap);
        let properties: Vec<_> = info.get_properties().iter().map(ToString::to_string).collect();
        assert_eq!(properties, ["n=7"]);
        assert_eq!(info.get_port(), 4750);
        assert_eq!(info.get_addresses().iter().copied().collect::<Vec<_>>(), [address.ip()]);
        let name = info.get_fullname().strip_suffix(&format!(".{SERVICE}")).unwrap();
        assert_eq!(info.get_hostname(), format!("towline-{name}.local."));
        assert!(name.len() == 2 * NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert_ne!(info.get_fullname(), again.get_fullname());
    }
}
