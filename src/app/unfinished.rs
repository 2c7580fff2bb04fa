//! Sets whose receiver was stopped while it gave them their names.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::event::{Event, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::storage::fs::roll_forward;

/// Completes the sets in `into`, before anything else happens there.
pub(super) async fn complete_sets(
    into: &Path,
    reporter: &Arc<dyn Reporter>,
    stop: &watch::Receiver<Option<Failure>>,
) -> Result<(), Failure> {
    let (dir, warned) = (into.to_owned(), Arc::clone(reporter));
    let completing = tokio::task::spawn_blocking(move || roll_forward(&dir, &warned));
    let mut stop = stop.clone();
    let completed = tokio::select! {
        completed = completing => completed.map_err(|e| Failure::new(Reason::Internal, e.to_string()))?,
        Ok(stopped) = stop.wait_for(Option::is_some) => {
            let stopped = stopped.clone();
            return Err(stopped.unwrap_or_else(|| Failure::new(Reason::Interrupted, "stopped")));
        }
    };
    let not_kept = completed.map_err(|error| error.failure(Side::Receiver, Reason::Storage))?;
    not_kept.into_iter().for_each(|one| reporter.report(Event::NotKept(one)));
    Ok(())
}
