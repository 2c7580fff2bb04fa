//! The partial files of one transfer, in one `.towline`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;

use super::descriptors::share;
use super::incoming::Incoming;
use super::left_over::clean;
use super::partial::{Partial, PartialFor};
use super::partial_names::PartialName;
use super::sys::disk::{linkat, renameat};
use super::trust::Trust;
use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::EntryId;

/// Partial files in use at once, each with an open journal. What is above starts over after an interruption.
const OPEN_MAX: usize = 256;

/// The partial files of one transfer.
pub(super) struct Partials {
    incoming: Incoming,
    trust: Trust,
    max: usize,
    /// Names that earlier attempts have left.
    found: HashSet<PartialName>,
    state: Mutex<PartialFiles>,
    has_warned: AtomicBool,
}

#[derive(Default)]
struct PartialFiles {
    /// Entries that get a journal with their first byte.
    wanted: HashMap<EntryId, PartialFor>,
    open: BTreeMap<EntryId, Arc<Partial>>,
}

impl Partials {
    /// Removes what is too old or not whole of what earlier attempts have left in `hub`.
    pub(super) fn find(hub: &OwnedFd, incoming: &Incoming) -> Self {
        let found = clean(hub, |line| incoming.warn(line));
        Self {
            incoming: incoming.clone(),
            trust: Trust::of(hub),
            max: share(OPEN_MAX),
            found,
            state: Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, PartialFiles> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partial file that an entry is staged in.
    pub(super) fn of(&self, id: EntryId) -> Option<Arc<Partial>> {
        self.state().open.get(&id).cloned()
    }

    /// Its name.
    pub(super) fn name_of(&self, id: EntryId) -> Option<PartialName> {
        self.state().open.get(&id).map(|partial| partial.name.clone())
    }

    /// Whether an entry has a partial file, or gets one with its first byte.
    pub(super) fn is_for(&self, id: EntryId) -> bool {
        let state = self.state();
        state.open.contains_key(&id) || state.wanted.contains_key(&id)
    }

    /// Opens what is left of an entry. If that is nothing, it is begun with the first byte.
    pub(super) fn resume(
        &self,
        hub: &OwnedFd,
        id: EntryId,
        wanted: PartialFor,
    ) -> io::Result<Option<(Arc<Partial>, File)>> {
        if wanted.name.is_there(hub) {
            return self.open(hub, id, &wanted, false);
        }
        self.state().wanted.insert(id, wanted);
        Ok(None)
    }

    /// Begins the partial file of an entry, if it is to have one. Without it, only an interruption costs more.
    pub(super) fn begin(&self, hub: &OwnedFd, id: EntryId) -> Option<(Arc<Partial>, File)> {
        let wanted = self.state().wanted.remove(&id)?;
        self.open(hub, id, &wanted, true).unwrap_or_else(|error| {
            self.cannot("keep a journal", &error);
            None
        })
    }

    fn open(
        &self,
        hub: &OwnedFd,
        id: EntryId,
        wanted: &PartialFor,
        is_new: bool,
    ) -> io::Result<Option<(Arc<Partial>, File)>> {
        if self.state().open.len() >= self.max {
            return Ok(None);
        }
        let opened = Partial::open(hub, wanted, self.trust, self.incoming.sync, is_new)?;
        Ok(opened.map(|(partial, file)| {
            let partial = Arc::new(partial);
            self.state().open.insert(id, Arc::clone(&partial));
            (partial, file)
        }))
    }

    /// Says once what keeps files from being resumed.
    pub(super) fn cannot(&self, what: &str, error: &io::Error) {
        if !self.has_warned.swap(true, Relaxed) {
            let lost = "an interrupted file may have to start over";
            self.incoming.warn(format!("cannot {what} in the target directory ({error}): {lost}"));
        }
    }

    /// An entry has its final name, which is for `path`.
    pub(super) fn named(&self, hub: &OwnedFd, id: EntryId, path: &RelPath) {
        if let Some(partial) = self.take(id) {
            return partial.named(hub);
        }
        if self.found.is_empty() {
            return;
        }
        // It has fewer chunks than the earlier attempt had.
        let name = PartialName::new(&self.incoming.sender, path);
        if self.found.contains(&name)
            && let Ok(Some(_lock)) = name.lock(hub, false)
        {
            let _ = name.remove(hub);
        }
    }

    /// A complete entry for `path` waits for its name in `dir`, under its number. Its partial file stays where it is, with
    /// a second name there, so that no other receiver goes on with it meanwhile. Returns whether there may be one.
    pub(super) fn set_aside(
        &self,
        hub: &OwnedFd,
        dir: &OwnedFd,
        id: EntryId,
        path: &RelPath,
    ) -> io::Result<bool> {
        let Some(partial) = self.take(id) else {
            return Ok(self.found.contains(&PartialName::new(&self.incoming.sender, path)));
        };
        let (data, staged) = (partial.name.data(), id.0.to_string());
        if linkat(hub, &data, dir, &staged, AtFlags::empty()).is_ok() {
            return Ok(true);
        }
        // The file system has no links, so the next attempt starts over.
        renameat(hub, &data, dir, &staged)?;
        partial.named(hub);
        Ok(false)
    }

    /// Removes the partial file of an entry; false if it has none.
    pub(super) fn discard(&self, hub: &OwnedFd, id: EntryId) -> bool {
        let partial = self.take(id);
        partial.as_ref().inspect(|partial| partial.discard(hub)).is_some()
    }

    /// Leaves the partial file of an entry to a later transfer; false if it has none.
    pub(super) fn give_up(&self, hub: &OwnedFd, id: EntryId) -> bool {
        let partial = self.take(id);
        partial.as_ref().inspect(|partial| partial.leave(hub)).is_some()
    }

    fn take(&self, id: EntryId) -> Option<Arc<Partial>> {
        let mut state = self.state();
        state.wanted.remove(&id);
        state.open.remove(&id)
    }

    /// The transfer has ended; what can be resumed stays.
    pub(super) fn leave(&self, hub: &OwnedFd) {
        let open: Vec<_> = {
            let mut state = self.state();
            state.wanted.clear();
            mem::take(&mut state.open).into_values().collect()
        };
        open.iter().for_each(|partial| partial.leave(hub));
    }
}
