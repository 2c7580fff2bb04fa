//! Memory of a session that has a process to itself.

use crate::node::memory::Memory;
use crate::session::{Budget, Lease};

/// All of `budget`.
pub(crate) fn lease(budget: Budget) -> Lease {
    Memory::new(budget).lease(1).expect("nobody else has any")
}
