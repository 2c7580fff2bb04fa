//! The open directories of the sender's walk, as the receiver knows them.

use std::collections::BTreeMap;

use crate::protocol::path::RelPath;
use crate::protocol::wire::entry::{EntryId, Outcome};

/// Directories whose end has not arrived or is not yet handled. Bounded by the components of a path plus the open
/// directory ends.
#[derive(Debug, Default)]
pub(in crate::protocol) struct OpenDirs {
    /// Directories whose end has not arrived, each inside the one before.
    walk: Vec<(EntryId, RelPath)>,
    /// Whether each directory existed before.
    were_there: BTreeMap<EntryId, bool>,
    /// A directory that will be missing, and its outcome, which everything inside it shares.
    blocked: Option<(RelPath, Outcome)>,
}

impl OpenDirs {
    /// The walk enters a directory. Open directories that do not contain it have ended without a message; they keep
    /// the attributes they have.
    pub(in crate::protocol) fn enter(&mut self, id: EntryId, path: &RelPath) {
        while let Some((other, _)) = self.walk.pop_if(|(_, dir)| !is_within(path, dir)) {
            self.were_there.remove(&other);
        }
        self.walk.push((id, path.clone()));
        self.were_there.insert(id, false);
    }

    /// The walk leaves a directory. Returns its number; `None` when the walk never entered it.
    pub(in crate::protocol) fn leave(&mut self, path: &RelPath) -> Option<EntryId> {
        let at = self.walk.iter().rposition(|(_, dir)| dir == path)?;
        for (other, _) in self.walk.drain(at + 1..) {
            self.were_there.remove(&other);
        }
        self.walk.pop().map(|(id, _)| id)
    }

    /// The directory existed before.
    pub(in crate::protocol) fn was_there(&mut self, id: EntryId) {
        if let Some(was_there) = self.were_there.get_mut(&id) {
            *was_there = true;
        }
    }

    /// Everything in the directory has ended. Returns whether it existed before.
    pub(in crate::protocol) fn end(&mut self, id: EntryId) -> Option<bool> {
        self.were_there.remove(&id)
    }

    /// The directory will be missing.
    pub(in crate::protocol) fn block(&mut self, path: RelPath, outcome: Outcome) {
        if self.blocks(&path).is_none() {
            self.blocked = Some((path, outcome));
        }
    }

    /// The missing directory that `path` is or lies in, and its outcome.
    pub(in crate::protocol) fn blocks(&self, path: &RelPath) -> Option<(&RelPath, Outcome)> {
        let (dir, outcome) = self.blocked.as_ref()?;
        (path == dir || is_within(path, dir)).then_some((dir, *outcome))
    }
}

/// Whether `path` lies below `dir`.
fn is_within(path: &RelPath, dir: &RelPath) -> bool {
    path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_ends_no_directory_takes_no_memory() {
        let path = |name: &str| RelPath::new(name.as_bytes()).unwrap();
        let mut dirs = OpenDirs::default();
        for id in 0..1000 {
            dirs.enter(EntryId(id), &path(&format!("d{id}")));
            dirs.was_there(EntryId(id));
        }
        assert_eq!((dirs.walk.len(), dirs.were_there.len()), (1, 1));
        dirs.enter(EntryId(1000), &path("d999/below"));
        assert_eq!(dirs.leave(&path("d1")), None);
        assert_eq!(dirs.leave(&path("d999")), Some(EntryId(999)));
        assert_eq!(dirs.end(EntryId(999)), Some(true));
        assert!(dirs.walk.is_empty() && dirs.were_there.is_empty());
    }
}
