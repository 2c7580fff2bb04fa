//! Several sessions on one listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::listener::Listener;
use super::memory::Memory;
use crate::auth::methods::{AnyOf, ByTicket};
use crate::auth::{Expected, Fingerprint, Secret};
use crate::event::Summary;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::final_name::Exists;
use crate::protocol::wire::role::Role;
use crate::session::handshake::{Slot, dial};
use crate::session::{Budget, Lease, Link, receive, send};
use crate::testing::connection::{MemoryConnection, MemoryLimits};
use crate::testing::connection_suite::limits;
use crate::testing::disk::{MemorySource, MemoryTarget};
use crate::testing::network::MemoryNetwork;
use crate::testing::session::context;
use crate::testing::slot::TestSlot;
use crate::transport::{Endpoint, ListenAddress, Network};

const MIB: usize = 1 << 20;
/// The memory of both sessions together.
const MEMORY_BYTES: u64 = 20 << 20;
/// Secrets of the two slots.
const SECRETS: [Secret; 2] = [Secret::from_bytes([1; 16]), Secret::from_bytes([2; 16])];
/// Key of the listener.
const LISTENER: [u8; 32] = [2; 32];

fn slots() -> Vec<Arc<dyn Slot>> {
    let slot = |secret| {
        let authorizer = AnyOf(vec![Expected::Secret(secret)]);
        Arc::new(TestSlot::new(authorizer)) as Arc<dyn Slot>
    };
    SECRETS.map(slot).into()
}

/// A network whose connections have as many streams as the receiver's lease has.
fn network() -> MemoryNetwork {
    let limits = MemoryLimits {
        streams: 64,
        connection_window_bytes: 64 * MIB,
        stream_window_bytes: 2 * MIB,
        ..MemoryLimits::default()
    };
    MemoryNetwork::new([1; 32], limits)
}

async fn arrive(
    at: SocketAddr,
    network: &MemoryNetwork,
    secret: Secret,
) -> Result<Link<MemoryConnection>, Failure> {
    let listener = Fingerprint::from_bytes(LISTENER);
    let (dialler, _) = network.dial(&[at], Expected::Key(listener), &limits()).await.unwrap();
    let mut link = dial(dialler, Role::Send, &ByTicket { listener: listener.head(), secret }, None).await?;
    link.welcome().await?;
    Ok(link)
}

async fn send_one(link: Link<MemoryConnection>, contents: Vec<u8>) -> Result<Summary, Failure> {
    let memory = Memory::new(Budget::new(256 << 20, Some(64))).lease(1)?;
    let source = Arc::new(MemorySource::file("f", contents));
    send::driver::run(link, source, 20, [7; 16], context(memory)).await
}

async fn receive_one(
    mut link: Link<MemoryConnection>,
    target: MemoryTarget,
    memory: Lease,
) -> Result<Summary, Failure> {
    let context = context(memory);
    let offer = receive::offer::offer(&mut link, &context).await?;
    receive::driver::run(link, offer, Arc::new(target), "/memory".to_owned(), Exists::Refuse, context).await
}

#[tokio::test(start_paused = true)]
async fn two_senders_at_once_share_one_memory() {
    let memory = Memory::new(Budget::new(MEMORY_BYTES, Some(64)));
    let network = network();
    let endpoint = network.seen_by(LISTENER).listen(&ListenAddress::Any, &limits()).unwrap();
    let at = endpoint.local_address().unwrap();
    let mut listener = Listener::new(endpoint, Role::Receive, slots());
    let contents = [vec![1; 24 * MIB], vec![2; 24 * MIB]];
    let (first, second) =
        tokio::join!(arrive(at, &network, SECRETS[0].clone()), arrive(at, &network, SECRETS[1].clone()));
    let senders = [first.unwrap(), second.unwrap()];

    let mut receiving = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let guest = listener.next().await.unwrap();
        // Blocks pile up in front of it.
        let target = MemoryTarget::new().with_write_pace(Duration::from_secs(1));
        let lease = memory.lease(2).unwrap();
        receiving.spawn(async move {
            let received = receive_one(guest.link, target.clone(), lease).await;
            (guest.slot, received.map(|_| target.files()[&b"f"[..]].clone()))
        });
    }
    let third = arrive(at, &network, SECRETS[0].clone()).await;
    assert_eq!(third.err().map(|failure| failure.reason), Some(Reason::TicketUsed));

    let [first, second] = senders;
    let both = async {
        let sent = tokio::join!(send_one(first, contents[0].clone()), send_one(second, contents[1].clone()));
        (sent, receiving.join_all().await)
    };
    let (sent, received) = timeout(Duration::from_secs(3600), both).await.expect("it hangs");
    assert!(sent.0.is_ok() && sent.1.is_ok(), "{sent:?}");
    for (slot, file) in received {
        assert!(file.unwrap() == contents[slot], "slot {slot}");
    }
    let budget = Budget::new(MEMORY_BYTES, Some(64)).blocks();
    let max = memory.blocks().max();
    assert!(max > budget / 4, "only {max} blocks were in use at a time");
    assert!(max <= budget, "{max} blocks were in use, {budget} is the budget");
}
