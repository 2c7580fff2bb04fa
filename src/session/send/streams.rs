//! Reads the control stream for the sender's driver, and writes the manifest.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::protocol::failure::Failure;
use crate::protocol::wire::message::Message;
use crate::session::closing::transport_failure;
use crate::session::messages::{MessageReader, Numbered};
use crate::session::outbox::Outbox;
use crate::session::send::shared::Sending;
use crate::transport::{Connection, RecvStream, SendStream};

/// The manifest has priority over parcels, and the control stream over both.
const MANIFEST_PRIORITY: i32 = 1;

/// Messages of the control stream.
pub(super) enum Heard {
    /// The first message, which has no number.
    Greeting(Message),
    /// The numbered messages after it.
    Messages(Vec<Numbered>),
}

/// Reads until the receiver ends the control stream. The first message is the greeting while this side
/// `awaits_welcome`.
pub(super) async fn read_control<R: RecvStream>(
    mut control: MessageReader<R>,
    awaits_welcome: bool,
    heard: mpsc::Sender<Heard>,
) -> Result<(), Failure> {
    if awaits_welcome && heard.send(Heard::Greeting(control.expect().await?)).await.is_err() {
        return Ok(());
    }
    loop {
        let batch = control.next_numbered().await?;
        if batch.is_empty() {
            return Err(Failure::protocol("the receiver ended the control stream before the transfer"));
        }
        if heard.send(Heard::Messages(batch)).await.is_err() {
            return Ok(());
        }
    }
}

/// Opens the manifest stream and writes the messages of `manifest`. A receiver that gives no credit for it stalls the
/// transfer.
pub(super) async fn write_manifest<C: Connection, S>(
    connection: C,
    manifest: Outbox,
    sending: Arc<Sending<S>>,
) -> Result<(), Failure> {
    let stream = sending.opening.during(connection.open_uni()).await.map_err(transport_failure)?;
    stream.set_priority(MANIFEST_PRIORITY);
    manifest.write_to(stream).await
}
