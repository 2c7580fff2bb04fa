//! Reads the control and manifest streams for the receiver's machine.

use std::sync::Arc;

use crate::protocol::failure::Failure;
use crate::protocol::wire::message::{Message, Received};
use crate::session::closing::transport_failure;
use crate::session::messages::MessageReader;
use crate::session::receive::shared::Receiving;
use crate::transport::{Connection, RecvStream};

/// Reads until the sender ends the control stream.
pub(super) async fn read_control<T, R: RecvStream>(
    shared: Arc<Receiving<T>>,
    mut control: MessageReader<R>,
) -> Result<(), Failure> {
    loop {
        let batch = control.next_numbered().await?;
        if batch.is_empty() {
            return Ok(());
        }
        shared.heard();
        let mut log = shared.control_in();
        shared.with_machine(|machine| {
            for (number, message) in batch {
                let is_kept = message.as_ref().map_or(number > 0, Message::is_kept);
                if !log.take(number, is_kept)? {
                    continue;
                }
                match message {
                    Some(Message::Confirm(received)) => confirmed(&shared, received)?,
                    Some(message) => {
                        if let Message::Heartbeat(activity) = &message {
                            *shared.peer_activity() = *activity;
                        }
                        machine.on_control(message)?;
                    }
                    None => {}
                }
            }
            Ok(())
        })?;
    }
}

/// The sender has these confirmations.
fn confirmed<T>(shared: &Receiving<T>, received: Received) -> Result<(), Failure> {
    if received.manifest > 0 || !shared.control_out.confirmed(received.control)? {
        return Err(Failure::protocol("the sender confirms nothing new"));
    }
    Ok(())
}

/// Reads until the end of the manifest, as long as there is room for open entries.
pub(super) async fn read_manifest<T, C: Connection>(
    shared: Arc<Receiving<T>>,
    connection: C,
) -> Result<(), Failure> {
    let stream = connection.accept_uni().await.map_err(transport_failure)?;
    let mut manifest = MessageReader::new(stream);
    loop {
        let batch = manifest.next_numbered().await?;
        if batch.is_empty() {
            break;
        }
        shared.heard();
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            while !shared.takes_entries() {
                shared.room.notified().await;
            }
            let mut log = shared.manifest_in();
            shared.with_machine(|machine| {
                while machine.takes_entries()
                    && let Some((number, message)) = batch.next()
                {
                    if log.take(number, true)?
                        && let Some(message) = message
                    {
                        machine.on_manifest(message)?;
                    }
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
