//! The memory of this process, shared by its sessions.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::debug;

use crate::protocol::failure::{Failure, Reason};
use crate::session::{Budget, Lease};
use crate::storage::block::BlockCount;

/// The memory budget of all sessions of this process. Cheap to clone.
#[derive(Clone)]
pub struct Memory(Arc<Leases>);

struct Leases {
    whole: Budget,
    free_bytes: Mutex<u64>,
    blocks: BlockCount,
}

/// The memory of a session, returned when dropped.
struct Part {
    bytes: u64,
    leases: Arc<Leases>,
}

impl Memory {
    /// A budget of `whole`, all of it free.
    pub fn new(whole: Budget) -> Self {
        let free_bytes = Mutex::new(whole.memory_bytes());
        Self(Arc::new(Leases { whole, free_bytes, blocks: BlockCount::default() }))
    }

    /// Leases an equal share of the memory, for one of `sessions` sessions.
    ///
    /// # Errors
    ///
    /// Other sessions have all of it.
    pub fn lease(&self, sessions: u32) -> Result<Lease, Failure> {
        let Self(leases) = self;
        let budget = leases.whole.shared_by(sessions);
        let bytes = budget.memory_bytes();
        let mut free_bytes = leases.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *free_bytes = free_bytes.checked_sub(bytes).ok_or_else(|| {
            Failure::new(Reason::Setup, "the memory of this process is in use by its other sessions")
        })?;
        let part = Part { bytes, leases: Arc::clone(leases) };
        Ok(Lease::new(budget, leases.blocks.clone(), part))
    }
}

#[cfg(test)]
impl Memory {
    /// Blocks in use by all sessions.
    pub(super) fn blocks(&self) -> &BlockCount {
        &self.0.blocks
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        *self.leases.free_bytes.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        debug!(blocks_max = self.leases.blocks.max(), "a session returns its memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_for_one_session_and_returns_at_its_end() {
        let memory = Memory::new(Budget::new(64 << 20, None));
        let (first, second) = (memory.lease(2).unwrap(), memory.lease(2).unwrap());
        assert_eq!(first.memory_bytes() + second.memory_bytes(), 64 << 20);
        assert_eq!(memory.lease(2).err().map(|failure| failure.reason), Some(Reason::Setup));
        let copy = first.clone();
        drop(first);
        assert!(memory.lease(2).is_err(), "a clone holds it");
        drop(copy);
        assert!(memory.lease(2).is_ok());
        drop(second);
        assert!(memory.lease(1).is_ok());
    }
}
