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

/// A message of the greeting, whole: type, length, body.
pub(crate) type Said = Vec<u8>;

/// `Auth` with this message of a method.
pub(crate) fn auth(payload: &[u8]) -> Said {
    let len = u8::try_from(payload.len()).expect("short");
    [&[0x0e, len + 1, len], payload].concat()
}

/// The message of the method in a `Hello` or an `Auth`.
pub(crate) fn payload(said: &[u8]) -> &[u8] {
    match said {
        // Role, agent, method.
        [1, _, _, agent, rest @ ..] => {
            let rest = &rest[usize::from(*agent) + 1..];
            &rest[1..1 + usize::from(rest[0])]
        }
        [0x0e, _, len, rest @ ..] => &rest[..usize::from(*len)],
        other => panic!("{other:?}"),
    }
}

/// The same `Hello` with another message of the method, of the same length.
pub(crate) fn hello_with(hello: &[u8], other: &[u8]) -> Said {
    let own = payload(hello);
    assert_eq!(own.len(), other.len());
    let at = hello.windows(own.len()).position(|bytes| bytes == own).expect("it is there");
    [&hello[..at], other, &hello[at + other.len()..]].concat()
}

/// A listener of his that takes one dialler at a time.
pub(crate) struct FalseListener {
    endpoint: quinn::Endpoint,
    /// The address to dial.
    pub(crate) address: SocketAddr,
}

impl FalseListener {
    /// Needs a tokio runtime.
    pub(crate) fn new() -> Self {
        let (endpoint, address, _) = silent_listener();
        Self { endpoint, address }
    }

    /// Meets the next dialler. `answer` gives the answer to what it has said so far, until there is none. Returns all of
    /// that, and what it says on other streams until it ends the connection.
    pub(crate) async fn meet(&self, answer: impl Fn(&[Said]) -> Option<Said>) -> (Vec<Said>, Vec<u8>) {
        let dialler = self.endpoint.accept().await.expect("it dials").await.expect("a handshake");
        let (mut to, mut from) = dialler.accept_bi().await.expect("the control stream");
        let (mut said, mut more, mut bytes) = (Vec::new(), Vec::new(), [0; 4096]);
        while let Some(message) = next(&mut from).await {
            said.push(message);
            if let Some(answer) = answer(&said) {
                let _ = to.write_all(&answer).await;
            }
        }
        while let Ok(mut stream) = dialler.accept_uni().await {
            while let Ok(Some(n)) = stream.read(&mut bytes).await {
                more.extend_from_slice(&bytes[..n]);
            }
        }
        (said, more)
    }
}

/// He dials `listener` and says the first of `says`, and each other one after an answer. Returns the answers, and the code
/// with which he is turned away. Needs a tokio runtime.
pub(crate) async fn dials(listener: SocketAddr, says: &[Said]) -> (Vec<Said>, Option<u64>) {
    let far = Strangers::of(listener).dial().await.expect("a handshake");
    let (mut to, mut from) = far.open_bi().await.expect("a stream");
    let mut heard = Vec::new();
    for (at, message) in says.iter().enumerate() {
        to.write_all(message).await.expect("it listens");
        if at + 1 < says.len() {
            heard.extend(next(&mut from).await);
        }
    }
    heard.extend(next(&mut from).await);
    let closed = match far.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
        _ => None,
    };
    far.close(0u32.into(), b"");
    (heard, closed)
}

/// The next message of the greeting; `None` at the end.
async fn next(from: &mut quinn::RecvStream) -> Option<Said> {
    let mut said = vec![0; 2];
    from.read_exact(&mut said).await.ok()?;
    // Varints of one and two bytes.
    let mut len = usize::from(said[1]);
    if said[1] >= 0x40 {
        said.push(0);
        from.read_exact(&mut said[2..]).await.ok()?;
        len = usize::from(said[1] & 0x3f) << 8 | usize::from(said[2]);
    }
    let at = said.len();
    said.resize(at + len, 0);
    from.read_exact(&mut said[at..]).await.ok()?;
    Some(said)
}
