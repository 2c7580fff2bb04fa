//! Sets whose receiver was stopped while it gave them their names.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, watch};
use tokio::time::timeout;

use super::on_disk::{hangs, on_disk, stopped};
use crate::event::{Event, Reporter};
use crate::protocol::failure::{Failure, Side};
use crate::storage::fs::{TargetDir, roll_forward};

/// What a failure says that cannot be done.
const VERB: &str = "complete an earlier transfer in";

/// Completes sets, in each directory for one caller at a time: a disk that hangs costs one thread, and later callers
/// learn at once that it hangs.
#[derive(Clone, Default)]
pub(super) struct Completion(Arc<Mutex<HashMap<PathBuf, Arc<Directory>>>>);

#[derive(Default)]
struct Directory {
    turn: Arc<Turn<()>>,
    /// The call that has the turn was left behind.
    is_left: AtomicBool,
}

impl Completion {
    /// Completes the sets in `into`, before anything else happens there. What happens to them concerns no other
    /// transfer, so `reporter` is that of the process.
    pub(super) async fn complete_sets(
        &self,
        into: &TargetDir,
        reporter: &Arc<dyn Reporter>,
        limit: Duration,
        stop: &watch::Receiver<Option<Failure>>,
    ) -> Result<(), Failure> {
        let path = into.path();
        let disk = (Side::Receiver, VERB, &*path);
        let directory = {
            let mut directories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(directories.entry(path.clone()).or_default())
        };
        if directory.is_left.load(Relaxed) && directory.turn.try_lock().is_err() {
            return Err(hangs(disk, limit));
        }
        let turn = tokio::select! {
            turn = timeout(limit, Arc::clone(&directory.turn).lock_owned()) => turn,
            failure = stopped(stop) => return Err(failure),
        };
        let Ok(turn) = turn else { return Err(hangs(disk, limit)) };
        directory.is_left.store(false, Relaxed);
        let (dir, warned, answered) = (into.clone(), Arc::clone(reporter), Arc::new(AtomicBool::new(false)));
        let has_answered = Arc::clone(&answered);
        let completed = on_disk(disk, limit, stop, move || {
            let completed = roll_forward(&dir, &warned);
            answered.store(true, Relaxed);
            drop(turn);
            completed.map_err(|error| error.of_target())
        });
        let completed = completed.await;
        if !has_answered.load(Relaxed) {
            directory.is_left.store(true, Relaxed);
        }
        completed?.into_iter().for_each(|one| reporter.report(Event::NotKept(one)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Reason;
    use crate::testing::session::Nobody;

    #[tokio::test]
    async fn a_directory_whose_disk_hangs_is_refused_at_once_until_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let (completion, nobody) = (Completion::default(), Arc::new(Nobody) as Arc<dyn Reporter>);
        let (ask, stop) = watch::channel(None);
        let complete = |name: &str, limit| {
            let (completion, nobody, stop, into) =
                (completion.clone(), Arc::clone(&nobody), stop.clone(), dir.path().join(name));
            async move { completion.complete_sets(&(&into).into(), &nobody, limit, &stop).await }
        };
        let (long, hang) = (Duration::from_secs(600), Duration::from_millis(1));
        complete("a", long).await.unwrap();
        let directory = Arc::clone(&completion.0.lock().unwrap()[&dir.path().join("a")]);
        // A call that hangs has the turn.
        let turn = Arc::clone(&directory.turn).lock_owned().await;
        assert_eq!(complete("a", hang).await.unwrap_err().reason, Reason::Storage);
        directory.is_left.store(true, Relaxed);
        let failure = complete("a", long).await.unwrap_err();
        assert!(failure.message.contains("complete an earlier transfer in"), "{}", failure.message);
        complete("b", long).await.unwrap();
        directory.is_left.store(false, Relaxed);
        // Nobody waits for a turn when this process stops.
        ask.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by SIGTERM")));
        let some_time = Duration::from_secs(5);
        assert_eq!(complete("a", some_time).await.unwrap_err().reason, Reason::Interrupted);
        ask.send_replace(None);
        drop(turn);
        complete("a", long).await.unwrap();
    }
}
