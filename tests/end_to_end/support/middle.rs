//! An active man in the middle: he ends both TLS connections himself, with keys of his own, and passes on what he likes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::stranger::{Strangers, silent_listener};

/// `Auth` with 32 bytes that prove nothing.
const FORGED_AUTH: [u8; 3] = [0x0e, 0x21, 0x20];

/// What he has seen and done.
pub(crate) struct Middle {
    /// The address to dial, which is his.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    /// The code with which the listener has closed its connection.
    closed: tokio::task::JoinHandle<Option<u64>>,
    /// His end of the dialler's side.
    _endpoint: quinn::Endpoint,
}

impl Middle {
    /// Waits for one dialler, and dials `listener` for it. Needs a tokio runtime.
    pub(crate) fn before(listener: SocketAddr) -> Self {
        let (endpoint, address, _) = silent_listener();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let closed = tokio::spawn(relay(endpoint.clone(), listener, Arc::clone(&seen)));
        Self { address, seen, closed, _endpoint: endpoint }
    }

    /// All that both sides have told him, decrypted, and the code with which the listener has turned him away.
    pub(crate) async fn end(self) -> (Vec<u8>, Option<u64>) {
        let closed = self.closed.await.expect("no panic");
        let seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        (seen, closed)
    }
}

/// Passes the control stream on in both directions. When the listener has turned him away, he tries to be let in by the
/// dialler as a listener.
async fn relay(endpoint: quinn::Endpoint, listener: SocketAddr, seen: Arc<Mutex<Vec<u8>>>) -> Option<u64> {
    let dialler = endpoint.accept().await?.await.ok()?;
    let far = Strangers::of(listener).dial().await?;
    let (mut to_dialler, from_dialler) = dialler.accept_bi().await.ok()?;
    let (to_listener, mut from_listener) = far.open_bi().await.ok()?;
    let heard = Arc::clone(&seen);
    let forth = tokio::spawn(pass(from_dialler, to_listener, heard));
    let mut bytes = [0; 4096];
    while let Ok(Some(n)) = from_listener.read(&mut bytes).await {
        seen.lock().expect("no panic").extend_from_slice(&bytes[..n]);
        to_dialler.write_all(&bytes[..n]).await.ok()?;
    }
    let closed = match far.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    };
    let _ = to_dialler.write_all(&[&FORGED_AUTH[..], &[7; 32]].concat()).await;
    // Anything that the dialler says after that would be meant for the listener that it expects.
    while let Ok(mut stream) = dialler.accept_uni().await {
        while let Ok(Some(n)) = stream.read(&mut bytes).await {
            seen.lock().expect("no panic").extend_from_slice(&bytes[..n]);
        }
    }
    let _ = forth.await;
    closed
}

async fn pass(mut from: quinn::RecvStream, mut to: quinn::SendStream, seen: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 4096];
    while let Ok(Some(n)) = from.read(&mut bytes).await {
        seen.lock().expect("no panic").extend_from_slice(&bytes[..n]);
        let _ = to.write_all(&bytes[..n]).await;
    }
}
