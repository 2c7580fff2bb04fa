//! The state of the removal of extras.

use std::collections::VecDeque;

use crate::protocol::announced::Announced;
use crate::protocol::removal::Extra;
use crate::protocol::request::Delete;

/// How far the removal has come.
#[derive(Debug)]
pub(super) struct Removing {
    pub(super) request: Delete,
    /// Until the manifest has ended.
    pub(super) announced: Announced,
    pub(super) stage: Stage,
    /// What the sender was asked about, and has not answered.
    pub(super) asked: VecDeque<Vec<Extra>>,
    /// The disk is looking for more.
    pub(super) is_finding: bool,
    pub(super) is_swept: bool,
    /// Batches that are being noted.
    pub(super) noting: usize,
    pub(super) approved: u64,
    /// Directories that could not be read.
    pub(super) unread: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Announcing,
    Asking,
    Removing,
    Ended,
}

impl Removing {
    pub(super) fn new(request: Delete, key: [u8; 32], names_max: usize) -> Self {
        let mut announced = Announced::new(key, names_max);
        // It stays, wherever it is.
        request.backup.iter().for_each(|backup| announced.add(backup, false));
        Self {
            request,
            announced,
            stage: Stage::Announcing,
            asked: VecDeque::new(),
            is_finding: false,
            is_swept: false,
            noting: 0,
            approved: 0,
            unread: 0,
        }
    }
}
