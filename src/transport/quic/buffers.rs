//! Kernel buffers of a socket, and datagrams dropped because they were full.

use std::fs;
use std::io;

/// Bytes requested from the kernel per direction. The default, 208 KiB, holds a few milliseconds of a fast link.
pub(in crate::transport) const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Fewer dropped datagrams than this in a whole transfer do not slow it down.
const DROPPED_MIN: u64 = 100;

/// Kernel buffers of a socket, in bytes per direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct SocketBuffers {
    /// Size of the receive buffer.
    pub(in crate::transport) receive_bytes: usize,
    /// Size of the send buffer.
    pub(in crate::transport) send_bytes: usize,
    /// The socket's number in the system's tables, where available.
    inode: Option<u64>,
}

impl SocketBuffers {
    /// Asks for [`BUFFER_BYTES`].
    pub(in crate::transport) fn ask(socket: &socket2::Socket) -> io::Result<Self> {
        // Some systems refuse sizes above their limit instead of giving less; then the default stays.
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
        // Linux includes its own bookkeeping and reports twice the usable size.
        let share = if cfg!(target_os = "linux") { 2 } else { 1 };
        Ok(Self {
            receive_bytes: socket.recv_buffer_size()? / share,
            send_bytes: socket.send_buffer_size()? / share,
            inode: inode(socket),
        })
    }

    /// Of a socket without any.
    pub(in crate::transport) fn of_no_kernel() -> Self {
        Self { receive_bytes: BUFFER_BYTES, send_bytes: BUFFER_BYTES, inode: None }
    }

    /// Advice for the administrator of this host, if a transfer has suffered from a small buffer.
    pub(in crate::transport) fn advice(&self) -> Option<String> {
        let dropped = self.inode.and_then(dropped)?;
        (self.receive_bytes < BUFFER_BYTES && dropped >= DROPPED_MIN).then(|| {
            format!(
                "the kernel dropped {dropped} datagrams because it limits socket buffers to {} KiB; fix it as root with: sysctl -w net.core.rmem_max={BUFFER_BYTES} \
                 net.core.wmem_max={BUFFER_BYTES}",
                self.receive_bytes / 1024
            )
        })
    }
}

/// The link of a descriptor of this process reads `socket:[INODE]`.
#[cfg(target_os = "linux")]
fn inode(socket: &socket2::Socket) -> Option<u64> {
    use std::os::fd::AsRawFd;

    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn inode(_: &socket2::Socket) -> Option<u64> {
    None
}

/// Datagrams dropped because the buffer of socket `inode` was full.
fn dropped(inode: u64) -> Option<u64> {
    ["/proc/self/net/udp6", "/proc/self/net/udp"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| dropped_in(&table, inode))
}

/// The tenth column is the inode, the last one the number of drops.
fn dropped_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let is_it = columns.nth(9)?.parse() == Ok(inode);
        columns.last().filter(|_| is_it)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::testing::host::skip;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 3379: 0100007F:CDBC 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 853358 2 0000000000000000 0
 3380: 0100007F:CDBD 00000000:0000 07 00000000:00034000 00:00000000 00000000  1000        0 8533 2 0000000000000000 4711
";

    #[test]
    fn the_table_is_read_by_inode() {
        assert_eq!([853_358, 8533, 85].map(|inode| dropped_in(TABLE, inode)), [Some(0), Some(4711), None]);
    }

    #[test]
    fn advice_comes_when_a_small_buffer_has_overflowed() {
        for (domain, ip) in
            [(Domain::IPV4, Ipv4Addr::LOCALHOST.into()), (Domain::IPV6, Ipv6Addr::LOCALHOST.into())]
        {
            let socket = Socket::new(domain, Type::DGRAM, None).unwrap();
            if socket.bind(&SocketAddr::new(ip, 0).into()).is_err() {
                skip(&format!("no {ip}"));
                continue;
            }
            let buffers = SocketBuffers::ask(&socket).unwrap();
            if buffers.inode.and_then(dropped).is_none() {
                return skip("this system has no table of sockets");
            }
            socket.set_recv_buffer_size(4096).unwrap();
            let small = SocketBuffers { receive_bytes: 4096, ..buffers };
            assert_eq!(small.advice(), None, "nothing has been dropped");
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            let flood = std::net::UdpSocket::bind((ip, 0)).unwrap();
            for _ in 0..1000 {
                flood.send_to(&[0; 1000], address).unwrap();
            }
            let advice = small.advice().expect("it has overflowed");
            assert!(advice.contains("to 4 KiB"), "{advice}");
            assert!(
                advice.ends_with("sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304"),
                "{advice}"
            );
            let granted = SocketBuffers { receive_bytes: BUFFER_BYTES, ..buffers };
            assert_eq!(granted.advice(), None, "more was not asked for");
        }
    }
}
