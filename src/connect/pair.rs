//! Both sides in one process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::answer::{answer_all, first_link};
use super::connected::Connected;
use super::dial::dial_known;
use super::extra::Sockets;
use super::slot::OneSlot;
use super::terms::Terms;
use crate::auth::Expected;
use crate::auth::methods::{AnyOf, ByKey};
use crate::protocol::failure::Failure;
use crate::session::transport_failure;
use crate::transport::{Endpoint, ListenAddress};

/// A `sender` and a `receiver` of this process that reach each other over loopback by one connection.
///
/// # Errors
///
/// There is no loopback.
pub async fn pair(sender: Terms, receiver: Terms) -> Result<(Connected, Connected), Failure> {
    let listener = receiver.identity.fingerprint();
    let loopback = ListenAddress::At(([127, 0, 0, 1], 0).into());
    let endpoint =
        Endpoint::listen(&loopback, &receiver.identity, &receiver.limits).map_err(transport_failure)?;
    let (_never, mut stop) = watch::channel(None);
    let address = endpoint.local_address().map_err(transport_failure)?;
    let (links, link) = mpsc::channel(1);
    let role = receiver.role;
    let slot = OneSlot {
        authorizer: AnyOf(vec![Expected::Key(sender.identity.fingerprint())]),
        taken: AtomicBool::new(false),
        sockets: Sockets::new(receiver, address.ip()),
    };
    let answering = tokio::spawn(answer_all(endpoint.clone(), role, Arc::new(slot), links)).abort_handle();
    let mut dialled =
        dial_known(&[address], &ByKey { listener }, transport_failure, &sender, &mut stop).await?;
    // Of this connection nobody is to be told.
    dialled.link.welcome().await?;
    let link = first_link(&endpoint, link).await?;
    Ok((dialled, Connected { link, endpoint, answering: Some(answering), joining: JoinSet::new() }))
}
