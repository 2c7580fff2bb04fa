//! Ends of a wait for a peer: a time limit, or a request to stop this process.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::protocol::failure::{Failure, Reason};

/// Becomes a failure when this process is asked to stop.
pub type Stop = watch::Receiver<Option<Failure>>;

/// Does `work` unless this process is asked to stop before it is done.
pub(super) async fn unless_stopped<T>(
    stop: &mut Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        stopped = stop.wait_for(Option::is_some) => {
            let failure = stopped.ok().and_then(|failure| failure.clone());
            Err(failure.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")))
        }
    }
}

/// Runs `waiting`, which waits for a peer, for at most `limit`.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    waiting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return waiting.await };
    timeout(limit, waiting).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Failure::new(Reason::Unreachable, format!("nobody connected within {limit}")))
    })
}
