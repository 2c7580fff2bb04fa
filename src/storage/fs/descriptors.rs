//! File descriptors: how many are kept open, and what happens when none is left.
//!
//! The process limit (`ulimit -n`) is shared by all parts of it. Files kept open only to save a call are bounded by a
//! share of the limit; a call that needs a descriptor and gets none waits for one.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// A cache's share of the limit: a sixteenth.
const SHARE: u64 = 16;
/// A cache's minimum, under the lowest of limits.
const OPEN_MIN: usize = 2;
/// How long a call waits for a descriptor before it fails.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Interval between attempts.
const WAIT_STEP: Duration = Duration::from_millis(10);

/// The size of a cache that would like `max` descriptors.
pub(super) fn share(max: usize) -> usize {
    share_of(getrlimit(Resource::Nofile).current, max)
}

fn share_of(limit: Option<u64>, max: usize) -> usize {
    let share = limit.and_then(|limit| usize::try_from(limit / SHARE).ok()).unwrap_or(max);
    share.clamp(OPEN_MIN.min(max), max)
}

/// Makes a call that opens a descriptor. While the process or the system has none left, `release` closes one that the
/// caller can spare, and the call is repeated.
pub(super) fn patiently<T>(
    mut open: impl FnMut() -> Result<T, Errno>,
    mut release: impl FnMut(),
) -> Result<T, Errno> {
    let start = Instant::now();
    loop {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) if start.elapsed() < WAIT_MAX => {
                release();
                thread::sleep(WAIT_STEP);
            }
            done => return done,
        }
    }
}

/// Open files by their names, the least recently used closed first.
pub(super) struct OpenFiles<K, F> {
    max: usize,
    open: HashMap<K, OpenFile<F>>,
    by_use: BTreeMap<u64, K>,
    clock: u64,
}

struct OpenFile<F> {
    file: Arc<F>,
    used: u64,
}

impl<K: Clone + Eq + Hash, F> OpenFiles<K, F> {
    /// At most `max` of them, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), open: HashMap::new(), by_use: BTreeMap::new(), clock: 0 }
    }

    /// The file with this name, if it is open.
    pub(super) fn get<Q>(&mut self, name: &Q) -> Option<Arc<F>>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let opened = self.open.get_mut(name)?;
        self.clock += 1;
        if let Some(name) = self.by_use.remove(&opened.used) {
            self.by_use.insert(self.clock, name);
        }
        opened.used = self.clock;
        Some(Arc::clone(&opened.file))
    }

    /// Keeps `file` open; returns the file that must be closed for it. Closing may be slow, so the caller does it.
    pub(super) fn insert(&mut self, name: K, file: Arc<F>) -> Option<Arc<F>> {
        let replaced = self.remove(&name);
        let closed = if self.open.len() >= self.max { self.pop_oldest() } else { None };
        self.clock += 1;
        self.by_use.insert(self.clock, name.clone());
        self.open.insert(name, OpenFile { file, used: self.clock });
        replaced.or(closed)
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, name: &K) -> Option<Arc<F>> {
        let opened = self.open.remove(name)?;
        self.by_use.remove(&opened.used);
        Some(opened.file)
    }

    /// Forgets the least recently used file.
    pub(super) fn pop_oldest(&mut self) -> Option<Arc<F>> {
        let (_, name) = self.by_use.pop_first()?;
        self.open.remove(&name).map(|opened| opened.file)
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.by_use.clear();
    }

    /// Number of open files.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_1_a_cache_takes_a_share_of_the_limit() {
        let shares = [Some(16), Some(256), Some(1024), Some(1 << 20), None].map(|limit| share_of(limit, 64));
        assert_eq!(shares, [2, 16, 64, 64, 64]);
    }

    #[test]
    fn fault_1_a_call_waits_while_there_is_no_descriptor() {
        let (mut calls, mut released) = (0, 0);
        let opened = patiently(
            || {
                calls += 1;
                match calls {
                    1 => Err(Errno::MFILE),
                    2 => Err(Errno::NFILE),
                    _ => Ok(calls),
                }
            },
            || released += 1,
        );
        assert_eq!((opened, released), (Ok(3), 2));
        assert_eq!(patiently(|| Err::<(), _>(Errno::ACCESS), || ()), Err(Errno::ACCESS));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut files = OpenFiles::new(2);
        assert!(files.insert("a", Arc::new(1)).is_none());
        assert!(files.insert("b", Arc::new(2)).is_none());
        assert_eq!(files.get("a").as_deref(), Some(&1));
        assert_eq!(files.insert("c", Arc::new(3)).as_deref(), Some(&2));
        assert!(files.get("b").is_none());
        assert_eq!(files.remove(&"a").as_deref(), Some(&1));
        assert_eq!(files.pop_oldest().as_deref(), Some(&3));
        assert_eq!(files.len(), 0);
    }
}
