//! Calls to a disk outside of a transfer, which may hang.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;
use crate::protocol::place::Place;
use crate::storage::StorageError;

/// Does `work`, which is to `verb` the target directory `dir`, on a thread of its own, which is left behind if the disk
/// does not answer.
///
/// # Errors
///
/// That of `work`; or the disk has not answered for `limit`; or this process is asked to stop.
pub(super) async fn on_disk<T: Send + 'static>(
    (verb, dir): (&str, &Path),
    limit: Duration,
    stop: &watch::Receiver<Option<Failure>>,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Failure> {
    let mut stop = stop.clone();
    let stopped = async {
        match stop.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            _ => std::future::pending().await,
        }
    };
    let done = tokio::time::timeout(limit, tokio::task::spawn_blocking(work));
    tokio::select! {
        done = done => match done {
            Ok(Ok(done)) => done.map_err(|error| error.failure(Side::Receiver, Reason::Storage)),
            Ok(Err(error)) => Err(Failure::new(Reason::Internal, error.to_string())),
            Err(_) => Err(hangs(verb, dir, limit)),
        },
        failure = stopped => Err(failure),
    }
}

/// The disk of `dir` has not answered in time.
pub(super) fn hangs(verb: &str, dir: &Path, limit: Duration) -> Failure {
    let sentence =
        |dir: &str| format!("cannot {verb} {dir}: the disk has not answered for {limit:?} (--disk-timeout)");
    let place = Place::target_directory(printable(dir.as_os_str().as_encoded_bytes()));
    Failure::about(Side::Receiver, Reason::Storage, &place, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_left_after_the_limit_and_when_this_process_stops() {
        let (ask, stop) = watch::channel(None);
        let (answer, waits) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_secs(5);
        let call = ("open", Path::new("/srv/inbox"));
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
