//! Resources that exist once per process: memory, a listener, the peers that it knows, signals, and what the host allows.

pub mod bounds;
pub mod host;
pub mod listener;
pub mod memory;
pub mod path_memory;
pub mod peers;
pub mod places;
mod private_dir;
pub mod processor;
pub mod quota;
pub mod service;
pub mod signals;
pub mod size;
#[cfg(test)]
mod tests;
