//! The memory leased to a session until its end.

use std::ops::Deref;
use std::sync::Arc;

use super::budget::Budget;
use crate::storage::block::{BlockCount, BlockPool};

/// A part of this process's memory. It returns with the last clone.
#[derive(Clone)]
pub struct Lease {
    budget: Budget,
    blocks: BlockCount,
    _part: Arc<dyn Send + Sync>,
}

impl Lease {
    /// Leases `budget` to a session; `part` is dropped on return. Blocks are counted in `blocks`.
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
