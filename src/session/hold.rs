//! A person decides before the offer: meanwhile the peer is told that it is waited for.

use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::interval;

use super::closing::transport_failure;
use super::link::Link;
use super::outbox::put_unnumbered;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::message::Message;
use crate::transport::{Connection, SendStream};

/// Between two heart-beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Waits for `answer`, unless the connection ends or this process is asked to stop.
///
/// # Errors
///
/// One of the two; the peer has not been told.
pub async fn hold<C: Connection>(
    link: &mut Link<C>,
    answer: impl Future<Output = bool>,
    mut stop: watch::Receiver<Option<Failure>>,
) -> Result<bool, Failure> {
    let Link { connection, control_out, .. } = link;
    let beats = async {
        let mut beat = interval(BEAT_EVERY);
        loop {
            beat.tick().await;
            let mut out = BytesMut::new();
            put_unnumbered(&mut out, &Message::Heartbeat(Activity::Asking));
            if let Err(error) = control_out.write_all(&mut [out.freeze()]).await {
                return transport_failure(error);
            }
        }
    };
    tokio::select! {
        biased;
        answer = answer => Ok(answer),
        stopped = stop.wait_for(Option::is_some) => {
            let failure = stopped.ok().and_then(|failure| failure.clone());
            Err(failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")))
        }
        error = connection.closed() => Err(transport_failure(error)),
        failure = beats => Err(failure),
    }
}
