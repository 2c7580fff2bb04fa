//! The sender's offer, made before any data.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::event::Event;
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::failure::{Failure, Side};
use crate::protocol::request::Request;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::limits::ANSWER_SECONDS_MAX;
use crate::protocol::wire::message::Message;
use crate::session::closing::stalled;
use crate::session::context::{Context, started};
use crate::session::link::Link;
use crate::transport::Connection;

/// The sender's offer.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Random number of the transfer.
    pub transfer: [u8; 16],
    /// Chunk size as a power of two.
    pub chunk_log2: u8,
    /// Whether the sender wants a receipt.
    pub wants_receipt: bool,
    /// What else the sender asks for.
    pub request: Request,
}

/// Waits for the sender's offer, at most for the time-out of `context`, or until this process is asked to stop.
///
/// # Errors
///
/// Any failure; the peer has not been told.
pub async fn offer<C: Connection>(link: &mut Link<C>, context: &Context) -> Result<Offer, Failure> {
    let mut stopping = context.clone();
    let mut asked_at = None;
    let message = loop {
        let message = tokio::select! {
            message = timeout(context.patience.timeout, first(link)) => message,
            failure = stopping.stopped() => return Err(failure.or_side(Side::Receiver)),
        };
        match message {
            // The sender asks a person first.
            Ok(Ok(Message::Heartbeat(Activity::Asking))) => {
                if asked_at.is_none() {
                    context.reporter.report(Event::Asked);
                }
                let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
                if asked_at.get_or_insert_with(Instant::now).elapsed() > limit {
                    return Err(stalled("no offer from the sender", limit, Bottleneck::Network));
                }
            }
            Ok(message) => break message,
            Err(_) => {
                let waited = context.patience.timeout;
                break Err(stalled("no offer from the sender", waited, Bottleneck::Network));
            }
        }
    };
    match message.map_err(|failure| failure.heard_by(Side::Receiver, true))? {
        Message::Offer { transfer, chunk_log2, wants_receipt, mut request } => {
            context.reporter.report(started(Side::Receiver, transfer));
            // A receipt is about contents.
            request.compares |= wants_receipt;
            Ok(Offer { transfer, chunk_log2, wants_receipt, request })
        }
        other => Err(Failure::protocol(format!("the sender began with {}", other.name()))),
    }
}

/// The first message after the greeting.
async fn first<C: Connection>(link: &mut Link<C>) -> Result<Message, Failure> {
    let (number, message) = link.control_in.expect_numbered().await?;
    match message {
        Some(message) if link.control_log.take(number, message.is_kept())? => Ok(message),
        _ => Err(Failure::protocol("the sender did not begin with Offer")),
    }
}
