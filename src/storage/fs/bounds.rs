//! What a receiver takes in one transfer, beyond what it refuses from everybody.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::fstatvfs;

use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::RelPath;
use crate::protocol::place::Place;
use crate::protocol::wire::entry::{Entry, EntryId, Kind};
use crate::storage::error::OverQuota;

/// Bytes that may be written before the free space is looked up again.
const FREE_LOOKED_UP_BYTES: u64 = 16 << 20;
/// What an entry takes beside its content.
const ENTRY_BYTES: usize = 4096;
/// Maximum files of unknown size in a transfer whose size is bounded.
const OPEN_ENDED_MAX: usize = 1024;

/// Bounds of one transfer. `None` is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Files, directories and links together.
    pub entries_max: Option<u64>,
    /// Bytes of all files together, as they are announced, holes included.
    pub size_max: Option<u64>,
    /// Bytes of one file, as it is announced, holes included.
    pub file_size_max: Option<u64>,
    /// Components of a path.
    pub depth_max: Option<u64>,
    /// Bytes of a component of a path.
    pub name_bytes_max: Option<u64>,
    /// Bytes of a path.
    pub path_bytes_max: Option<u64>,
    /// Bytes of the file system of the target that stay free.
    pub free_min: Option<u64>,
    /// Patterns in the language of `.gitignore`. A file or link must match one, directories need not.
    pub only: Vec<String>,
}

impl Bounds {
    /// The stricter of the two, bound by bound. Patterns of `other`, if there are any, take the place of these.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| [a, b].into_iter().flatten().min();
        Self {
            entries_max: least(self.entries_max, other.entries_max),
            size_max: least(self.size_max, other.size_max),
            file_size_max: least(self.file_size_max, other.file_size_max),
            depth_max: least(self.depth_max, other.depth_max),
            name_bytes_max: least(self.name_bytes_max, other.name_bytes_max),
            path_bytes_max: least(self.path_bytes_max, other.path_bytes_max),
            free_min: self.free_min.max(other.free_min),
            only: if other.only.is_empty() { self.only.clone() } else { other.only.clone() },
        }
    }

    /// The patterns, understood.
    ///
    /// # Errors
    ///
    /// A sentence about a pattern that is not valid.
    pub fn patterns(&self) -> Result<Gitignore, String> {
        let mut rules = GitignoreBuilder::new("");
        for pattern in &self.only {
            let added = rules.add_line(None, pattern).map(drop);
            added.map_err(|error| format!("`{pattern}` is not a valid pattern: {error}"))?;
        }
        rules.build().map_err(|error| format!("the patterns cannot be used together: {error}"))
    }
}

/// The bounds of a transfer, and what it has used of them.
pub(super) struct Bounded {
    bounds: Bounds,
    only: Gitignore,
    used: Mutex<Used>,
    /// The directory that is written to.
    top: Arc<OwnedFd>,
}

/// What a transfer has used.
#[derive(Default)]
struct Used {
    entries: u64,
    /// Announced bytes, and bytes of files of unknown size.
    bytes: u64,
    /// The number after the last entry that was counted.
    next: u64,
    /// Files of unknown size.
    open_ended: HashSet<EntryId>,
    /// Bytes that may be written before the next look at the free space.
    unlooked_bytes: u64,
}

impl Bounded {
    /// Fails on a pattern that is not valid.
    pub(super) fn new(bounds: Bounds, top: Arc<OwnedFd>) -> io::Result<Self> {
        let only = bounds.patterns().map_err(io::Error::other)?;
        Ok(Self { bounds, only, used: Mutex::default(), top })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why an announced entry is not taken, whatever came before it.
    pub(super) fn refuse(&self, entry: &Entry, place: &Place) -> Option<Failure> {
        self.over(entry).map(|over| refusal(place, &over))
    }

    /// Counts an entry that is about to be received, once. Why there is no more room for it.
    pub(super) fn count(&self, id: EntryId, entry: &Entry, place: &Place) -> Option<Failure> {
        let is_counted = {
            let mut used = self.used();
            let is_counted = id.0 < used.next;
            used.next = used.next.max(id.0.saturating_add(1));
            is_counted
        };
        if is_counted || entry.kind == Kind::DirEnd {
            return None;
        }
        let over = self.add(id, entry).or_else(|| self.take(None, ENTRY_BYTES).err().map(|e| e.to_string()));
        over.map(|over| refusal(place, &over))
    }

    fn over(&self, entry: &Entry) -> Option<String> {
        let bounds = &self.bounds;
        let count = |len: usize| len as u64;
        let path = entry.path.as_bytes();
        let name = path.split(|byte| *byte == b'/').map(<[u8]>::len).max().unwrap_or(0);
        let depth = path.split(|byte| *byte == b'/').count();
        for (max, has, what, unit) in [
            (bounds.depth_max, count(depth), "its path has", "components"),
            (bounds.name_bytes_max, count(name), "a name in its path has", "bytes"),
            (bounds.path_bytes_max, count(path.len()), "its path has", "bytes"),
            (bounds.file_size_max, entry.size(), "it has", "bytes"),
        ] {
            if let Some(max) = max.filter(|max| has > *max) {
                return Some(format!("{what} {has} {unit}, and the limit here is {max}"));
            }
        }
        if entry.kind == Kind::OpenEnded
            && let Some(max) = bounds.file_size_max
        {
            return Some(format!("its size is not known in advance, and the limit here is {max}"));
        }
        let is_wanted = self.is_wanted(&entry.path, &entry.kind);
        (!is_wanted).then(|| "its name matches none of the patterns that are taken here".to_owned())
    }

    fn is_wanted(&self, path: &RelPath, kind: &Kind) -> bool {
        if self.only.is_empty() || matches!(kind, Kind::Dir | Kind::DirEnd) {
            return true;
        }
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        match self.only.matched(path, false) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            // Only patterns that are about directories take in what is below them.
            Match::None => path.ancestors().skip(1).any(|above| {
                !above.as_os_str().is_empty()
                    && matches!(self.only.matched(above, true), Match::Ignore(glob) if glob.is_only_dir())
            }),
        }
    }

