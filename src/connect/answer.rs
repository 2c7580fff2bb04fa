//! How diallers are answered.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{debug, info};

use super::slot::OneSlot;
use super::waiting::unless_silent;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::role::Role;
use crate::session::{Link, close_with, handshake};
use crate::transport::quic::connection::Quic;
use crate::transport::{Endpoint, Incoming};

pub(super) async fn first_link(
    endpoint: &Endpoint,
    mut link: mpsc::Receiver<Link<Quic>>,
) -> Result<Link<Quic>, Failure> {
    link.recv().await.ok_or_else(|| {
        let fault = endpoint.fault().unwrap_or("the socket was closed while waiting");
        Failure::new(Reason::Setup, fault)
    })
}

/// Answers every dialler, each in a task of its own, until aborted: after the seat is taken the others still learn
/// why they are not let in.
pub(super) async fn answer_all(
    endpoint: Endpoint,
    role: Role,
    slot: Arc<OneSlot>,
    links: mpsc::Sender<Link<Quic>>,
) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(answer_one(incoming, role, Arc::clone(&slot), links.clone()));
    }
}

async fn answer_one(incoming: Incoming, role: Role, slot: Arc<OneSlot>, links: mpsc::Sender<Link<Quic>>) {
    let from = incoming.remote_address();
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            info!(%from, %error, "a dialler did not finish its handshake");
            return;
        }
    };
    match unless_silent(&connection, handshake::answer(connection.clone(), role, &*slot)).await {
        Ok(link) => {
            debug!(%from, "let in");
            let _ = links.send(link).await;
        }
        Err(failure) => {
            info!(%from, %failure, "a dialler was not let in");
            close_with(&connection, &failure);
        }
    }
}
