//! Both sides in one process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use super::connected::Connected;
use super::dial::dial_known;
use super::extra::Sockets;
use super::listen::first_link;
use super::slot::OneSlot;
use super::terms::Terms;
use super::whereabouts::Whereabouts;
use crate::auth::Expected;
use crate::auth::methods::{AnyOf, ByKey};
use crate::node::listener::Listener;
use crate::protocol::failure::Failure;
use crate::session::handshake::Slot;
use crate::session::transport_failure;
use crate::transport::{Endpoint, ListenAddress, Network};

/// A `sender` and a `receiver` of this process that reach each other over loopback by one connection.
///
/// # Errors
///
/// There is no loopback.
pub async fn pair<N: Network>(
    sender: Terms<N>,
    receiver: Terms<N>,
) -> Result<(Connected<N>, Connected<N>), Failure> {
    let expected = receiver.network.fingerprint();
    let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
    let endpoint = receiver.network.listen(&loopback, &receiver.limits).map_err(transport_failure)?;
    let (_never, mut stop) = watch::channel(None);
    let address = endpoint.local_address().map_err(transport_failure)?;
    let role = receiver.role;
    let slot = Arc::new(OneSlot {
        authorizer: Box::new(AnyOf(vec![Expected::Key(sender.network.fingerprint())])),
        taken: AtomicBool::new(false),
        sockets: Sockets::new(receiver, loopback),
    });
    let mut listener = Listener::new(endpoint.clone(), role, vec![Arc::clone(&slot) as Arc<dyn Slot>]);
    let mut dialled = dial_known(
        &Whereabouts::at(&[address]),
        &ByKey { listener: expected },
        transport_failure,
        &sender,
        &mut stop,
    )
    .await?;
    // This connection is not reported.
    dialled.link.welcome().await?;
    let mut link = first_link(&endpoint, &mut listener).await?;
    let answering = listener.into_answering();
    let joining = slot.sockets.serve(&mut link, &answering)?;
    let endpoint = watch::Sender::new(endpoint).subscribe();
    let connected =
        Connected { link, endpoint, answering: Some(answering), joining, is_shared: false, ssh: None };
    Ok((dialled, connected))
}