    /// Adds to what is used; what does not fit is not added.
    fn add(&self, id: EntryId, entry: &Entry) -> Option<String> {
        let mut used = self.used();
        let entries = used.entries.saturating_add(1);
        if let Some(max) = self.bounds.entries_max.filter(|max| entries > *max) {
            return Some(format!("it is entry {entries} of the transfer, and the limit here is {max}"));
        }
        if let Some(max) = self.bounds.size_max {
            let (size, before) = (entry.size(), used.bytes);
            used.bytes = match before.checked_add(size).filter(|sum| *sum <= max) {
                Some(sum) => sum,
                None => {
                    return Some(format!(
                        "it has {size} bytes, {before} of this transfer came before it, and the limit here is {max}"
                    ));
                }
            };
            if entry.kind == Kind::OpenEnded {
                if used.open_ended.len() >= OPEN_ENDED_MAX {
                    return Some("too many files of unknown size came".to_owned());
                }
                used.open_ended.insert(id);
            }
        }
        used.entries = entries;
        None
    }

    /// Counts `bytes` that will be written, to a file of this number if it is known.
    ///
    /// # Errors
    ///
    /// Less would stay free than must, or a file of unknown size is too large.
    pub(super) fn take(&self, id: Option<EntryId>, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let over = |why| Err(io::Error::other(OverQuota(why)));
        let mut used = self.used();
        if let Some(max) = self.bounds.size_max
            && id.is_some_and(|id| used.open_ended.contains(&id))
        {
            used.bytes = used.bytes.saturating_add(bytes);
            if used.bytes > max {
                return over(format!("{} bytes came, and the limit here is {max}", used.bytes));
            }
        }
        let Some(min) = self.bounds.free_min else { return Ok(()) };
        if used.unlooked_bytes < bytes {
            let found = fstatvfs(&self.top)?;
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            used.unlooked_bytes = free.saturating_sub(min).min(FREE_LOOKED_UP_BYTES.max(bytes));
            if used.unlooked_bytes < bytes {
                return over(format!("{free} bytes are free, and {min} are to stay free"));
            }
        }
        used.unlooked_bytes -= bytes;
        Ok(())
    }
}

