//! Calls that only Linux has.

pub(super) mod cache;
#[cfg(not(test))]
pub(super) mod disk;
pub(super) mod handle;
pub(super) mod holes;
pub(super) mod open;
pub(super) mod rename;
#[cfg(test)]
pub(super) mod simulated;
#[cfg(test)]
pub(super) mod simulated_disk;
pub(super) mod sync;
pub(super) mod volume;

#[cfg(test)]
pub(super) use self::simulated as disk;
