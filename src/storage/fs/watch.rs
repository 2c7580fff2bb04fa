//! Running disk calls, so that one that hangs can be named. A disk that is gone (a dead NFS server, a cable) does not
//! fail a call: the call never returns.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::EntryId;

/// The subject of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The directory as a whole.
    Top,
    /// An entry under its own path.
    Path(RelPath),
    /// An entry in staging.
    Staged(EntryId),
}

/// Calls of one disk.
#[derive(Default)]
pub(super) struct DiskWatch {
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    next: u64,
    calls: BTreeMap<u64, Doing>,
}

struct Doing {
    since: Instant,
    op: &'static str,
    subject: Subject,
}

/// A call, or a sequence of calls by one thread. It ends when dropped.
pub(super) struct Call<'a> {
    watch: &'a DiskWatch,
    number: u64,
}

impl DiskWatch {
    /// Starts a call by this thread; `op` is a verb.
    pub(super) fn begin(&self, op: &'static str, subject: Subject) -> Call<'_> {
        let mut under_way = self.under_way();
        let number = under_way.next;
        under_way.next += 1;
        under_way.calls.insert(number, Doing { since: Instant::now(), op, subject });
        Call { watch: self, number }
    }

    /// The call that has been running longest, if that exceeds `limit`.
    pub(super) fn hanging(&self, limit: Duration) -> Option<(&'static str, Subject)> {
        let under_way = self.under_way();
        let oldest = under_way.calls.values().min_by_key(|doing| doing.since)?;
        (oldest.since.elapsed() > limit).then(|| (oldest.op, oldest.subject.clone()))
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// The last call has returned, and this is the next one.
    pub(super) fn step(&self, op: &'static str, subject: Subject) {
        if let Some(doing) = self.watch.under_way().calls.get_mut(&self.number) {
            *doing = Doing { since: Instant::now(), op, subject };
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.watch.under_way().calls.remove(&self.number);
    }
}

/// The failure of a call that hangs.
pub(super) fn hangs(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the disk has not answered for {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_10_the_call_that_hangs_is_named() {
        let watch = DiskWatch::default();
        let path = |name: &str| Subject::Path(RelPath::new(name.as_bytes()).unwrap());
        let first = watch.begin("write", Subject::Staged(EntryId(7)));
        let second = watch.begin("sync", path("a"));
        assert_eq!(watch.hanging(Duration::from_secs(60)), None);
        let hanging = || watch.hanging(Duration::ZERO);
        assert_eq!(hanging(), Some(("write", Subject::Staged(EntryId(7)))));
        first.step("rename to", path("b"));
        assert_eq!(hanging(), Some(("sync", path("a"))));
        drop(second);
        assert_eq!(hanging(), Some(("rename to", path("b"))));
        drop(first);
        assert_eq!(hanging(), None);
    }
}
