//! The memory that a session has until its end.

use std::ops::Deref;
use std::sync::Arc;

use super::budget::Budget;
use crate::storage::block::{BlockCount, BlockPool};

/// A part of the memory of this process. It returns with the last clone.
#[derive(Clone)]
pub struct Lease {
    budget: Budget,
    blocks: BlockCount,
    _part: Arc<dyn Send + Sync>,
}

impl Lease {
    /// Lets a session have `budget`; `part` is dropped when it returns. Its blocks are counted in `blocks`.
    pub fn new(budget: Budget, blocks: BlockCount, part: impl Send + Sync + 'static) -> Self {
        Self { budget, blocks, _part: Arc::new(part) }
    }

    /// A pool of `blocks` blocks.
    pub(super) fn pool(&self, blocks: usize) -> BlockPool {
        BlockPool::new(blocks, self.blocks.clone())
    }
}

impl Deref for Lease {
    type Target = Budget;
    fn deref(&self) -> &Budget {
        &self.budget
    }
}
