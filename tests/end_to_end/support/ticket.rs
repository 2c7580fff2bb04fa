//! Tickets that lead elsewhere: over a [`super::link::UdpLink`], or to a listener that did not issue them.

use std::net::SocketAddr;

use data_encoding::BASE32_NOPAD_NOCASE;

/// A ticket ends with so many bytes of the BLAKE3 hash of all before them.
const CHECKSUM_BYTES: usize = 4;

/// `ticket` with the port of `from` replaced by that of `to`; both have the same IPv4 address. Fingerprint and
/// secret stay. Reads the layout as `docs/protocol.md` has it, not by the program's own code. Panics when the ticket
/// does not name `from`.
pub(crate) fn redirect(ticket: &str, from: SocketAddr, to: SocketAddr) -> String {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        panic!("{from} and {to} are not both IPv4");
    };
    assert_eq!(from.ip(), to.ip());
    let word = ticket.get(3..).filter(|_| ticket.starts_with("tl1")).expect("a ticket begins with tl1");
    let mut bytes = BASE32_NOPAD_NOCASE.decode(word.as_bytes()).expect("a ticket is base32");
    let address = |port: u16| [&from.ip().octets()[..], &port.to_be_bytes()].concat();
    let at = bytes.windows(6).position(|w| w == address(from.port())).expect("the ticket names the listener");
    bytes[at..at + 6].copy_from_slice(&address(to.port()));
    let body_bytes = bytes.len() - CHECKSUM_BYTES;
    let (body, checksum) = bytes.split_at_mut(body_bytes);
    checksum.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM_BYTES]);
    format!("tl1{}", BASE32_NOPAD_NOCASE.encode(&bytes).to_lowercase())
}
