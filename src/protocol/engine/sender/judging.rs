//! Which extras at the receiver may be removed.

use std::collections::VecDeque;

use crate::protocol::path::RelPath;
use crate::protocol::removal::Removal;

/// What the sender has asked for, and what is being judged.
#[derive(Debug, Default)]
pub(super) struct Judging {
    /// The receiver was asked to remove extras.
    pub(super) is_asked: bool,
    pub(super) waiting: VecDeque<Vec<(RelPath, bool)>>,
    /// Directories above the last name that hold something that stays.
    holding: Vec<RelPath>,
    pub(super) ended: Option<Removal>,
}

impl Judging {
    /// A directory that holds something that stays has to stay. What is in it came before it.
    pub(super) fn may_go(&mut self, path: &RelPath, is_extra: bool) -> bool {
        self.holding.retain(|dir| dir == path || is_within(path, dir));
        let may_go = is_extra && !self.holding.contains(path);
        if !may_go {
            self.holding.extend(path.parent());
        }
        may_go
    }
}

/// Whether `path` lies below `dir`.
fn is_within(path: &RelPath, dir: &RelPath) -> bool {
    path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'))
}
