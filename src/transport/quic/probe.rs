//! Detects UDP addresses without a listener. An unconnected socket never hears "port unreachable"; a connected one
//! does. So a connected socket probes beside the dialling one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// A listener may start a moment after its dialler, so only a refusal that has lasted this long counts.
const PATIENCE: Duration = Duration::from_millis(600);
/// Intervals between probes, after a refusal and otherwise.
const AGAIN_REFUSED: Duration = Duration::from_millis(100);
const AGAIN_SILENT: Duration = Duration::from_secs(1);
/// Not a QUIC packet: its fixed bit is missing, and it is too short. A listener drops it.
const QUESTION: [u8; 1] = [0];

/// Returns when the system at `address`, or one on the path, has reported for [`PATIENCE`] that nothing listens
/// there; `first` is told of the first report. Never returns otherwise.
pub(in crate::transport) async fn refused(address: SocketAddr, first: &Notify) {
    let Ok(socket) = connected(address).await else { return std::future::pending().await };
    let mut since: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let again = if is_refused(&socket).await {
            if since.is_none() {
                first.notify_one();
            }
            if since.get_or_insert(begun).elapsed() >= PATIENCE {
                return;
            }
            AGAIN_REFUSED
        } else {
            since = None;
            AGAIN_SILENT
        };
        sleep_until(begun + again).await;
    }
}

async fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Probes once, and waits for an answer for [`AGAIN_SILENT`]. Only a refusal counts.
async fn is_refused(socket: &UdpSocket) -> bool {
    let asked = async {
        // The answer to the previous probe may arrive here.
        socket.send(&QUESTION).await?;
        socket.recv(&mut [0; 1]).await
    };
    match timeout(AGAIN_SILENT, asked).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port of this host where nothing listens.
    async fn free_port() -> SocketAddr {
        UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn t22_a_port_where_nothing_listens_is_noticed_after_a_moment() {
        let (address, first, begun) = (free_port().await, Notify::new(), Instant::now());
        timeout(Duration::from_secs(10), refused(address, &first)).await.expect("it was not noticed");
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
        timeout(Duration::ZERO, first.notified()).await.expect("the first refusal was not told");
    }

    #[tokio::test]
    async fn t22_a_listener_that_starts_a_moment_later_is_not_called_absent() {
        let (address, first) = (free_port().await, Notify::new());
        let probing = timeout(4 * PATIENCE, refused(address, &first));
        let starting = async {
            first.notified().await;
            UdpSocket::bind(address).await.expect("the port is still free")
        };
        let (refused, _listener) = tokio::join!(probing, starting);
        assert!(refused.is_err(), "it was called absent although it listens");
    }

    #[tokio::test]
    async fn t22_a_silent_listener_is_not_called_absent() {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(timeout(2 * PATIENCE, refused(address, &Notify::new())).await.is_err());
        let mut question = [1; 8];
        assert_eq!(listener.recv(&mut question).await.unwrap(), QUESTION.len());
        assert_eq!(question[0] & 0x40, 0, "QUIC packets have this bit");
    }
}
