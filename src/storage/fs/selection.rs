//! Which of the entries that the walk finds are sent.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::io::Errno;

use super::open::open_file;
use super::read_attributes::Fidelity;
use crate::protocol::path::RelPath;

/// Files with patterns, the weaker one first.
const IGNORE_FILES: [&[u8]; 2] = [b".gitignore", b".towlineignore"];
/// Bytes of one of them.
const IGNORE_FILE_BYTES_MAX: u64 = 1 << 20;

/// What is to be sent of the sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Patterns of what is left out, in the language of `.gitignore`: the last one that matches counts, and `!` takes an
    /// entry in again.
    pub patterns: Vec<String>,
    /// The `.gitignore` and `.towlineignore` of each directory count too.
    pub ignore_files: bool,
    /// Only these paths, relative to the only source, with all that is in them.
    pub only: Option<BTreeSet<RelPath>>,
    /// What is on other file systems is left out.
    pub one_file_system: bool,
    /// Smaller files are left out.
    pub size_min: Option<u64>,
    /// Larger files are left out.
    pub size_max: Option<u64>,
    /// What is in the only source is sent, instead of the source.
    pub contents: bool,
    /// What is kept of each entry beside its permission bits and time.
    pub fidelity: Fidelity,
}

/// Filters whose patterns are understood.
#[derive(Debug, Clone)]
pub struct Selection {
    filters: Filters,
    rules: Gitignore,
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        self.filters == other.filters
    }
}

impl Eq for Selection {}

impl Default for Selection {
    fn default() -> Self {
        Self { filters: Filters::default(), rules: Gitignore::empty() }
    }
}

/// What a list of paths says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// It is sent, with all that is in it.
    Whole,
    /// Something in it is sent.
    Above,
    No,
}

/// The patterns that one directory of the source has for what is in it.
#[derive(Default)]
pub(super) struct IgnoreFiles {
    /// The stronger one first.
    rules: Vec<Gitignore>,
    /// Where the paths begin, relative to the directory.
    start: usize,
}

impl Selection {
    /// Fails, with a sentence, on a pattern that is not valid.
    pub fn new(mut filters: Filters) -> Result<Self, String> {
        let mut rules = GitignoreBuilder::new("");
        for pattern in &filters.patterns {
            let added = rules.add_line(None, pattern).map(drop);
            added.map_err(|error| format!("`{pattern}` is not a valid pattern: {error}"))?;
        }
        let rules =
            rules.build().map_err(|error| format!("the patterns cannot be used together: {error}"))?;
        if let Some(only) = &mut filters.only {
            let all = only.clone();
            only.retain(|path| !ancestors(path).any(|above| all.contains(&above)));
        }
        Ok(Self { filters, rules })
    }

    /// What is in the source is sent, instead of the source.
    pub(super) fn is_of_contents(&self) -> bool {
        self.filters.contents
    }

    pub(super) fn fidelity(&self) -> Fidelity {
        self.filters.fidelity
    }

    pub(super) fn has_ignore_files(&self) -> bool {
        self.filters.ignore_files
    }

    pub(super) fn is_of_one_file_system(&self) -> bool {
        self.filters.one_file_system
    }

    /// The paths of the list, relative to the source.
    pub(super) fn only(&self) -> Option<&BTreeSet<RelPath>> {
        self.filters.only.as_ref()
    }

