//! When progress is worth telling, and what is told.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{ActiveFile, Event, Progress};
use crate::protocol::brake::Brake;
use crate::protocol::entry::Totals;

/// Nothing has been settled for so long: people are told what is waited for.
const QUIET: Duration = Duration::from_secs(1);
/// Large files that progress tells of.
pub(super) const ACTIVE_FILES_MAX: usize = 8;

/// Turns the state of a side into events, none where nothing has changed.
pub(super) struct Teller {
    started: Instant,
    told: Option<(u64, Totals)>,
    settled: (u64, Instant),
}

impl Teller {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, told: None, settled: (0, started) }
    }

    /// The next event is told even when nothing has changed.
    pub(super) fn insist(&mut self) {
        self.told = None;
    }

    /// The event, if there is something to tell. `brake` is what holds the transfer just now, if it stands.
    pub(super) fn tell(
        &mut self,
        totals: Totals,
        walked: bool,
        sent_bytes: u64,
        active: Vec<ActiveFile>,
        brake: Brake,
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
            written_bytes: totals.settled_bytes,
            done_files: totals.settled_files,
            active,
            waiting_for: is_quiet.then(|| brake.as_str()),
        }))
    }
}
