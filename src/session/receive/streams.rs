//! Reads the control and manifest streams for the receiver's machine.

use std::sync::Arc;

use crate::protocol::failure::Failure;
use crate::protocol::wire::message::Message;
use crate::session::closing::transport_failure;
use crate::session::messages::MessageReader;
use crate::session::receive::shared::Receiving;
use crate::transport::{Connection, RecvStream};

/// Until the sender ends the control stream.
pub(super) async fn read_control<T, R: RecvStream>(
    shared: Arc<Receiving<T>>,
    mut control: MessageReader<R>,
) -> Result<(), Failure> {
    loop {
        let batch = control.next_batch().await?;
        if batch.is_empty() {
            return Ok(());
        }
        shared.heard();
        for message in &batch {
            if let Message::Heartbeat(activity) = message {
                *shared.peer_activity() = *activity;
            }
        }
        shared
            .with_machine(|machine| batch.into_iter().try_for_each(|message| machine.on_control(message)))?;
    }
}

/// Until the end of the manifest; as far as entries may be open.
pub(super) async fn read_manifest<T, C: Connection>(
    shared: Arc<Receiving<T>>,
    connection: C,
) -> Result<(), Failure> {
    let stream = connection.accept_uni().await.map_err(transport_failure)?;
    let mut manifest = MessageReader::new(stream);
    loop {
        let batch = manifest.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        shared.heard();
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            while !shared.takes_entries() {
                shared.room.notified().await;
            }
            shared.with_machine(|machine| {
                while machine.takes_entries()
                    && let Some(message) = batch.next()
                {
                    machine.on_manifest(message)?;
                }
                Ok(())
            })?;
        }
    }
    if shared.machine().is_walked() {
        return Ok(());
    }
    Err(Failure::protocol("the manifest stream ended before the manifest"))
}
