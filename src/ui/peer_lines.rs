//! Lines about known peers.

use crate::event::KnownMachine;
use crate::node::size::exact;

/// What the peer may do now, and where it was.
pub(super) fn remembered(peer: &KnownMachine) -> String {
    let KnownMachine { name, may, addresses, .. } = peer;
    let (may, at) = (may.join(" and "), addresses.first().map(|at| format!(" at {at}")).unwrap_or_default());
    format!("remembered as {name}{at}; it may {may} here with --allow {name}\n")
}

/// The entry of a machine that this one knows.
pub(super) fn peer_line(peer: &KnownMachine) -> String {
    let KnownMachine { name, fingerprint, may, addresses, into, exists, quota_bytes, limits } = peer;
    let may = if may.is_empty() { "-".to_owned() } else { may.join(",") };
    let addresses = if addresses.is_empty() { "-".to_owned() } else { addresses.join(" ") };
    let mut line = format!("{name}  {fingerprint}  {may}  {addresses}");
    if let Some(dir) = into {
        line += &format!("  into={dir}");
    }
    if !exists.is_empty() {
        line += &format!("  exists={}", exists.join(","));
    }
    if let Some(bytes) = quota_bytes {
        line += &format!("  quota={}", exact(*bytes));
    }
    for limit in limits {
        line += &format!("  {limit}");
    }
    line + "\n"
}
