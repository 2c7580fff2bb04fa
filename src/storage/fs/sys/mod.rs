//! Calls that only Linux has.

pub(super) mod cache;
pub(super) mod holes;
pub(super) mod open;
pub(super) mod rename;
pub(super) mod sync;
pub(super) mod volume;