    /// What the list says of a path, given relative to the source.
    pub(super) fn listed(&self, below: &[u8]) -> Listed {
        let Some(only) = &self.filters.only else { return Listed::Whole };
        let Ok(path) = RelPath::new(below) else { return Listed::No };
        if only.contains(&path) {
            return Listed::Whole;
        }
        let is_below = |listed: &RelPath| {
            listed.as_bytes().strip_prefix(below).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        // No name in it sorts before this one. Names such as `a-b` stand between `a` and `a/b`.
        let first = path.join(b"\x01");
        let is_above = first.is_ok_and(|first| only.range(first..).next().is_some_and(is_below));
        if is_above { Listed::Above } else { Listed::No }
    }

    /// Whether a file of this size is left out.
    pub(super) fn leaves_out_size(&self, size: u64) -> bool {
        self.filters.size_min.is_some_and(|min| size < min)
            || self.filters.size_max.is_some_and(|max| size > max)
    }

    /// Whether a pattern leaves an entry out. `path` has the source's part in its first `start` bytes. `nearest` are the
    /// files with patterns above it, the deepest first; the patterns of the command line are stronger.
    pub(super) fn leaves_out<'a>(
        &self,
        path: &[u8],
        start: usize,
        is_dir: bool,
        nearest: impl Iterator<Item = &'a IgnoreFiles>,
    ) -> bool {
        let in_files = nearest.flat_map(|files| files.rules.iter().map(|rules| (rules, files.start)));
        for (rules, start) in std::iter::once((&self.rules, start)).chain(in_files) {
            let below = path.get(start..).unwrap_or_default();
            match rules.matched(Path::new(OsStr::from_bytes(below)), is_dir) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

impl IgnoreFiles {
    /// Reads those of the directory `dir`, in which paths begin at `start`. A line that is no pattern is passed over, as
    /// git does.
    pub(super) fn read(dir: BorrowedFd<'_>, start: usize) -> io::Result<Self> {
        let mut rules = Vec::new();
        for name in IGNORE_FILES.iter().rev() {
            let file = match open_file(dir, name) {
                Ok(file) => file,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut bytes = Vec::new();
            file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > IGNORE_FILE_BYTES_MAX {
                return Err(io::Error::other(format!(
                    "{} is larger than {IGNORE_FILE_BYTES_MAX} bytes",
                    String::from_utf8_lossy(name)
                )));
            }
            let mut builder = GitignoreBuilder::new("");
            for line in String::from_utf8_lossy(&bytes).lines() {
                let _ = builder.add_line(None, line);
            }
            rules.push(builder.build().map_err(io::Error::other)?);
        }
        Ok(Self { rules, start })
    }
}

/// The directories above a path.
fn ancestors(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(path.parent(), RelPath::parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::disk::rel_path;

    fn selection(patterns: &[&str]) -> Selection {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Selection::new(Filters { patterns, ..Filters::default() }).unwrap()
    }

    #[test]
    fn the_last_pattern_that_matches_counts() {
        let selection = selection(&["*.o", "/build/", "!keep.o", "deep/*/x"]);
        let is_out =
            |path: &str, is_dir| selection.leaves_out(path.as_bytes(), 4, is_dir, std::iter::empty());
        for (path, is_dir, want) in [
            ("top/a.o", false, true),
            ("top/d/a.o", false, true),
            ("top/d/keep.o", false, false),
            ("top/build", true, true),
            ("top/build", false, false),
            ("top/d/build", true, false),
            ("top/deep/er/x", false, true),
            ("top/deep/x", false, false),
            ("top/a.c", false, false),
        ] {
            assert_eq!(is_out(path, is_dir), want, "{path}");
        }
    }

    #[test]
    fn a_pattern_that_is_not_valid_is_an_error() {
        let filters = Filters { patterns: vec!["a{b".to_owned()], ..Filters::default() };
        let error = Selection::new(filters).unwrap_err();
        assert!(error.contains("`a{b` is not a valid pattern"), "{error}");
    }

    #[test]
    fn a_list_takes_its_paths_and_what_is_in_them() {
        let only = ["a/b", "a/b/c", "a-b", "d"].iter().map(rel_path).collect();
        let selection = Selection::new(Filters { only: Some(only), ..Filters::default() }).unwrap();
        assert_eq!(selection.only().unwrap().len(), 3, "`a/b/c` is in `a/b`");
        for (path, want) in [
            ("a", Listed::Above),
            ("a/b", Listed::Whole),
            ("a/c", Listed::No),
            ("a-", Listed::No),
            ("a-b", Listed::Whole),
            ("d", Listed::Whole),
            ("e", Listed::No),
        ] {
            assert_eq!(selection.listed(path.as_bytes()), want, "{path}");
        }
    }
}
