//! When to report progress, and what it contains.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{ActiveFile, Event, Progress};
use crate::protocol::wire::entry::Totals;

/// After this long without a settled entry, progress says what the transfer waits for.
const QUIET: Duration = Duration::from_secs(1);
/// Maximum large files in a progress event.
pub(in crate::session) const ACTIVE_FILES_MAX: usize = 8;

/// Turns the state of a side into progress events, and skips those without news.
pub(in crate::session) struct Teller {
    started: Instant,
    told: Option<(u64, Totals)>,
    settled: (u64, Instant),
}

impl Teller {
    pub(in crate::session) fn new(started: Instant) -> Self {
        Self { started, told: None, settled: (0, started) }
    }

    /// Makes the next event due even without news.
    pub(in crate::session) fn insist(&mut self) {
        self.told = None;
    }

    /// The event, if there is news. `waiting_for` is told while the transfer stands still.
    pub(in crate::session) fn tell(
        &mut self,
        totals: Totals,
        walked: bool,
        sent_bytes: u64,
        active: Vec<ActiveFile>,
        waiting_for: &'static str,
    ) -> Option<Event> {
        let settled = totals.settled_bytes + totals.settled_files;
        if self.settled.0 != settled {
            self.settled = (settled, Instant::now());
        }
        let is_quiet = self.settled.1.elapsed() >= QUIET;
        if self.told == Some((sent_bytes, totals)) && !is_quiet {
            return None;
        }
        self.told = Some((sent_bytes, totals));
        Some(Event::Progress(Progress {
            elapsed: self.started.elapsed(),
            walked,
            total_files: totals.files,
            total_bytes: totals.bytes,
            sent_bytes,
            written_bytes: totals.settled_bytes + totals.held_bytes,
            resumed_bytes: totals.resumed_bytes + totals.held_bytes,
            done_files: totals.settled_files,
            active,
            waiting_for: is_quiet.then_some(waiting_for),
        }))
    }
}