fn refusal(place: &Place, over: &str) -> Failure {
    let sentence = |path: &str| format!("{path} is not taken: {over}");
    Failure::about(Side::Receiver, Reason::Refused, place, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::entry::Meta;
    use crate::testing::disk::rel_path;

    fn bounded(bounds: Bounds) -> Bounded {
        let top = std::fs::File::open(std::env::temp_dir()).unwrap();
        Bounded::new(bounds, Arc::new(top.into())).unwrap()
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: rel_path(path), meta: Meta { mode: 0o644, ..Meta::default() }, kind, hole_bytes: 0 }
    }

    fn file(path: &str, size: u64) -> Entry {
        entry(path, Kind::File { size })
    }

    /// What is said of the next entry.
    fn said(bounded: &Bounded, entry: &Entry) -> Option<String> {
        let (place, id) = (Place::below("/there", &entry.path), EntryId(bounded.used().next));
        let failure = bounded.refuse(entry, &place).or_else(|| bounded.count(id, entry, &place))?;
        assert_eq!((failure.reason, failure.reason.exit_code()), (Reason::Refused, 5));
        Some(failure.message)
    }

    #[test]
    fn each_bound_is_kept_and_what_is_at_it_comes_in() {
        let with = |set: fn(&mut Bounds)| {
            let mut bounds = Bounds::default();
            set(&mut bounds);
            bounded(bounds)
        };
        for (bounded, taken, refused, why) in [
            (with(|b| b.depth_max = Some(2)), file("a/b", 1), file("a/b/c", 1), "3 components"),
            (with(|b| b.name_bytes_max = Some(3)), file("abc/d", 1), file("abcd/e", 1), "has 4 bytes"),
            (with(|b| b.path_bytes_max = Some(3)), file("a/b", 1), file("a/bc", 1), "has 4 bytes"),
            (with(|b| b.file_size_max = Some(9)), file("a", 9), file("b", 10), "has 10 bytes"),
            (with(|b| b.entries_max = Some(1)), file("a", 9), file("b", 0), "entry 2 of"),
            (with(|b| b.size_max = Some(9)), file("a", 8), file("b", 2), "8 of this transfer"),
            (with(|b| b.only = vec!["*.tar".into()]), file("d/a.tar", 1), file("tar", 1), "matches none"),
        ] {
            assert_eq!(said(&bounded, &taken), None);
            let message = said(&bounded, &refused).unwrap();
            assert!(message.starts_with("/there/") && message.contains(why), "{message}");
        }
    }

    #[test]
    fn what_is_refused_does_not_use_up_the_size_and_ends_of_directories_do_not_count() {
        let sized = bounded(Bounds { size_max: Some(9), ..Bounds::default() });
        assert!(said(&sized, &file("a", u64::MAX)).is_some());
        assert_eq!(said(&sized, &file("b", 9)), None);
        let counted = bounded(Bounds { entries_max: Some(1), ..Bounds::default() });
        assert_eq!(said(&counted, &entry("d", Kind::Dir)), None);
        assert_eq!(said(&counted, &entry("d", Kind::DirEnd)), None);
    }

    #[test]
    fn a_file_of_unknown_size_is_bounded_as_it_comes() {
        let sized = bounded(Bounds { size_max: Some(9), ..Bounds::default() });
        assert_eq!(said(&sized, &file("sized", 5)), None);
        assert_eq!(said(&sized, &entry("a", Kind::OpenEnded)), None);
        // A chunk of the other file that is sent again.
        sized.take(Some(EntryId(0)), 100).unwrap();
        sized.take(Some(EntryId(1)), 4).unwrap();
        let error = sized.take(Some(EntryId(1)), 1).unwrap_err();
        assert_eq!(error.to_string(), "10 bytes came, and the limit here is 9");
        let sized = bounded(Bounds { file_size_max: Some(9), ..Bounds::default() });
        assert!(said(&sized, &entry("a", Kind::OpenEnded)).is_some());
    }

    #[test]
    fn an_entry_that_is_looked_at_again_counts_once() {
        let counted = bounded(Bounds { entries_max: Some(1), size_max: Some(5), ..Bounds::default() });
        let (entry, place) = (file("a", 5), Place::target_directory("/there"));
        for _ in 0..2 {
            assert!(counted.count(EntryId(3), &entry, &place).is_none());
        }
        assert!(counted.count(EntryId(4), &entry, &place).is_some());
    }

    #[test]
    fn patterns_are_about_files_and_links() {
        let bounded = bounded(Bounds { only: vec!["*.jpg".into(), "raw/".into()], ..Bounds::default() });
        let link = Kind::Symlink { target: bytes::Bytes::from_static(b"x") };
        assert_eq!(said(&bounded, &entry("any", Kind::Dir)), None);
        assert_eq!(said(&bounded, &file("any/a.jpg", 1)), None);
        assert_eq!(said(&bounded, &file("raw/b", 1)), None);
        assert!(said(&bounded, &entry("a.png", link)).is_some());
        assert!(
            said(&bounded, &file("a.jpg/evil.sh", 1)).is_some(),
            "a directory of this name lets nothing in"
        );
        assert!(Bounds { only: vec!["a{b".into()], ..Bounds::default() }.patterns().is_err());
    }

    #[test]
    fn space_stays_free() {
        let plenty = bounded(Bounds { free_min: Some(1), ..Bounds::default() });
        for _ in 0..100 {
            plenty.take(None, 1 << 20).unwrap();
        }
        let none = bounded(Bounds { free_min: Some(u64::MAX), ..Bounds::default() });
        let error = none.take(None, 1).unwrap_err();
        assert!(error.to_string().contains("are to stay free"), "{error}");
        let message = said(&none, &entry("d", Kind::Dir)).unwrap();
        assert!(message.contains("are to stay free"), "very many directories fill a disk too: {message}");
    }

    #[test]
    fn the_stricter_bound_counts() {
        let own =
            Bounds { entries_max: Some(5), free_min: Some(7), only: vec!["a".into()], ..Bounds::default() };
        let peer = Bounds { entries_max: Some(9), size_max: Some(3), free_min: Some(8), ..Bounds::default() };
        let both = own.with(&peer);
        assert_eq!((both.entries_max, both.size_max, both.free_min), (Some(5), Some(3), Some(8)));
        assert_eq!(both.only, ["a"]);
    }
}
