//! Two network namespaces with a cable between them. Needs root, ip and, for the rewriting of ports, nft.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::host::{has, skip};
use super::process::{DEADLINE, piped};

/// Namespaces of this process so far.
static LAST: AtomicU32 = AtomicU32::new(0);
/// The cable's end in each namespace.
const CARD: &str = "cable";

/// Two hosts and a cable between them. Both go when it is dropped.
pub(crate) struct Cable {
    hosts: [String; 2],
}

impl Cable {
    /// Connects two hosts. `None`, with the reason, where this is not possible.
    pub(crate) fn new() -> Option<Self> {
        if !has("ip") || !has("nft") {
            return None;
        }
        let number = LAST.fetch_add(1, Relaxed);
        let hosts = ["a", "b"].map(|end| format!("towline-{}-{number}-{end}", std::process::id()));
        let cable = Self { hosts };
        let [a, b] = &cable.hosts;
        if !ip(&["netns", "add", a]) || !ip(&["netns", "add", b]) {
            skip("network namespaces need root");
            return None;
        }
        let made = ip(&["link", "add", CARD, "netns", a, "type", "veth", "peer", "name", CARD, "netns", b]);
        assert!(made, "a cable between two namespaces");
        for (host, address) in cable.hosts.iter().zip(["10.77.0.1/24", "10.77.0.2/24"]) {
            assert!(ip(&["-n", host, "address", "add", address, "dev", CARD]), "an address");
            assert!(ip(&["-n", host, "link", "set", "lo", "up"]), "loopback");
            assert!(ip(&["-n", host, "link", "set", CARD, "up"]), "a card that is up");
        }
        Some(cable)
    }

    /// The address of the first host.
    pub(crate) const FIRST: &str = "10.77.0.1";
    /// The address of the second.
    pub(crate) const SECOND: &str = "10.77.0.2";

    /// `command` on the host `number` (0 or 1).
    pub(crate) fn on(&self, number: usize, command: &Command) -> Command {
        let mut on_host = Command::new("ip");
        on_host.args(["netns", "exec", &self.hosts[number]]);
        on_host.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_host.env(name, value),
                None => on_host.env_remove(name),
            };
        }
        piped(&mut on_host);
        on_host
    }

    /// Takes the IPv4 addresses away, and waits for the addresses of IPv6 that work on the cable alone.
    pub(crate) fn without_ipv4(&self) {
        for host in &self.hosts {
            assert!(ip(&["-n", host, "-4", "address", "flush", "dev", CARD]), "no addresses of IPv4");
            let end = Instant::now() + DEADLINE;
            while !self.has_link_local(host) {
                assert!(Instant::now() < end, "no address of IPv6");
                sleep(Duration::from_millis(50));
            }
        }
    }

    /// The host has one that no other host has, as the system knows after a second.
    fn has_link_local(&self, host: &str) -> bool {
        let shown = Command::new("ip").args(["-n", host, "-6", "address", "show", "dev", CARD]).output();
        let shown = String::from_utf8(shown.expect("ip runs").stdout).expect("text");
        shown.contains("inet6 fe80:") && !shown.contains("tentative")
    }

    /// Pulls the cable out of the first host.
    pub(crate) fn pull(&self) {
        assert!(ip(&["-n", &self.hosts[0], "link", "set", CARD, "down"]), "a card that is down");
    }

    /// Puts it back.
    pub(crate) fn plug_in(&self) {
        assert!(ip(&["-n", &self.hosts[0], "link", "set", CARD, "up"]), "a card that is up");
    }

    /// From now on the second host's packets from `own` seem to come from port `shown`, as after a router that has
    /// forgotten an earlier port: nothing gets back through that one.
    pub(crate) fn rewrite_port(&self, own: SocketAddr, shown: u16) {
        let port = own.port();
        let rules = format!(
            "add table ip router\n\
             delete table ip router\n\
             table ip router {{\n\
             chain out {{ type filter hook output priority -300; udp sport {port} udp sport set {shown}; }}\n\
             chain in {{ type filter hook prerouting priority -300; udp dport {shown} udp dport set {port}; }}\n\
             }}\n"
        );
        self.rules(&rules);
    }

    /// From now on, what comes to the second host by UDP is dropped or rejected, as `verdict` says.
    pub(crate) fn refuse_udp(&self, verdict: &str) {
        let hook = "type filter hook input priority 0;";
        self.rules(&format!(
            "add table ip firewall\n\
             delete table ip firewall\n\
             table ip firewall {{\n\
             chain in {{ {hook} meta l4proto udp {verdict}; }}\n\
             }}\n"
        ));
    }

    /// Gives rules to the second host.
    fn rules(&self, rules: &str) {
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.hosts[1], "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft starts");
        nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads");
        assert!(nft.wait().is_ok_and(|status| status.success()), "nft takes {rules}");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for host in &self.hosts {
            ip(&["netns", "delete", host]);
        }
    }
}

fn ip(args: &[&str]) -> bool {
    let status = Command::new("ip").args(args).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
