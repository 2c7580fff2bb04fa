//! Calls to a disk outside of a transfer, which may hang.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::place::Place;

/// Does `work`, which is to `verb` the directory `dir` of this `side`, on a thread of its own, which is left behind if
/// the disk does not answer.
///
/// # Errors
///
/// That of `work`; or the disk has not answered for `limit`; or this process is asked to stop.
pub(super) async fn on_disk<T: Send + 'static>(
    (side, verb, dir): (Side, &str, &Path),
    limit: Duration,
    stop: &watch::Receiver<Option<Failure>>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::time::timeout(limit, tokio::task::spawn_blocking(work));
    tokio::select! {
        done = done => match done {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(Failure::new(Reason::Internal, error.to_string())),
            Err(_) => Err(hangs((side, verb, dir), limit)),
        },
        failure = stopped(stop) => Err(failure),
    }
}

/// Waits until this process is asked to stop.
pub(super) async fn stopped(stop: &watch::Receiver<Option<Failure>>) -> Failure {
    let mut stop = stop.clone();
    match stop.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
        Ok(Some(failure)) => failure,
        _ => std::future::pending().await,
    }
}

/// The disk of `dir` has not answered in time.
pub(super) fn hangs((side, verb, dir): (Side, &str, &Path), limit: Duration) -> Failure {
    let sentence =
        |dir: &str| format!("cannot {verb} {dir}: the disk has not answered for {limit:?} (--disk-timeout)");
    let shown = printable(dir.as_os_str().as_encoded_bytes());
    let place = match side {
        Side::Receiver => Place::target_directory(shown),
        Side::Sender => Place::new(shown, "a source"),
    };
    Failure::about(side, Reason::Storage, &place, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_left_after_the_limit_and_when_this_process_stops() {
        let (ask, stop) = watch::channel(None);
        let (answer, waits) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_secs(5);
        let call = (Side::Receiver, "open", Path::new("/srv/inbox"));
        // The paused clock stands still while a thread works, so the limit is over at once.
        let failure = on_disk(call, Duration::ZERO, &stop, move || {
            let _ = waits.recv();
            Ok(())
        });
        let failure = failure.await.unwrap_err();
        assert_eq!(failure.reason, Reason::Storage);
        assert!(failure.message.starts_with("cannot open /srv/inbox: the disk has not answered for 0"));
        assert!(!failure.for_peer().contains("inbox"), "{}", failure.for_peer());
        drop(answer);
        let (answer, waits) = std::sync::mpsc::channel::<()>();
        ask.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by SIGTERM")));
        let stopped = on_disk(call, limit, &stop, move || {
            let _ = waits.recv();
            Ok(())
        });
        assert_eq!(stopped.await.unwrap_err().reason, Reason::Interrupted);
        drop(answer);
    }
}
